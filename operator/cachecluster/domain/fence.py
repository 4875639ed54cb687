"""The fence: a primary whose loss would leave nobody to elect another stops accepting writes by itself, soon after the
last report of a replica. Then that replica may lead, whatever has become of it (S10 d, ADR 0021).

What is written down of it is on the pod of the primary: it must be true, for nobody can ask a primary that is lost.
"""

from dataclasses import dataclass, replace
from typing import Final, Self

from cachecluster.api.durability import MAX_LAG_SECONDS, DurabilityMode
from cachecluster.domain.durability import ENGINE_DEFAULTS, MAX_LAG, NAMES, ONE_REPLICA, TO_WRITE
from cachecluster.domain.nodes import NodeView, Role
from cachecluster.domain.snapshot import Parameters
from cachecluster.domain.topology import NODE_TIMEOUT_SECONDS, Member, Shard, Topology

TIMEOUT: Final = "cluster-node-timeout"
ASKED: Final = NAMES | {TIMEOUT}
"""What every node is asked for the sake of this."""
RAISED: Final[Parameters] = tuple(sorted(ONE_REPLICA.items()))
LOWERED: Final[Parameters] = tuple(sorted(ENGINE_DEFAULTS.items()))
OUTDATED: Final[Parameters] = ((MAX_LAG, "1"), (TO_WRITE, "1"))
"""What somebody asks for who has been replaced and has not heard of it: told by the start script, or by the operator.
Nobody else asks for so recent a report, so it says who that is.
"""
PATIENT_SECONDS: Final = 15.0
"""A node timeout at which neither the heir nor another primary counts itself to a minority before the fence expires:
who has, refuses writes for five seconds more once it has a majority again (engine-facts §2).
"""
HEARD_SECONDS: Final = 1
"""A replica in step has reported within so long: it may be asked for."""
LATE_SECONDS: Final = 3
"""One that has not for so long is about to be missed."""
FEW: Final = 2
"""Of so many primaries nobody can replace one by votes."""
REPLACED: Final = "replaced"
"""What stands at the end of a record whose primary has a successor, or may have."""


@dataclass(frozen=True, slots=True)
class Record:
    """A primary has asked for a replica ever since this was written down."""

    history: str
    """Its replication id: the same process, for the next one begins another history."""
    max_lag: int
    mode: DurabilityMode
    """Whose fence it is: the user's own stays up although no replica is left."""
    replaced: bool = False
    """A replica has been told to lead in its place, or was about to be: where that one cannot be asked, the fence stays
    up, for two would take writes.
    """

    def __str__(self) -> str:
        return f"{self.history} {self.max_lag} {self.mode}{f' {REPLACED}' if self.replaced else ''}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None for anything else, such as one that is not up yet."""
        words = text.split(" ")
        if len(words) < 3 or not words[1].isdecimal() or words[2] not in set(DurabilityMode):
            return None
        if words[3:] not in ([], [REPLACED]):
            return None
        return cls(words[0], int(words[1]), DurabilityMode(words[2]), len(words) > 3)


def intention(record: str) -> str:
    """What is written down before a fence is raised: whoever crosses it out keeps it from being called raised."""
    return f"raising {record}"


def replaced(record: str) -> str:
    """What is written down before another is told to lead: whoever reaches the old primary later must not lower its
    fence while he cannot ask the new one.
    """
    found = Record.parse(record)
    return record if found is None else str(replace(found, replaced=True))


def is_replaced(record: str) -> bool:
    """Somebody may lead in its place."""
    found = Record.parse(record)
    return found is not None and found.replaced


def matters(topology: Topology) -> bool:
    """The loss of one primary leaves nobody to elect another."""
    return 0 < len(topology.owners) <= FEW


def is_raised(view: NodeView) -> bool:
    """It refuses writes, or will, for want of a replica that reports."""
    return all(view.parameters.get(name) == value for name, value in RAISED)


def is_outdated(view: NodeView) -> bool:
    """When its process began, or when it was last looked at, its slots were another's."""
    return all(view.parameters.get(name) == value for name, value in OUTDATED)


def is_lowered(view: NodeView) -> bool:
    """It asks for nobody; or that is not known."""
    return all(view.parameters.get(name, value) == value for name, value in LOWERED)


def takes_itself_for_primary(member: Member) -> bool:
    """It serves slots, as far as it knows."""
    return member.node is not None and member.node.leads and bool(member.node.myself.slots)


def is_behind_its_time(shard: Shard, member: Member) -> bool:
    """Another serves its slots by now, and it has not heard of that: it must go on refusing writes (``OUTDATED``)."""
    return takes_itself_for_primary(member) and member is not shard.primary


def may_be_replaced(shard: Shard, member: Member) -> bool:
    """A replica has been told to lead in its place, and who of them does so cannot be asked: two would take writes if
    this one was told to go on alone. One that does not run may come back to lead, with its volume.
    """
    if member.node is None or not takes_itself_for_primary(member):
        return False
    if not (is_replaced(member.pod.fence) or is_outdated(member.node)):
        return False
    return len(shard.members) < shard.expected or not all(m is member or _leads_not(m) for m in shard.members)


def _leads_not(member: Member) -> bool:
    view = member.node
    return view is not None and (view.role is Role.REPLICA or view.blank)


def is_heard(view: NodeView, within: int = HEARD_SECONDS) -> bool:
    """A replica in step reports to it."""
    return view.replica_lag is not None and view.replica_lag <= within


def record_of(view: NodeView, mode: DurabilityMode) -> str:
    """What is to be written down once its fence is up."""
    return str(Record(view.replication_id, MAX_LAG_SECONDS, mode))


def timeout_seconds(topology: Topology) -> float:
    """What the nodes' timeout should be."""
    patient = matters(topology) and any(s.expected > 1 for s in topology.shards)
    return PATIENT_SECONDS if patient else NODE_TIMEOUT_SECONDS
