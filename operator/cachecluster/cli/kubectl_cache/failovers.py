"""``failovers``: which primaries were lost lately, who took their places, and how long each step of that took."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from cachecluster.api.reasons import Promoter
from cachecluster.cli.kubectl_cache.body import status_of
from cachecluster.cli.kubectl_cache.screen import Palette, span, table
from cachecluster.cli.kubectl_cache.session import Session

Body = Mapping[str, Any]
Told = Mapping[str, Any]

_STEPS: Final = ("seen", "confirmed", "promoted", "writable")
"""In their order; each has its time in the field of that name with ``At`` behind it."""
_WHO: Final = {Promoter.OPERATOR.value: "by the operator", Promoter.NODES.value: "by the nodes themselves"}


async def failovers(session: Session, name: str | None) -> int:
    """Show the failovers of one cluster, or of all of the namespace."""
    palette, now = session.screen.palette, session.now()
    if name is not None:
        body = await session.cluster(name)
        session.screen.answer(document(body), history(body, now, palette))
        return 0
    bodies = sorted(await session.clusters(), key=lambda body: str(body["metadata"]["name"]))
    lines = [line for body in bodies for line in ("", *history(body, now, palette))][1:]
    nothing = [f"no CacheCluster in namespace {session.namespace}"]
    session.screen.answer([document(body) for body in bodies], lines or nothing)
    return 0


def document(body: Body) -> dict[str, Any]:
    """For programs: what the status has."""
    metadata = body["metadata"]
    return {"namespace": metadata["namespace"], "name": metadata["name"], "failovers": _told(body)}


def history(body: Body, now: float, palette: Palette) -> list[str]:
    """For people: each failover with its steps, newest first; ``now`` in Unix seconds."""
    told, metadata = _told(body), body["metadata"]
    head = f"{palette.strong(metadata['name'])} in {metadata['namespace']}"
    if not told:
        return [f"{head}: no failover is known"]
    count = "1 failover" if len(told) == 1 else f"{len(told)} failovers, newest first"
    return [f"{head}: {count}", *(line for failover in told for line in ("", *_story(failover, now, palette)))]


def _told(body: Body) -> list[Told]:
    return list(status_of(body).get("failovers") or ())


def _story(failover: Told, now: float, palette: Palette) -> Iterator[str]:
    ago = span(now - _seconds(failover["time"]))
    former = failover.get("from") or "a lost primary"
    lasted = failover.get("writeUnavailableMilliseconds")
    gap = f", {palette.bad(f'no writes for {lasted} ms')}" if lasted is not None else ""
    yield f"{palette.strong(failover['shard'])}: {failover['to']} took the place of {former} {ago} ago{gap}"
    yield f"  {failover['cause']}: {failover['message']}"
    yield from (f"  {line}" for line in table(list(_steps(failover))))


def _steps(failover: Told) -> Iterator[tuple[str, str, str, str]]:
    """A row for each step: its name, when it was, how long after the one before, and by whom."""
    before: str | None = None
    for step in _STEPS:
        moment = failover.get(f"{step}At")
        took = f"+{_milliseconds(before, moment)} ms" if before and moment else ""
        who = _WHO.get(failover.get("promotedBy", ""), "") if step == "promoted" else ""
        yield step, moment or "not known", took, who
        before = moment or before


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _milliseconds(start: str, end: str) -> int:
    return round(1000 * (_seconds(end) - _seconds(start)))
