"""What is looked at once more before a pod on a lost Kubernetes node is given up (S1, S3)."""

import asyncio
from typing import Any, Final

from cachecluster.domain.actions import FreePod, Target
from cachecluster.domain.lost_hosts import hears
from cachecluster.engines.client import NobodyListens, NodeError, NodeUnreachable
from cachecluster.kube.api import NotFound
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.hosts import is_out_of_service, is_ready

LAST_LOOK_SECONDS: Final = 2.0


async def free_pod(action: FreePod, context: Context) -> None:
    """Delete the pod without any grace, which would be for its kubelet; raises Doubt if anything has changed."""
    body = await _pod(action, context)
    checks = [_check_host(action, context), _check_says_nothing(action, context)]
    if action.keeper is not None:
        checks.append(_check_is_kept(action.keeper, action, context))
    await asyncio.gather(*checks)
    await context.delete_pod(body, grace_seconds=0)


async def _pod(action: FreePod, context: Context) -> dict[str, Any]:
    try:
        body = await context.deps.kube.get("v1", "Pod", context.ref.namespace, action.pod)
    except NotFound as e:
        raise Doubt(f"{action.pod} is gone") from e
    if body["metadata"]["uid"] != action.uid or body["spec"].get("nodeName") != action.host:
        raise Doubt(f"{action.pod} is another pod by now")
    return body


async def _check_host(action: FreePod, context: Context) -> None:
    """Raises Doubt if the Kubernetes node is back, whatever the watch has said of it."""
    try:
        found = await context.deps.kube.get("v1", "Node", "", action.host)
    except NotFound:
        return
    if is_out_of_service(found):
        return
    if action.on_word:
        raise Doubt(f"Kubernetes node {action.host} is there")
    if is_ready(found):
        raise Doubt(f"Kubernetes node {action.host} reports again")


async def _check_says_nothing(action: FreePod, context: Context) -> None:
    """Raises Doubt if anything comes from the pod's address, be it a refusal."""
    if action.ip is None:
        return
    if context.passwords is None:
        raise Doubt("the cluster's passwords are not there")
    nodes = context.deps.nodes
    try:
        async with asyncio.timeout(LAST_LOOK_SECONDS), nodes.connect(action.ip, context.passwords.operator) as node:
            await node.node_id()
    except NobodyListens as e:
        raise Doubt(f"the machine of {action.pod} answers again") from e
    except (NodeUnreachable, TimeoutError):
        return
    except NodeError as e:
        raise Doubt(f"{action.pod} answers again: {e}") from e
    raise Doubt(f"{action.pod} answers again")


async def _check_is_kept(keeper: Target, action: FreePod, context: Context) -> None:
    """Raises Doubt if the node that serves in its place does so no more, or hears of it again."""
    async with asyncio.timeout(LAST_LOOK_SECONDS), context.node(keeper, stays=True) as client:
        view = await client.view()
    if not (view.leads and view.myself.slots and view.cluster_state_ok):
        raise Doubt(f"{keeper.pod} does not serve any more")
    if any(hears(row) for row in view.peers if row.ip == action.ip):
        raise Doubt(f"{keeper.pod} has heard of {action.pod} again")
