"""``watch``: how far a cluster is on its way, until it has arrived."""

from cachecluster.cli.kubectl_cache.progress import Progress, measure
from cachecluster.cli.kubectl_cache.screen import span
from cachecluster.cli.kubectl_cache.session import LOOK_SECONDS, Problem, Session
from cachecluster.kube.api import Throttled, Unavailable


async def watch(session: Session, name: str, *, forever: bool, seconds: float | None) -> int:
    """Follow a cluster until it is ready with nothing left to do; raises Problem after ``seconds``."""
    began, seen = session.now(), await _look(session, name)
    while True:
        session.screen.progress(seen.line(), seen.document())
        spent = session.now() - began
        if seen.settled and not forever:
            session.screen.conclude(f"{name} has arrived after {span(spent)}. {seen.headline}")
            return 0
        if seconds is not None and spent >= seconds:
            raise Problem(f"{name} has not arrived within {seconds:.0f} s. {seen.headline}")
        await session.sleep(LOOK_SECONDS)
        try:
            seen = await _look(session, name)
        except (Unavailable, Throttled) as error:
            session.screen.progress(f"waiting for the API server: {error}")


async def _look(session: Session, name: str) -> Progress:
    body = await session.cluster(name)
    sets = await session.children("apps/v1", "StatefulSet", name)
    return measure(body, sets, await session.children("v1", "Pod", name))
