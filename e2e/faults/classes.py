"""The classes of faults: what strikes, what it may cost at most, and in which clusters it is played."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final

from e2e.cluster import Member
from e2e.faults import strikes
from e2e.faults.stage import Reach, Stage

NOTHING: Final = 0.0
LAST_MOMENTS: Final = 1.0
"""Seconds of writes that had not left a machine when it lost its power."""
UNTIL_IT_STOPS: Final = 8.0
"""Seconds until a primary that is cut off notices it: half a node time-out until it asks its peers, a whole one until
it takes their silence for their end, and some time for a slow machine."""

FROZEN: Final = (
    "its kernel answers, and its process would go on by an old count of its replicas: only votes could replace it"
)
MINORITY: Final = "no zone, and no shard, leaves a majority of primaries behind"
FEW: Final = (1, 2)

Strike = Callable[[Stage, Member], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class FaultClass:
    """One class."""

    name: str
    strike: Strike
    reach: Reach = Reach.PROCESS
    loses: float = NOTHING
    """Acknowledged writes of how many seconds may be lost at most, in the shards that are led from where it strikes."""
    without: Mapping[int, str] = field(default_factory=dict)
    """Numbers of shards with which it is not played, and why."""
    volumes: tuple[bool, ...] = (False, True)
    """Whether it is played without volumes, with them, or both."""
    sampled: tuple[bool, ...] = (False,)
    """In which of them it belongs to `make test`: three shards, once. Nowhere if it takes long and another scenario, or
    a class much like it, is there already.
    """


def _few(why: str) -> Mapping[int, str]:
    return dict.fromkeys(FEW, why)


CLASSES: Final = (
    FaultClass("process-killed", strikes.process_killed, sampled=()),
    FaultClass("out-of-memory", strikes.out_of_memory),
    FaultClass("process-stopped", strikes.process_stopped, loses=LAST_MOMENTS),
    FaultClass("restart-loop", strikes.restart_loop, sampled=(True,)),
    FaultClass("pod-deleted-by-force", strikes.pod_deleted_by_force),
    FaultClass("evicted-by-kubelet", strikes.evicted_by_kubelet, volumes=(False,), sampled=()),
    FaultClass("disk-full", strikes.disk_full, volumes=(True,), sampled=(True,)),
    FaultClass("operator-killed", strikes.operator_killed, sampled=()),
    FaultClass("operator-frozen", strikes.operator_frozen, sampled=()),
    FaultClass("api-server-away", strikes.api_server_away, sampled=()),
    FaultClass("cut-from-operator", strikes.cut_from_operator),
    FaultClass("cut-from-api-server", strikes.cut_from_api_server, Reach.MACHINE),
    FaultClass("slow-network", strikes.slow_network, Reach.MACHINE),
    FaultClass("cut-from-peers", strikes.cut_from_peers, loses=UNTIL_IT_STOPS, without=_few(MINORITY)),
    FaultClass(
        "not-heard-by-peers", strikes.not_heard_by_peers, Reach.PROCESS, UNTIL_IT_STOPS, _few(MINORITY), sampled=()
    ),
    FaultClass("cut-at-the-bus", strikes.cut_at_the_bus, loses=UNTIL_IT_STOPS, without=_few(MINORITY)),
    FaultClass("zone-cut-off", strikes.zone_cut_off, Reach.ZONE, UNTIL_IT_STOPS),
    FaultClass("node-frozen", strikes.node_frozen, Reach.MACHINE, LAST_MOMENTS, _few(FROZEN)),
    FaultClass("node-without-power", strikes.node_without_power, Reach.MACHINE, LAST_MOMENTS, sampled=()),
)


@dataclass(frozen=True, slots=True)
class Case:
    """A class in a cluster of some size."""

    shards: int
    volumes: bool
    fault: FaultClass
    round: int = 1

    @property
    def id(self) -> str:
        """For the test's name."""
        return f"{self.shards}-shards-{'volumes' if self.volumes else 'memory'}-{self.fault.name}-{self.round}"


SHARDS: Final = (1, 2, 3, 6)


def sample() -> Iterator[Case]:
    """What belongs to `make test`: first where there are volumes, for scenarios that have the same cluster."""
    for volumes in (True, False):
        yield from (Case(3, volumes, fault) for fault in CLASSES if volumes in fault.sampled)


def matrix(rounds: int) -> Iterator[Case]:
    """All sizes, with and without volumes, so many times."""
    for shards in SHARDS:
        for volumes in (False, True):
            for number in range(1, rounds + 1):
                for fault in CLASSES:
                    if volumes in fault.volumes and shards not in fault.without:
                        yield Case(shards, volumes, fault, number)


def left_out() -> Iterator[str]:
    """One line for each class and size that the matrix leaves out."""
    for fault in CLASSES:
        for shards, why in fault.without.items():
            yield f"{fault.name} with {shards} shards: {why}"
