"""What was read about one cluster at one moment. What could not be reached is Unreachable, never "down" (S1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, NewType

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.access import Rights
from cachecluster.domain.slots import NO_SLOTS, SlotSet

NodeId = NewType("NodeId", str)
"""The engine's own 40-digit identity of a node (Valkey cluster specification, "Node attributes")."""

Manifest = Mapping[str, Any]
"""A Kubernetes object as JSON."""

Parameters = tuple[tuple[str, str], ...]
"""Names and values of engine parameters, sorted."""


@dataclass(frozen=True, slots=True, order=True)
class ObjectKey:
    """Names one child object within the cluster's namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class ClusterRef:
    """Names one CacheCluster; the uid tells a re-created one from its predecessor."""

    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


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


class ContainerState(StrEnum):
    """State of the engine container as the kubelet reports it."""

    WAITING = "Waiting"
    RUNNING = "Running"
    TERMINATED = "Terminated"


@dataclass(frozen=True, slots=True)
class Container:
    """The engine container's status."""

    state: ContainerState
    reason: str
    """Kubelet's reason while waiting or after termination, e.g. ImagePullBackOff, CrashLoopBackOff, OOMKilled."""
    message: str
    restarts: int
    started_at: float | None
    last_termination: str
    """Reason and message of the previous run, if there was one."""
    last_exit_code: int | None


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod of the cluster, read from the API server."""

    name: str
    uid: str
    shard: int
    ordinal: int
    ip: str | None
    host: str | None
    """Name of the Kubernetes node, once scheduled."""
    phase: str
    ready: bool
    deleting: bool
    created_at: float
    unschedulable: str | None
    """The scheduler's message while it finds no place."""
    revision: str
    """controller-revision-hash"""
    role_label: str | None
    container: Container | None
    shape: "PodShape | None" = None
    memory_limit: int | None = None
    """Bytes, as in force. None: not known."""
    memory_asked: int | None = None
    """Bytes, as its spec asks for by now."""
    resize: "Resize | None" = None
    """What the kubelet has still to do, or cannot do, for the resources that are asked for; None: they are in force."""

    @property
    def runs(self) -> bool:
        """Its container runs, as the kubelet has last reported."""
        return self.phase == "Running" and (self.container is None or self.container.state is ContainerState.RUNNING)

    @property
    def never_ran(self) -> bool:
        """Its engine has not started once: no place, no image, no configuration. Nobody can know it."""
        container = self.container
        if container is None:
            return self.phase == "Pending"
        ended = container.restarts or container.last_termination
        return container.state is ContainerState.WAITING and not ended


class ResizeState(StrEnum):
    """How far a kubelet is with the resources that a pod's spec asks for."""

    UNDER_WAY = "UnderWay"
    DEFERRED = "Deferred"
    """There is no room on the machine just now."""
    INFEASIBLE = "Infeasible"
    """There never will be."""
    FAILED = "Failed"
    """It tries again; above all a limit below what is in use."""


@dataclass(frozen=True, slots=True)
class Resize:
    """Why a pod's resources are not what its spec asks for, with the kubelet's words."""

    state: ResizeState
    message: str = ""


@dataclass(frozen=True, slots=True)
class PodShape:
    """What of its template a pod was made with, as far as an edit of the spec decides it."""

    image: str
    resources: Manifest
    """Of the engine's container."""
    config: str
    """Name of its immutable ConfigMap."""
    live: str
    """Name of its ConfigMap of live parameters."""
    labels: Manifest
    annotations: Manifest
    grace: int | None = None
    """terminationGracePeriodSeconds"""


@dataclass(frozen=True, slots=True)
class Host:
    """What matters of a Kubernetes node."""

    name: str
    labels: Mapping[str, str]
    schedulable: bool
    ready: bool
    """Its kubelet reports."""
    out_of_service: bool = False
    """Somebody vouches for it that nothing runs there any more."""


class Expansion(StrEnum):
    """Whether the volumes of a StorageClass can grow."""

    ALLOWED = "Allowed"
    REFUSED = "Refused"
    """allowVolumeExpansion is not true."""
    MISSING = "Missing"
    """There is no such StorageClass (any more)."""
    UNREADABLE = "Unreadable"
    """The operator may not read StorageClasses; only trying tells."""


@dataclass(frozen=True, slots=True)
class InvalidSpec:
    """The spec cannot be carried out; ``message`` says what to write instead."""

    message: str
    paused: bool = False
    """spec.paused is true all the same."""


@dataclass(frozen=True, slots=True)
class ForeignId:
    """An id in a node's table that belongs to no pod of ours, with the time we first saw it alive."""

    node_id: NodeId
    ip: str
    alive_since: float | None
    """Unix seconds since which some node's bus link to it has been up, None if it is not up."""


@dataclass(frozen=True)
class Snapshot:
    """All that one pass knows. Frozen; the planner needs nothing else."""

    ref: ClusterRef
    generation: int
    now: float
    """Unix seconds."""
    spec: CacheClusterSpec | InvalidSpec
    finalizer_visible: bool
    annotations: Mapping[str, str]
    """Of the CacheCluster."""
    status: Manifest
    """Last written status, empty at first."""
    system_secret_exists: bool
    desired: tuple[Manifest, ...]
    """Every child that the spec asks for, complete, as it would be applied (StatefulSets with partition = replicas)."""
    children: Mapping[ObjectKey, Manifest]
    """Live objects under the names of ``desired`` or with our labels."""
    pods: tuple[Pod, ...]
    hosts: Mapping[str, Host]
    views: Mapping[str, NodeView | Unreachable]
    """By pod name; a pod without an address is absent."""
    foreign: tuple[ForeignId, ...] = ()
    users: Mapping[str, Mapping[str, Rights]] = field(default_factory=dict)
    """What the users of a node are to be allowed, by its release family."""
    refusals: Mapping[Parameters, str] = field(default_factory=dict)
    """What the engine has lately refused to set, with its words."""
    resizable: bool = False
    """The API server can resize running pods; asked only when there is one to resize."""
    resize_refusals: frozenset[tuple[str, str]] = frozenset()
    """What the API server has lately refused: pod uid, and hash of the resources."""
    resizing_since: Mapping[str, float] = field(default_factory=dict)
    """Unix seconds, by uid of each pod whose kubelet is not done with a resize."""
    storage_classes: Mapping[str, Expansion] = field(default_factory=dict)
    """Those of claims that are to grow, by name."""
    slot_bytes: Mapping[int, int] = field(default_factory=dict)
    """What each slot holds, as far as it can be told from its number of keys; without those that hold none. Empty: not
    known, or it does not matter because none is about to move.
    """
    lost: Mapping[NodeId, LostConnection] = field(default_factory=dict)
    """What the failure detector has seen to end."""

    @cached_property
    def desired_by_key(self) -> Mapping[ObjectKey, Manifest]:
        """``desired`` by kind and name."""
        return {ObjectKey(m["kind"], m["metadata"]["name"]): m for m in self.desired}

    def view(self, pod: str) -> NodeView | None:
        """The pod's node if it answered."""
        view = self.views.get(pod)
        return view if isinstance(view, NodeView) else None
