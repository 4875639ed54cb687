"""``plan``: what the operator would do now and why, found by its own code, and not done."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from cachecluster.cli.kubectl_cache.screen import table
from cachecluster.cli.kubectl_cache.session import Problem, Session
from cachecluster.domain.nodes import Unreachable
from cachecluster.domain.plan import Plan
from cachecluster.domain.planner import plan as make_plan
from cachecluster.domain.snapshot import ClusterRef, Snapshot
from cachecluster.engines.client import NodeConnector
from cachecluster.kube.api import Rejected
from cachecluster.reconcile.dependencies import Memory, Senses
from cachecluster.reconcile.gather import Gone, gather
from cachecluster.reconcile.hosts import HostCache

_DEPLOYMENT: Final = "cachecluster-operator"
"""As the chart names it, unless the release is called otherwise."""
_SHOWN: Final = 3
"""Silent nodes that are named."""


async def plan(session: Session, name: str, nodes: NodeConnector) -> int:
    """Gather and plan as one pass of the operator does. Nothing is written, not even to a node."""
    body = await session.cluster(name)
    ref = ClusterRef(session.namespace, name, body["metadata"]["uid"])
    try:
        hosts = HostCache()
        hosts.replace(await session.kube.list("v1", "Node", None))
        # Who does not lead ends nobody's connections, and nothing but gather is given a chance to act.
        senses = Senses(
            session.kube, nodes, hosts.hosts, session.now, session.operator_namespace, lambda: False, time.monotonic
        )
        snap = (await gather(ref, senses, Memory())).snapshot
    except Gone:
        raise Problem(f"{name} is being deleted: the operator takes it apart and plans nothing else") from None
    except Rejected as error:
        instead = "" if session.in_cluster else f". Run it in the operator's pod: {_in_its_pod(ref, session)}"
        raise Problem(f"a plan takes the right to read Secrets and Nodes: {error}{instead}") from error
    found = make_plan(snap)
    session.screen.answer(as_document(snap, found), explain(snap, found, session))
    return 0


def _in_its_pod(ref: ClusterRef, session: Session) -> str:
    """The same command where the nodes can be reached, with the operator's rights."""
    where = f"kubectl exec -n {session.operator_namespace} deploy/{_DEPLOYMENT}"
    return f"{where} -- kubectl-cache plan -n {ref.namespace} {ref.name}"


def _silent(snap: Snapshot) -> Mapping[str, str]:
    """Nodes that did not answer, with the reason."""
    return {pod: view.why for pod, view in sorted(snap.views.items()) if isinstance(view, Unreachable)}


def as_document(snap: Snapshot, found: Plan) -> dict[str, Any]:
    """For programs. Of an action only its name: some carry Secrets (S12)."""
    return {
        "namespace": snap.ref.namespace,
        "name": snap.ref.name,
        "generation": snap.generation,
        "nodes": len(snap.pods),
        "unreachable": dict(_silent(snap)),
        "steps": [
            {
                "action": type(step.action).__name__,
                "disruptive": step.action.disruptive,
                "reason": step.reason.value,
                "message": step.message,
            }
            for step in found.steps
        ],
        "waits": [
            {"reason": wait.reason.value, "message": wait.message, "seconds": wait.seconds} for wait in found.waits
        ],
        "blocks": [{"reason": block.reason.value, "message": block.message} for block in found.blocks],
    }


def explain(snap: Snapshot, found: Plan, session: Session) -> Iterator[str]:
    """For people."""
    palette = session.screen.palette
    yield f"{palette.strong(snap.ref.name)} in {snap.ref.namespace}: what the operator would do now; nothing is done"
    yield from _reach(snap, session)
    if found.converged:
        yield palette.good("Nothing: the cluster is as its spec wants it.")
    yield from _section("Would do, in this order, and then look again:", _steps(found), palette.busy)
    yield from _section("Waits:", [(w.reason, w.message) for w in found.waits], palette.busy)
    yield from _section("Held back:", [(b.reason, b.message) for b in found.blocks], palette.bad)


def _reach(snap: Snapshot, session: Session) -> Iterator[str]:
    """How much of the cluster this plan is built on."""
    silent = _silent(snap)
    if not silent:
        yield f"{len(snap.views)} of {len(snap.pods)} nodes answer"
        return
    shown = [f"{pod} ({why})" for pod, why in list(silent.items())[:_SHOWN]]
    more = [f"{len(silent) - _SHOWN} more"] if len(silent) > _SHOWN else []
    who = ", ".join([*shown, *more])
    yield session.screen.palette.bad(f"{len(silent)} of {len(snap.pods)} nodes cannot be reached from here: {who}")
    if not session.in_cluster:
        yield "The operator, which reaches more, may decide otherwise. To see what it sees, run this in its pod:"
        yield f"  {_in_its_pod(snap.ref, session)}"


def _steps(found: Plan) -> list[tuple[str, str, str]]:
    return [(type(step.action).__name__, step.reason, step.message) for step in found.steps]


def _section(title: str, rows: Sequence[Sequence[str]], mark: Callable[[str], str]) -> Iterator[str]:
    if rows:
        yield ""
        yield mark(title)
        yield from (f"  {line}" for line in table(rows))
