"""What engine nodes say of themselves and of each other, and what becomes of a connection to one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

from cachecluster.domain.access import Rights
from cachecluster.domain.slots import NO_SLOTS, SlotSet

NodeId = NewType("NodeId", str)
"""The engine's own 40-digit identity of a node (Valkey cluster specification, "Node attributes")."""


class Role(StrEnum):
    """Role of an engine node."""

    PRIMARY = "primary"
    REPLICA = "replica"


@dataclass(frozen=True, slots=True)
class Peer:
    """One row of a node's cluster table (CLUSTER NODES)."""

    node_id: NodeId
    ip: str
    """Empty while the node's address is unknown (flag noaddr)."""
    port: int
    bus_port: int
    flags: frozenset[str]
    """As the engine says: myself, master, slave, fail, fail?, handshake, noaddr, nofailover, noflags."""
    primary_id: NodeId | None
    config_epoch: int
    connected: bool
    """Bus link state as this node sees it."""
    pong_age: float | None
    """Seconds since the last pong, None if there never was one (or for the node itself)."""
    slots: SlotSet = NO_SLOTS
    asked: bool = False
    """It has been sent a ping that it has not answered yet."""

    @property
    def failed(self) -> bool:
        """Marked as failed by the majority."""
        return "fail" in self.flags

    @property
    def suspected(self) -> bool:
        """Failed or suspected."""
        return bool(self.flags & {"fail", "fail?"})

    @property
    def is_primary(self) -> bool:
        """Listed as a primary."""
        return "master" in self.flags


@dataclass(frozen=True, slots=True, order=True)
class OpenSlot:
    """A slot that is on its way between two nodes, as one of them has it marked (CLUSTER SETSLOT)."""

    slot: int
    peer: NodeId
    """The node at the other end, by the id that it had when the slot was opened."""


@dataclass(frozen=True, slots=True)
class ReplicaLink:
    """A replica's link to its primary (INFO replication)."""

    up: bool
    """master_link_status:up"""
    sync_in_progress: bool
    down_seconds: int | None
    """master_link_down_since_seconds; None while up; -1 if the link has never been up."""
    last_io_seconds: int | None
    primary_ip: str
    sync_percent: int | None = None
    """How much of the primary's data has come, in steps of five; None where the primary does not know how much it is:
    it sends what it has in memory and not a file.
    """
    sync_received: int = 0
    """Bytes of a full sync so far, in steps of 64 MiB."""

    @property
    def ever_synced(self) -> bool:
        """The replica has completed a sync with its primary at least once in this process's life."""
        return self.up or (self.down_seconds is not None and self.down_seconds >= 0)


class Unwritten(StrEnum):
    """What a node has failed to write when it last tried (INFO persistence)."""

    LOG = "log"
    """aof_last_write_status:err, with the log on; it tries again every second."""
    SNAPSHOT = "snapshot"
    """rdb_last_bgsave_status:err; it tries again after a minute at most, if anything has changed."""


@dataclass(frozen=True, slots=True)
class Rewrites:
    """Rewrites of the append-only log, by this process (INFO persistence)."""

    begun: int = 0
    running: bool = False
    """Or scheduled."""
    failed: bool = False
    """The last one has."""


@dataclass(frozen=True, slots=True)
class NodeView:
    """What one engine node says about itself and the others, all read over one connection."""

    node_id: NodeId
    run_id: str
    """Changes with every process start (INFO server)."""
    version: str
    role: Role
    loading: bool
    keys: int
    used_memory: int
    replication_id: str
    previous_replication_id: str
    """master_replid2: the history that this node continues, forty zeros if none."""
    offset: int
    """master_repl_offset of a primary, slave_repl_offset of a replica; comparable within one replication_id."""
    link: ReplicaLink | None
    """None on a primary."""
    cluster_state_ok: bool
    current_epoch: int
    quarantined: bool
    """Application and replication users are off: a former primary whose data may be older than a replica's (S5)."""
    peers: tuple[Peer, ...]
    """The node's whole table, itself included."""
    migrating: tuple[OpenSlot, ...] = ()
    """Slots of its own that it is marked to give to a peer."""
    importing: tuple[OpenSlot, ...] = ()
    """Slots of others that it is marked to take from a peer."""
    loaded_percent: int | None = None
    """How much of its file is in memory while it loads, in steps of five."""
    max_memory: int = 0
    """maxmemory in bytes; 0: unlimited."""
    dataset_bytes: int = 0
    """Of the used memory, what the keys and values take (used_memory_dataset): without buffers and the like."""
    good_replicas: int | None = None
    """Replicas that report as often as min-replicas-max-lag asks for (INFO: min_slaves_good_slaves, counted once a
    second); None: writes ask for none.
    """
    replica_lag: int | None = None
    """Seconds since the replica that has reported last has done so; None: none is attached and in step."""
    logs: bool = False
    """It keeps an append-only log (aof_enabled)."""
    unwritten: Unwritten | None = None
    rewrites: Rewrites = Rewrites()
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Engine parameters that were asked for, in the engine's words (CONFIG GET); what it does not know is absent."""
    users: Mapping[str, Rights] = field(default_factory=dict)
    """What its users may do (ACL LIST)."""

    @property
    def family(self) -> str:
        """Release family of the engine that answers, for example 8.1."""
        return ".".join(self.version.split(".")[:2])

    @property
    def myself(self) -> Peer:
        """The node's own row."""
        return next(p for p in self.peers if p.node_id == self.node_id)

    def peer(self, node_id: NodeId) -> Peer | None:
        """The row of ``node_id``, if this node knows it."""
        return next((p for p in self.peers if p.node_id == node_id), None)

    @property
    def leads(self) -> bool:
        """A primary that is open to applications."""
        return self.role is Role.PRIMARY and not self.quarantined

    def keeps_up_with(self, primary: NodeId) -> bool:
        """It follows that node, over a link that is up."""
        return self.myself.primary_id == primary and self.link is not None and self.link.up

    @property
    def refuses_writes(self) -> bool:
        """A primary that answers writes with NOREPLICAS: it asks for one replica, and none keeps up with it."""
        return self.role is Role.PRIMARY and self.good_replicas == 0

    @property
    def takes_writes(self) -> bool:
        """A primary that answers an application's write to its slots with OK, as far as it says itself."""
        if self.loading or self.refuses_writes or self.unwritten is Unwritten.LOG:
            return False
        return self.leads and self.cluster_state_ok

    @property
    def blank(self) -> bool:
        """Owns nothing, follows nobody and holds no key: safe to give any task."""
        return self.role is Role.PRIMARY and not self.myself.slots and self.keys == 0 and not self.loading


@dataclass(frozen=True, slots=True)
class Unreachable:
    """No answer in time, or a refusal: we do not know (S1)."""

    why: str
    since: float
    """Unix seconds of the first failed attempt in a row."""
    refused: bool = False
    """The machine, or a network policy in its place, says that nobody listens there."""
    silent: bool = False
    """Nothing came in time, not even an error."""


@dataclass(frozen=True, slots=True)
class Mood:
    """What changes at a node when others lead, or when it is cut off: asked for in between two looks."""

    epoch: int
    """Rises with every election that the node has heard of."""
    ok: bool
    """cluster_state: it sees a majority of the primaries."""
    unwritten: Unwritten | None = None


class Ending(StrEnum):
    """How a connection ended that the operator had to a node."""

    CLOSED = "Closed"
    """By the other side (FIN, RST): its process has ended, or it has hung up on us."""
    TIMED_OUT = "TimedOut"
    """By our own kernel: not even that machine's kernel has answered for more than two seconds."""


@dataclass(frozen=True, slots=True)
class LostConnection:
    """The operator's idle connection to a node has ended, and no other could be opened since."""

    pod: str
    uid: str
    ip: str
    """Of the pod in which the node ran."""
    host: str | None
    """Kubernetes node of that pod."""
    ending: Ending
    at: float
    """By the clock of the failure detector."""
    seconds: float
    """Since then, when the snapshot was taken."""
