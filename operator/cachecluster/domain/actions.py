"""Everything the operator can do to a cluster, as frozen values: each safe to repeat, re-checked by the executor."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cachecluster.api.spec import AuthMode, EngineVersion
from cachecluster.domain.loss import Lost
from cachecluster.domain.nodes import NodeId, Role
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import Manifest, ObjectKey, Parameters


@dataclass(frozen=True, slots=True)
class Target:
    """A node as it was seen: pod, pod uid, address and node id belong together (S4)."""

    pod: str
    uid: str
    ip: str
    node_id: NodeId
    shard: int


class FailoverKind(StrEnum):
    """Options of CLUSTER FAILOVER."""

    GRACEFUL = "Graceful"
    FORCE = "Force"
    TAKEOVER = "Takeover"


@dataclass(frozen=True, slots=True)
class CreateSystemSecret:
    """Generate the cluster's passwords once, by POST; an existing Secret is left alone."""

    disruptive: ClassVar[bool] = False
    name: str


@dataclass(frozen=True, slots=True)
class Apply:
    """Server-side apply one child."""

    disruptive: ClassVar[bool] = False
    manifest: Manifest
    uid: str | None
    """uid of the live object it replaces, None if there was none."""
    resource_version: str | None = None
    """Only if the live object is still this version: for a manifest that forgets what a later one may have recorded."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete one child of ours, only if it is still the object that was seen."""

    disruptive: ClassVar[bool] = False
    key: ObjectKey
    uid: str
    resource_version: str | None
    """None where any later version of the same object may go as well."""


@dataclass(frozen=True, slots=True)
class ExpandVolume:
    """Ask for a larger volume; a claim that asks for as much or more already is left alone."""

    disruptive: ClassVar[bool] = False
    claim: str
    uid: str
    size: str
    """Kubernetes quantity."""


@dataclass(frozen=True, slots=True)
class DetachPods:
    """Delete a shard's StatefulSet and leave its pods running: it is created again with what cannot be edited in it.

    Only while its record (``domain.records``) says all that would be lost with it.
    """

    disruptive: ClassVar[bool] = True
    shard: int
    key: ObjectKey
    uid: str
    record: ObjectKey


@dataclass(frozen=True, slots=True)
class RestoreMetadata:
    """Give a StatefulSet that was created again the labels and annotations that others had put on it."""

    disruptive: ClassVar[bool] = False
    key: ObjectKey
    uid: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ResizePod:
    """Give the engine's container of a running pod other resources (subresource ``resize``).

    First the pod loses its revision: from then on it is not what any template has made, until it adopts one.
    """

    disruptive: ClassVar[bool] = False
    pod: str
    uid: str
    resources: Manifest
    """Limits and requests, complete."""


@dataclass(frozen=True, slots=True)
class AdoptRevision:
    """Label a pod with its StatefulSet's newest revision: it has got all of that without being replaced."""

    disruptive: ClassVar[bool] = False
    pod: str
    uid: str
    revision: str
    resources: Manifest
    """Which it must have."""


@dataclass(frozen=True, slots=True)
class LabelRole:
    """Write the role label of a pod, by its uid."""

    disruptive: ClassVar[bool] = False
    pod: str
    uid: str
    role: Role


@dataclass(frozen=True, slots=True)
class Meet:
    """Introduce nodes to each other, all blank or already members. Ids are verified afterwards (S4)."""

    disruptive: ClassVar[bool] = False
    nodes: tuple[Target, ...]
    pairs: tuple[tuple[NodeId, NodeId], ...]
    """Who does not know whom (at its present address)."""
    epochs: tuple[tuple[NodeId, int], ...]
    """SET-CONFIG-EPOCH before the first meeting, for nodes that know nobody."""


@dataclass(frozen=True, slots=True)
class AssignSlots:
    """Give slots that nobody owns to an empty primary."""

    disruptive: ClassVar[bool] = False
    node: Target
    slots: SlotSet
    first_epoch: int | None = None
    """SET-CONFIG-EPOCH before, for a node that knows nobody yet."""


@dataclass(frozen=True, slots=True)
class Replicate:
    """Make a node without slots and without keys that nobody else has a replica of ``primary``."""

    disruptive: ClassVar[bool] = False
    node: Target
    primary: Target


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove an id whose process is proven gone from the tables of all members."""

    disruptive: ClassVar[bool] = False
    node_id: NodeId
    members: tuple[Target, ...]


@dataclass(frozen=True, slots=True)
class Promote:
    """Make a synced replica the primary because the old one is gone (S10)."""

    disruptive: ClassVar[bool] = True
    shard: int
    node: Target
    kind: FailoverKind
    """Force with a reachable quorum, else Takeover."""
    lost: Lost


@dataclass(frozen=True, slots=True)
class EndPod:
    """Delete the pod of a process that hangs, through its kubelet, which kills the process after a moment."""

    disruptive: ClassVar[bool] = True
    node: Target
    keeper: Target
    """Has its data."""


@dataclass(frozen=True, slots=True)
class MovePod:
    """Delete a replica's pod, gracefully, so that the scheduler chooses a place anew."""

    disruptive: ClassVar[bool] = True
    node: Target
    primary: Target
    """Has its data."""


@dataclass(frozen=True, slots=True)
class FreePod:
    """Delete by force a pod that hangs on a lost Kubernetes node: it is made anew elsewhere."""

    disruptive: ClassVar[bool] = True
    pod: str
    uid: str
    ip: str | None
    """None: its engine has never been reached."""
    host: str
    keeper: Target | None
    """Serves all that its shard has. None: there is nothing, or nobody is left."""
    on_word: bool
    """Only because somebody vouches for it that nothing runs on that Kubernetes node any more."""


@dataclass(frozen=True, slots=True)
class Release:
    """Let applications and replicas in: to a restarted former primary whose data is the newest there is (S5), or to an
    empty node that is to lead a new shard.
    """

    disruptive: ClassVar[bool] = False
    node: Target


@dataclass(frozen=True, slots=True)
class Reset:
    """Make a node of a shard that is to go forget the cluster; it owns no slot and holds no key (S3)."""

    disruptive: ClassVar[bool] = False
    node: Target


@dataclass(frozen=True, slots=True)
class Configure:
    """Change parameters of running nodes: each node takes all of them or none."""

    disruptive: ClassVar[bool] = False
    nodes: tuple[Target, ...]
    parameters: Parameters

    @property
    def asked(self) -> Parameters:
        """By this a refusal is remembered."""
        return self.parameters


@dataclass(frozen=True, slots=True)
class RaiseFence:
    """Have a primary refuse writes once no replica reports to it, then write that down."""

    disruptive: ClassVar[bool] = False
    node: Target
    history: str
    """The replication history that it serves, by which its replicas know this very process."""
    record: str
    """What is written down."""
    known: str = ""
    """What was when this was decided."""


@dataclass(frozen=True, slots=True)
class LowerFence:
    """Cross out what is written down of a node's fence, then have it accept writes without a replica."""

    disruptive: ClassVar[bool] = False
    node: Target
    parameters: Parameters
    """Empty: it is only crossed out, and the node goes on asking for a replica."""
    known: str = ""
    """What is written down as this is decided."""


@dataclass(frozen=True, slots=True)
class RewriteLog:
    """Have a node write its append-only log anew, from what it has in memory."""

    disruptive: ClassVar[bool] = False
    node: Target


@dataclass(frozen=True, slots=True)
class SetUsers:
    """Give users of running nodes the rights of their release family; a user that is off stays off.

    They are named as in the mounted files.
    """

    disruptive: ClassVar[bool] = False
    nodes: tuple[Target, ...]
    users: tuple[str, ...]
    version: EngineVersion
    auth: AuthMode

    @property
    def asked(self) -> Parameters:
        """By this a refusal is remembered."""
        return tuple((f"user {name}", str(self.version)) for name in self.users)


@dataclass(frozen=True, slots=True)
class SwitchOver:
    """Hand the primary role over gracefully, without losing a write."""

    disruptive: ClassVar[bool] = True
    shard: int
    source: Target
    destination: Target


@dataclass(frozen=True, slots=True)
class MoveSlots:
    """Move slots with their keys from one primary to another, for a few seconds at a time.

    Interrupted anywhere, doing it again goes on where it stopped. Moves from several sources go side by side.
    """

    disruptive: ClassVar[bool] = True
    slots: SlotSet
    source: Target
    destination: Target
    replicas: tuple[Target, ...]
    """The destination's: keys leave the source no faster than one of them takes them in."""
    others: tuple[Target, ...]
    """All further primaries: they are told who owns the slots."""


@dataclass(frozen=True, slots=True)
class SettleSlots:
    """Find out where the keys of slots are whose two ends disagree about a move: open both ends again for a slot of
    which another node holds keys, and close it where nobody does (engine-facts §1.4).
    """

    disruptive: ClassVar[bool] = False
    slots: SlotSet
    owner: Target
    others: tuple[Target, ...]
    """Primaries that may hold some of the slots' keys."""


@dataclass(frozen=True, slots=True)
class RollPod:
    """Lower a shard's partition so that the StatefulSet controller replaces the pod of ``ordinal``."""

    disruptive: ClassVar[bool] = True
    shard: int
    ordinal: int
    manifest: Manifest
    """The StatefulSet with the new partition."""
    uid: str


@dataclass(frozen=True, slots=True)
class RemoveReplicas:
    """Lower a shard's number of members: the StatefulSet controller ends those with the highest ordinals."""

    disruptive: ClassVar[bool] = True
    shard: int
    manifest: Manifest
    """The StatefulSet with fewer replicas."""
    uid: str


@dataclass(frozen=True, slots=True)
class SettleShard:
    """Raise the partition again after a finished roll, so that only the operator restarts pods."""

    disruptive: ClassVar[bool] = False
    shard: int
    manifest: Manifest
    uid: str


Action = (
    CreateSystemSecret
    | Apply
    | Delete
    | ExpandVolume
    | DetachPods
    | RestoreMetadata
    | ResizePod
    | AdoptRevision
    | LabelRole
    | Meet
    | AssignSlots
    | Replicate
    | Forget
    | Promote
    | EndPod
    | FreePod
    | MovePod
    | Release
    | Reset
    | Configure
    | RaiseFence
    | LowerFence
    | RewriteLog
    | SetUsers
    | SwitchOver
    | MoveSlots
    | SettleSlots
    | RollPod
    | RemoveReplicas
    | SettleShard
)
