"""What the operator asks of one engine node, and the errors that come back. Implementations live beside this module."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import Ending, Mood, NodeId, NodeView
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import Parameters


class NodeError(Exception):
    """A call to a node failed; ``str()`` is for people and holds no secret."""


class NodeUnreachable(NodeError):
    """No connection or no answer in time: unknown whether a command was carried out."""


class NoAnswer(NodeUnreachable):
    """Nothing came in time, not even a refusal."""


class NobodyListens(NodeUnreachable):
    """The machine is there and says that nobody listens at the port, or a network policy says so in its place."""


class NodeDenied(NodeError):
    """Our credentials are not accepted: another cluster's node, or one whose users were changed."""


class NodeRefused(NodeError):
    """The node answered with an error; the text is the engine's own."""


class SlotState(StrEnum):
    """Options of CLUSTER SETSLOT."""

    IMPORTING = "IMPORTING"
    MIGRATING = "MIGRATING"
    NODE = "NODE"
    STABLE = "STABLE"


@dataclass(frozen=True, slots=True)
class Login:
    """Who a node says it is when it hands keys to another one."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class StreamPosition:
    """How far a node's replication stream has come (INFO replication)."""

    offset: int
    """Bytes: written by a primary, taken in by a replica; comparable between a primary and its replicas in step."""
    in_step: bool
    """A replica whose link is up; True for a primary."""


@dataclass(frozen=True, slots=True)
class SlotMigration:
    """One atomic slot migration as the engine remembers it (CLUSTER GETSLOTMIGRATIONS, Valkey >= 9.0)."""

    name: str
    outgoing: bool
    """This node gives the slots away."""
    slots: SlotSet
    target: NodeId
    """Empty where the node has heard of it as the replica of the one that takes them (it may lead by now)."""
    state: str
    """In the engine's words; ``success``, ``failed`` and ``cancelled`` are final."""
    message: str
    """Why it failed, in the engine's words."""

    @property
    def running(self) -> bool:
        """It has not come to its end yet."""
        return self.state not in {"success", "failed", "cancelled"}


KEY_SECONDS: Final = 2.0
"""How long the engine waits in silence while it hands keys over; everything else on the source waits with it, so it is
less than the time after which its peers would give it up (cluster-node-timeout)."""


class NodeClient(Protocol):
    """One connection to one node. It never reconnects: a lost connection raises NodeUnreachable."""

    async def view(self, parameters: Collection[str] = ()) -> NodeView:
        """Read identity, replication state and cluster table, and the values of ``parameters``."""
        ...

    async def node_id(self) -> NodeId:
        """CLUSTER MYID."""
        ...

    async def end_other_sessions(self) -> None:
        """CLIENT KILL every other connection of the operator's user: a predecessor that was frozen must not act."""
        ...

    async def set_config_epoch(self, epoch: int) -> None:
        """CLUSTER SET-CONFIG-EPOCH; the node must know nobody."""
        ...

    async def bump_epoch(self) -> None:
        """CLUSTER BUMPEPOCH: its epoch is the newest that it knows of; fine if it is already."""
        ...

    async def meet(self, ip: str, port: int, bus_port: int) -> None:
        """CLUSTER MEET; OK means only that the handshake has started."""
        ...

    async def add_slots(self, slots: SlotSet) -> None:
        """CLUSTER ADDSLOTSRANGE."""
        ...

    async def replicate(self, primary: NodeId) -> None:
        """CLUSTER REPLICATE."""
        ...

    async def forget(self, node_id: NodeId) -> None:
        """CLUSTER FORGET; an id that is not known is fine."""
        ...

    async def reset(self) -> None:
        """CLUSTER RESET HARD: the node gets a new id and knows nobody; refused on a primary with keys."""
        ...

    async def failover(self, kind: FailoverKind) -> None:
        """CLUSTER FAILOVER on a replica; OK of the graceful kind means only that it is scheduled."""
        ...

    async def configure(self, parameters: Parameters) -> None:
        """CONFIG SET, all in one command: either every one is in force afterwards or none has changed."""
        ...

    async def rewrite_log(self) -> None:
        """BGREWRITEAOF; OK means only that it has started, or will once a snapshot is done; refused while one runs."""
        ...

    async def set_users(self, rules: Mapping[str, Sequence[str]]) -> None:
        """ACL SETUSER: each user has exactly these rights afterwards, or those of before if the engine refuses them.
        Whether it is on, unless the rules say so, and its open connections stay as they are.
        """
        ...

    async def release(self, shard: int) -> None:
        """Switch the application and that shard's replication on again: the end of a quarantine (S5)."""
        ...

    async def set_slots(self, slots: SlotSet, state: SlotState, peer: NodeId | None = None) -> None:
        """CLUSTER SETSLOT for each slot, all in one round trip; ``peer`` is left out for STABLE alone."""
        ...

    async def count_keys(self, slots: SlotSet) -> Mapping[int, int]:
        """CLUSTER COUNTKEYSINSLOT by slot; slots without keys are left out."""
        ...

    async def keys_in_slots(self, counts: Mapping[int, int]) -> Mapping[int, Sequence[bytes]]:
        """CLUSTER GETKEYSINSLOT for each slot, all in one round trip: at most so many names of keys, byte for byte."""
        ...

    async def migrate(self, ip: str, keys: Sequence[bytes], login: Login, silence: float = KEY_SECONDS) -> None:
        """MIGRATE ... REPLACE the keys to the node at ``ip``; the source stands still for so long. Keys that are gone
        by now are fine. After ``silence`` seconds without a byte it gives up with an IOERR, raised as NodeRefused.
        """
        ...

    async def position(self) -> StreamPosition:
        """INFO replication, in short."""
        ...

    async def moves_atomically(self) -> bool:
        """Whether the engine has atomic slot migration that can be relied on here (engine-facts §1.5)."""
        ...

    async def start_migration(self, slots: SlotSet, target: NodeId) -> None:
        """CLUSTER MIGRATESLOTS on the source; OK means only that it has started."""
        ...

    async def migrations(self) -> Sequence[SlotMigration]:
        """CLUSTER GETSLOTMIGRATIONS, newest first; forgotten when the process ends."""
        ...


class NodeConnector(Protocol):
    """Opens connections as the operator's user."""

    def connect(self, ip: str, password: str | None) -> AbstractAsyncContextManager[NodeClient]:
        """Connect to the cache port of ``ip`` within a bounded time; raises NodeError."""
        ...

    async def has_machine(self, ip: str, seconds: float) -> bool:
        """Whether anything answers at the cache port within so long: be it a kernel, for a process that hangs."""
        ...


class Watched(Protocol):
    """A connection on which next to nothing is said; its end is the news."""

    def ask(self, told: Callable[[Mood], None]) -> None:
        """Ask for the node's mood. ``told`` is called with the answer, if one comes before the next question."""
        ...

    def close(self) -> None:
        """Hang up, and tell nobody."""
        ...


class NodeWatcher(Protocol):
    """Opens connections that tell when the other side ends."""

    async def watch(self, ip: str, password: str, node_id: NodeId, ended: Callable[[Ending], None]) -> Watched:
        """Connect to the node ``node_id`` at ``ip`` within a bounded time, and say nothing unasked from then on.

        ``ended`` is called once, when the other side hangs up or its machine has been silent for 2 to 3 s. Raises
        NodeError; NodeRefused if another node answers.
        """
        ...
