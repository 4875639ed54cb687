"""How much of its memory limit a node may fill with data, and when it may get along with less."""

from typing import Final

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.quantity import to_bytes
from cachecluster.domain.snapshot import Pod
from cachecluster.domain.topology import Member, Topology

PARAMETER: Final = "maxmemory"
"""The operator's own among the live parameters: it follows from the memory limit."""
MAXMEMORY_PERCENT: Final = 60
"""maxmemory of the memory limit: a fork under writes copies up to as much memory as it shares (engine-facts §7: 87-98 %
of the data under full random writes; far less for a cache that is mostly read), and replica buffers come on top. The
same with and without replicas, so that a first replica neither restarts the primary nor takes memory away from it."""
SHRINK_PERCENT: Final = 75
"""Of its new limit: no more may a node use when that comes down. Data, and buffers that maxmemory does not count."""


def memory_limit(spec: CacheClusterSpec) -> int:
    """Memory limit of a node in bytes; raises ValueError if there is none."""
    if spec.resources.limits.memory is None:
        raise ValueError("resources.limits.memory is missing; write for example 256Mi")
    return to_bytes(spec.resources.limits.memory)


def maxmemory(spec: CacheClusterSpec) -> int:
    """Bytes of data that a node may hold: 60 % of its limit.

    A node forks to write a snapshot, to rewrite its append-only file, and to send its data to a replica.
    """
    return _share(memory_limit(spec))


def maxmemory_of(spec: CacheClusterSpec, pod: Pod) -> int:
    """The same for a node whose limit may be another one just now, or is about to be: the smallest counts.

    So maxmemory rises after the limit and falls before it.
    """
    most = pod_allowance(pod)
    return maxmemory(spec) if most is None else min(maxmemory(spec), most)


def pod_allowance(pod: Pod) -> int | None:
    """Bytes of data that a pod's own limits leave room for, those in force and those asked for; None: not known."""
    limits = [limit for limit in (pod.memory_limit, pod.memory_asked) if limit is not None]
    return _share(min(limits)) if limits else None


def _share(limit: int) -> int:
    return limit * MAXMEMORY_PERCENT // 100


def shrinks(spec: CacheClusterSpec, member: Member) -> bool:
    """The node's limit is to come down."""
    return member.pod.memory_limit is not None and member.pod.memory_limit > memory_limit(spec)


def evicts(spec: CacheClusterSpec) -> bool:
    """The engine makes room by itself, whatever the keys are."""
    return str((spec.parameters or {}).get("maxmemory-policy", "noeviction")).startswith("allkeys-")


def overfull(spec: CacheClusterSpec, topology: Topology) -> list[Member]:
    """Nodes that hold more than a smaller limit leaves room for, and that would refuse writes rather than evict."""
    if evicts(spec):
        return []
    return [
        m for m in topology.members if m.node is not None and shrinks(spec, m) and m.node.used_memory > maxmemory(spec)
    ]


def is_told(spec: CacheClusterSpec, member: Member) -> bool:
    """The engine has the maxmemory that the spec's limit gives; one that does not answer is not known to."""
    return member.node is not None and member.node.parameters.get(PARAMETER) == str(maxmemory(spec))


def fits(spec: CacheClusterSpec, member: Member) -> bool:
    """The node is down to what a smaller limit has room for, as far as it is known."""
    return member.node is not None and member.node.used_memory <= memory_limit(spec) * SHRINK_PERCENT // 100
