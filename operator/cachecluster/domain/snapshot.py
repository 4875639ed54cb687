"""What was read about one cluster at one moment. What could not be reached is Unreachable, never "down" (S1)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.access import Rights
from cachecluster.domain.nodes import LostConnection, NodeId, NodeView, Unreachable

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
    ended_at: float | None = None
    """Unix seconds at which the previous run ended; None if the kubelet did not see it: its machine has failed."""


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
    fence: str = ""
    """What is written down of its fence (``domain.fence``)."""
    has_volume: bool = False
    """It mounts a persistent volume, on which no second pod may write."""

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
class Taint:
    """What keeps pods away from a Kubernetes node, unless they tolerate it."""

    key: str
    value: str
    effect: str


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
    not_ready_since: float | None = None
    """Unix seconds at which this operator has first seen that its kubelet does not report; None while it does."""
    taints: frozenset[Taint] = frozenset()


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
    heard_at: float | None = None
    """Unix seconds at which any node has last heard of it; None: nobody knows."""


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
    refused_pods: Mapping[str, str] = field(default_factory=dict)
    """What keeps the missing pods of a StatefulSet from being created, by its name, in the API server's words."""
    storage_classes: Mapping[str, Expansion] = field(default_factory=dict)
    """Those of claims that are to grow, by name."""
    slot_bytes: Mapping[int, int] = field(default_factory=dict)
    """What each slot holds, as far as it can be told from its number of keys; without those that hold none. Empty: not
    known, or it does not matter because none is about to move.
    """
    lost: Mapping[NodeId, LostConnection] = field(default_factory=dict)
    """What the failure detector has seen to end."""
    connected: Mapping[str, NodeId] = field(default_factory=dict)
    """Nodes to which it is connected, by uid of their pods: their machines answer, whatever their processes do."""

    @cached_property
    def desired_by_key(self) -> Mapping[ObjectKey, Manifest]:
        """``desired`` by kind and name."""
        return {ObjectKey(m["kind"], m["metadata"]["name"]): m for m in self.desired}

    @property
    def moment(self) -> str:
        """``now`` as the API server writes times: RFC 3339, UTC, whole seconds."""
        return datetime.fromtimestamp(self.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def view(self, pod: str) -> NodeView | None:
        """The pod's node if it answered."""
        view = self.views.get(pod)
        return view if isinstance(view, NodeView) else None
