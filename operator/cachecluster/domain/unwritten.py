"""Nodes that cannot write to their volumes, and logs that may have a gap since (docs/durability.md)."""

from collections.abc import Iterator, Sequence
from typing import Final

from cachecluster.api.spec import CacheClusterSpec, PersistenceMode
from cachecluster.api.status import LogGap
from cachecluster.domain.nodes import NodeView, Unwritten
from cachecluster.domain.snapshot import InvalidSpec, Snapshot
from cachecluster.domain.topology import Member, Topology

STOP_WRITES: Final = "stop-writes-on-bgsave-error"


def unwritten(snap: Snapshot, topology: Topology) -> Sequence[Member]:
    """Members whose volume has not taken what it was to keep when they last tried."""
    return [m for m in topology.members if m.node is not None and _fails(m.node, snap.spec)]


def refuses(member: Member, spec: CacheClusterSpec | InvalidSpec) -> bool:
    """Whether it is a primary that answers writes with MISCONF for that (valkey.conf, ``stop-writes-on-bgsave-error``;
    a log that cannot be written always has this effect).
    """
    return (
        member.node is not None
        and member.node.leads
        and _fails(member.node, spec)
        and (member.node.unwritten is Unwritten.LOG or _stops(spec))
    )


def explanation(member: Member, spec: CacheClusterSpec | InvalidSpec) -> str:
    """What is wrong and what helps, for people."""
    name = member.pod.name
    log = member.node is not None and member.node.unwritten is Unwritten.LOG
    what = f"{name} cannot write {'its log' if log else 'a snapshot'} to its volume"
    if refuses(member, spec):
        what += " and refuses writes (MISCONF); reads go on"
    return (
        f"{what}. It goes on by itself once the volume takes it: if it is full, raise persistence.size; until then a "
        f"replica whose volume is well may lead (kubectl cache failover). kubectl logs {name} has the engine's words"
    )


def log_gaps(snap: Snapshot, topology: Topology) -> list[LogGap]:
    """Logs that a write did not fit into and that have not been rewritten since, as the status is to remember them."""
    told = (LogGap.read(written) for written in snap.status.get("logGaps", ()))
    before = {gap.pod: gap for gap in told if gap is not None}
    found = (_gap(m, before.get(m.pod.name)) for m in topology.members)
    return [gap for gap in found if gap is not None]


def gaps_now(snap: Snapshot, topology: Topology) -> Iterator[tuple[Member, NodeView, LogGap]]:
    """Of these, the ones of nodes that answer and can write again."""
    gaps = {gap.pod: gap for gap in log_gaps(snap, topology)}
    for member in topology.members:
        gap = gaps.get(member.pod.name)
        if gap is not None and member.node is not None and member.node.unwritten is None:
            yield member, member.node, gap


def _fails(node: NodeView, spec: CacheClusterSpec | InvalidSpec) -> bool:
    match node.unwritten:
        case Unwritten.LOG:
            return True
        case Unwritten.SNAPSHOT:  # nobody counts on one in the other modes
            return not isinstance(spec, InvalidSpec) and spec.persistence_mode is PersistenceMode.SNAPSHOT
        case None:
            return False


def _stops(spec: CacheClusterSpec | InvalidSpec) -> bool:
    given = None if isinstance(spec, InvalidSpec) else (spec.parameters or {}).get(STOP_WRITES)
    return given is None or str(given) != "no"


def _gap(member: Member, before: LogGap | None) -> LogGap | None:
    """A process that has started since has read its log, or put it aside; one that cannot be asked may have neither."""
    node = member.node
    if node is None:
        return before
    if node.unwritten is Unwritten.LOG:
        return LogGap(pod=member.pod.name, process=node.run_id, rewrites=node.rewrites.begun)
    if before is None or before.process != node.run_id:
        return None
    rewritten = node.rewrites.begun > before.rewrites and not node.rewrites.running and not node.rewrites.failed
    return None if rewritten else before
