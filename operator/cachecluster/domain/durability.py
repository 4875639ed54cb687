"""What ``durability.mode`` asks of every node, and which shards refuse writes for it."""

from collections.abc import Mapping, Sequence
from typing import Final

from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.api.spec import CacheClusterSpec, DurabilityMode
from cachecluster.domain.snapshot import InvalidSpec
from cachecluster.domain.syncing import is_catching_up
from cachecluster.domain.topology import Member, Shard, Topology, weakness

TO_WRITE: Final = "min-replicas-to-write"
MAX_LAG: Final = "min-replicas-max-lag"
NAMES: Final = frozenset({TO_WRITE, MAX_LAG})
"""The operator's own among the live parameters."""
ENGINE_DEFAULTS: Final[Mapping[str, str]] = {MAX_LAG: "10", TO_WRITE: "0"}
"""Of every supported release: no replica is asked for."""
ONE_REPLICA: Final[Mapping[str, str]] = {MAX_LAG: str(MAX_LAG_SECONDS), TO_WRITE: "1"}
"""One that reports is asked for."""
_WANTED: Final[Mapping[DurabilityMode, Mapping[str, str]]] = {
    DurabilityMode.DEFAULT: {},
    DurabilityMode.AT_LEAST_ONE_REPLICA: ONE_REPLICA,
}


def parameters(spec: CacheClusterSpec) -> Mapping[str, str]:
    """The same for every node: a replica heeds them once it leads."""
    return _WANTED[spec.durability_mode]


def is_alone(topology: Topology, member: Member) -> bool:
    """It leads a shard, and no replica is in step with it: told to ask for one, it would refuse writes at once."""
    shard = next(s for s in topology.shards if member in s.members)
    return shard.primary is member and not any(shard.follows(m) for m in shard.members)


def refusing(topology: Topology) -> Sequence[Shard]:
    """Shards that serve slots and refuse to write to them because no replica keeps up with their primary."""
    return [s for s in topology.shards if s.primary is not None and s.refuses_writes]


def is_passing(shard: Shard) -> bool:
    """Some other member is about to follow: what every change of the primary brings for a moment."""
    return any(m.usable and not is_catching_up(m.node) for m in shard.members if m is not shard.primary)


def refusal(shard: Shard, spec: CacheClusterSpec | InvalidSpec) -> str:
    """Why a shard refuses writes and what ends that, for people."""
    leader = shard.primary.pod.name if shard.primary is not None else "its primary"
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
