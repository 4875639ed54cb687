"""Raising and lowering the fence of a primary. What is written down of it is never more than what is true."""

import asyncio
from typing import Final

from cachecluster.api import names
from cachecluster.domain import fence
from cachecluster.domain.actions import LowerFence, RaiseFence, Target
from cachecluster.domain.nodes import Role
from cachecluster.engines.client import NodeRefused
from cachecluster.kube.api import Conflict
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.node_actions import ACTION_SECONDS

ATTEMPTS: Final = 3


async def raise_fence(action: RaiseFence, context: Context) -> None:
    """CONFIG SET between two notes: of a predecessor that was frozen in between, the second one comes too late, for
    whoever has lowered the fence meanwhile has crossed out the first one.
    """
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        view = await client.view(fence.ASKED)
        if view.role is not Role.PRIMARY or view.replication_id != action.history:
            raise Doubt(f"{action.node.pod} is not the primary any more that it was")
        if not fence.is_heard(view):
            raise Doubt(f"no replica reports to {action.node.pod} any more")
        version = await _note_after(action.known, action.node, fence.intention(action.record), context)
        context.require_leadership()
        await client.configure(fence.RAISED)
        view = await client.view(fence.ASKED)
        if not fence.is_raised(view):
            raise NodeRefused(f"{action.node.ip}: it takes {fence.RAISED} and shows another value")
        if view.role is not Role.PRIMARY or view.replication_id != action.history:
            raise Doubt(f"{action.node.pod} is not the primary any more that it was")
        context.require_leadership()
        try:
            await _note(action.node, action.record, context, version)
        except Conflict as e:
            raise Doubt(f"somebody has written on {action.node.pod} meanwhile") from e


async def lower_fence(action: LowerFence, context: Context) -> None:
    """First the note, then the node: whatever happens in between, nobody trusts a fence that is down."""
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        await _note_after(action.known, action.node, None, context)
        if action.parameters:
            context.require_leadership()
            await client.configure(action.parameters)


async def _note_after(known: str, node: Target, text: str | None, context: Context) -> str | None:
    """Unless another has been told to lead in its place since; raises Doubt."""
    for _ in range(ATTEMPTS):
        pod = await context.deps.kube.get("v1", "Pod", context.ref.namespace, node.pod)
        found = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_FENCE, "")
        if found != known and fence.is_replaced(found):
            raise Doubt(f"another has been told to lead in place of {node.pod} meanwhile")
        try:
            return await _note(node, text, context, pod["metadata"].get("resourceVersion"))
        except Conflict:
            continue  # the kubelet writes there, too
    raise Doubt(f"others keep writing on {node.pod}")


async def _note(node: Target, text: str | None, context: Context, version: str | None = None) -> str | None:
    """Write on the pod, by its uid, and if asked only on the version that was read; the version that it has now."""
    meta = {"uid": node.uid, "annotations": {names.ANNOTATION_FENCE: text}}
    patch = {"metadata": meta if version is None else {**meta, "resourceVersion": version}}
    body = await context.deps.kube.merge_patch("v1", "Pod", context.ref.namespace, node.pod, patch)
    found: str | None = body["metadata"].get("resourceVersion")
    return found
