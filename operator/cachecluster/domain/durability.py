"""What ``durability.mode`` asks of every node."""

from collections.abc import Mapping
from typing import Final

from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.api.spec import CacheClusterSpec, DurabilityMode
from cachecluster.domain.topology import Member, Topology

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
