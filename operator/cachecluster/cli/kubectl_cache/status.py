"""``status``: the picture of one cluster, or a line for each of a namespace."""

from collections.abc import Mapping

from cachecluster.cli.kubectl_cache.picture import overview, picture, summary
from cachecluster.cli.kubectl_cache.session import Session
from cachecluster.domain.snapshot import Pod
from cachecluster.kube.api import Rejected
from cachecluster.reconcile.pods import parse_pod


async def status(session: Session, name: str | None) -> int:
    """Show one cluster, or all of the namespace."""
    if name is None:
        bodies = sorted(await session.clusters(), key=lambda body: str(body["metadata"]["name"]))
        nothing = [f"no CacheCluster in namespace {session.namespace}"]
        lines = overview(bodies, session.screen.palette) if bodies else nothing
        session.screen.answer([summary(body) for body in bodies], lines)
        return 0
    body = await session.cluster(name)
    lines = picture(body, await _pods(session, name), session.now(), session.screen.palette)
    session.screen.answer(summary(body), lines)
    return 0


async def _pods(session: Session, name: str) -> Mapping[str, Pod] | None:
    """Pods by name; None for somebody who may see clusters but no pods."""
    try:
        raw = await session.children("v1", "Pod", name)
    except Rejected:
        return None
    return {pod.name: pod for pod in map(parse_pod, raw) if pod is not None}
