"""Which replica has a lost primary's data, and may lead in its place (S10)."""

from collections.abc import Callable

from cachecluster.domain.loss import QUIET_SECONDS, newest
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.topology import Member, Shard, Topology


def best_heir(topology: Topology, shard: Shard, lost: NodeId, may_lead: Callable[[NodeView], bool]) -> Member | None:
    """The replica that completed a sync with ``lost``, has what the others of the shard have, may lead as
    ``may_lead`` judges by the end of its link, and has the highest offset.
    """
    latest = {v.node_id for v in newest(copies_of(topology, shard, lost))}
    candidates = [
        m
        for m in shard.replicas
        if m.usable
        and m.node is not None
        and m.node.node_id in latest
        and may_lead(m.node)
        and knows_newest(topology, m.node, lost)
    ]
    histories = {m.node.replication_id for m in candidates if m.node is not None}
    if len(histories) > 1:  # offsets of different histories say nothing about each other
        return None
    return max(candidates, key=lambda m: (m.node.offset if m.node else 0, -m.pod.ordinal), default=None)


def copies_of(topology: Topology, shard: Shard, lost: NodeId) -> list[NodeView]:
    """The shard's replicas that have its data by way of ``lost``."""
    followers = [m.node for m in shard.replicas if m.node is not None and m.node.myself.primary_id == lost]
    return [v for v in followers if not has_strayed(topology, shard, v)]


def strangers(shard: Shard, heir: NodeId, lost: NodeId) -> list[Member]:
    """Other replicas of the lost primary that have asked the heir in vain: they would not follow it, and would go on
    reporting to the old primary, should that come back.
    """
    siblings = [m for m in shard.replicas if m.node is not None and m.node.myself.primary_id == lost]
    return [m for m in siblings if m.target.node_id != heir and m.node is not None and not _hears(m.node, heir)]


def _hears(view: NodeView, other: NodeId) -> bool:
    row = view.peer(other)
    if row is None or row.suspected or row.pong_age is None:
        return False
    return not row.asked or row.pong_age < QUIET_SECONDS


def has_strayed(topology: Topology, shard: Shard, replica: NodeView) -> bool:
    """It has another shard's data: it looked for its primary at an address that somebody else had by then.

    Replication asks for a password, not for a node id; when all pods go at once they may trade addresses.
    """
    others = (m.node for s in topology.shards if s is not shard for m in s.members if m.node is not None)
    return any(replica.replication_id in (o.replication_id, o.previous_replication_id) for o in others)


def knows_newest(topology: Topology, view: NodeView, lost: NodeId) -> bool:
    """A replica with an old view of its primary's slots would steal slots that have moved since."""
    row = view.peer(lost)
    if row is None:
        return False
    return row.config_epoch == topology.epochs.get(lost) and row.slots == topology.owners.get(lost, NO_SLOTS)
