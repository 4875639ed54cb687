"""Who is to lead a shard that has no primary and nothing to lose: an empty member, so that zones are evened out."""

from collections.abc import Mapping
from typing import Final

from cachecluster.domain.nodes import NodeId
from cachecluster.domain.placement import choose_primaries
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.topology import Member, Shard, Topology

PATIENCE_SECONDS: Final = 20.0
"""How long formation waits for a shard's slower members, to be free in the choice of its primary."""


def choose_leaders(snap: Snapshot, topology: Topology, settled: Mapping[str, NodeId]) -> dict[int, Member]:
    """The member of each shard without a primary that should become it, with zones evened out (design §5).

    ``settled`` names, by shard, nodes that have been chosen before and are still preferred. Shards whose members do not
    answer yet have a say by the zones that those were scheduled to: who comes first must not take all of one zone.
    """
    shards = topology.shards
    options = [_preferred(_options(snap, shard), settled.get(shard.name)) for shard in shards]
    later = [[m.zone for m in s.members if m.zone is not None] for s in shards]
    zones = [[m.zone for m in members] or later[i] for i, members in enumerate(options)]
    fixed = {i: s.head.zone for i, s in enumerate(shards) if s.head is not None}
    picks = choose_primaries(zones, fixed)
    return {shards[i].index: options[i][pick] for i, pick in picks.items() if options[i]}


def _preferred(options: list[Member], chosen: NodeId | None) -> list[Member]:
    return [m for m in options if m.target.node_id == chosen] or options


def _options(snap: Snapshot, shard: Shard) -> list[Member]:
    """Members that could lead: blank ones, once all answer or we have waited long enough for the rest."""
    answering = [m for m in shard.members if m.usable and m.node is not None and m.node.blank]
    if not answering or len(answering) == shard.expected or shard.void:
        return answering
    waited = snap.now - min(m.pod.created_at for m in answering)
    return answering if waited > PATIENCE_SECONDS else []
