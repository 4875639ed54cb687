"""Shards that refuse writes for want of a replica, and why."""

from collections.abc import Sequence

from cachecluster.api.spec import CacheClusterSpec, DurabilityMode
from cachecluster.domain import fence
from cachecluster.domain.listing import listed
from cachecluster.domain.snapshot import InvalidSpec
from cachecluster.domain.syncing import is_catching_up
from cachecluster.domain.topology import Member, Shard, Topology, weakness


def refusing(topology: Topology) -> Sequence[Shard]:
    """Shards that serve slots and refuse to write to them because no replica keeps up with their primary."""
    return [s for s in topology.shards if s.primary is not None and s.refuses_writes]


def is_passing(shard: Shard) -> bool:
    """Some other member is about to follow: what every change of the primary brings for a moment."""
    return any(m.usable and not is_catching_up(m.node) for m in shard.members if m is not shard.primary)


def refusal(shard: Shard, spec: CacheClusterSpec | InvalidSpec) -> str:
    """Why a shard refuses writes and what ends that, for people."""
    leader = shard.primary.pod.name if shard.primary is not None else "its primary"
    if shard.primary is not None and fence.may_be_replaced(shard, shard.primary):
        return (
            f"shard {shard.index} refuses writes (NOREPLICAS): another has led in place of {leader}, and may have data "
            f"that {leader} lacks; {_others(shard, shard.primary)} may come back with it. They are accepted again once "
            "it has. If that data is gone for good, delete the pod with its volume: then the shard goes on without it"
        )
    if not isinstance(spec, InvalidSpec) and spec.durability_mode is DurabilityMode.DEFAULT:
        return (
            f"shard {shard.index} refuses writes (NOREPLICAS): no replica keeps up with {leader} ({weakness(shard)}). "
            "The operator has had it ask for one, for with so few shards nobody could elect another primary while it "
            "goes on; it tells it to do without as soon as it may act"
        )
    return (
        f"shard {shard.index} refuses writes (NOREPLICAS): no replica keeps up with {leader} ({weakness(shard)}), and "
        f"durability.mode {DurabilityMode.AT_LEAST_ONE_REPLICA} asks for one. They are accepted again as soon as one "
        "is in step; to do without until then, set durability.mode to Default"
    )


def _others(shard: Shard, leader: Member) -> str:
    return listed([m.pod.name for m in shard.members if m is not leader and m.node is None]) or "a pod of the shard"
