"""What a user writes under ``spec``. These models are the only source of the CRD's schema.

A field is omitted, never null, and has no default in the schema: what an omitted field means is said in its
description and applied in code, so that a stored object is what its author wrote.
"""

from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import Field

from cachecluster.api.durability import MIN_REPLICAS, Durability, DurabilityMode
from cachecluster.api.fields import (
    Flag,
    ImageReference,
    MemoryAmount,
    ObjectName,
    OverlayAnnotations,
    OverlayLabels,
    ParameterValue,
    Whole,
)
from cachecluster.api.network import (
    IPBlock,
    LabelSelector,
    LabelSelectorRequirement,
    Network,
    NetworkPeer,
    NetworkPolicyMode,
)
from cachecluster.api.owned_parameters import OWNED, OwnedGroup
from cachecluster.api.placement import NODE_LOSS_GRACE_SECONDS, Placement, Spread, Toleration
from cachecluster.api.quantity import exact
from cachecluster.api.recovery import OnDataLoss, Recovery
from cachecluster.api.resources import Limits, ResourceList, Resources
from cachecluster.api.rules import Check, Model, Rule, Transition, keys_matching
from cachecluster.api.transitions import AUTH_KEPT, PERSISTENCE_KEPT, PLACEMENT_KEPT

__all__ = [
    "Auth",
    "AuthMode",
    "CacheClusterSpec",
    "DeletionPolicy",
    "Durability",
    "DurabilityMode",
    "Engine",
    "EngineVersion",
    "IPBlock",
    "ImagePullSecret",
    "LabelSelector",
    "LabelSelectorRequirement",
    "Limits",
    "Model",
    "Network",
    "NetworkPeer",
    "NetworkPolicyMode",
    "OnDataLoss",
    "Persistence",
    "PersistenceMode",
    "Placement",
    "PodOverlay",
    "Recovery",
    "ResourceList",
    "Resources",
    "Spread",
    "Toleration",
    "Topology",
    "TopologyMode",
]

MAX_NODES: Final = 1000
"""Recommended bound of a cluster (Valkey cluster specification, "Main properties and rationales")."""


class Engine(StrEnum):
    """Cache engine."""

    VALKEY = "Valkey"


class EngineVersion(StrEnum):
    """Release family of the engine."""

    V8_0 = "8.0"
    V8_1 = "8.1"
    V9_0 = "9.0"
    V9_1 = "9.1"


class TopologyMode(StrEnum):
    """How data is laid out over nodes."""

    CLUSTER = "Cluster"


class PersistenceMode(StrEnum):
    """What survives a restart of a node."""

    NONE = "None"
    SNAPSHOT = "Snapshot"
    APPEND_ONLY = "AppendOnly"


class AuthMode(StrEnum):
    """Whether clients need a password."""

    PASSWORD = "Password"
    DISABLED = "Disabled"


class DeletionPolicy(StrEnum):
    """What becomes of the volumes when the CacheCluster is deleted."""

    DELETE = "Delete"
    RETAIN = "Retain"


class Topology(Model):
    """Shards and copies."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            f"self.shards * (1 + self.replicasPerShard) <= {MAX_NODES}",
            lambda self: self.shards * (1 + self.replicas_per_shard) <= MAX_NODES,
            f"a cluster has at most {MAX_NODES} nodes, and shards * (1 + replicasPerShard) is more; lower one of them",
        ),
    )

    mode: TopologyMode = Field(description="Cluster: 16384 hash slots over the shards, for cluster-aware clients.")
    shards: Annotated[Whole, Field(ge=1, le=500)] = Field(
        description="Number of shards, each with one primary. From 3 on the others elect a new primary by themselves "
        "when one is lost."
    )
    replicas_per_shard: Annotated[Whole, Field(ge=0, le=5)] = Field(
        description="Replicas beside each primary. With 0 a node that is lost takes its part of the data with it."
    )


class Persistence(Model):
    """Whether and how data outlives a node's restart."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.mode == 'None' || has(self.size)",
            lambda self: self.mode is PersistenceMode.NONE or self.size is not None,
            "modes Snapshot and AppendOnly need a volume; write its size, for example 8Gi",
            at="size",
            kind="FieldValueRequired",
        ),
        Rule(
            "self.mode != 'None' || !(has(self.size) || has(self.storageClassName))",
            lambda self: (
                self.mode is not PersistenceMode.NONE or (self.size is None and self.storage_class_name is None)
            ),
            "mode None has no volume; remove size and storageClassName, or set mode to Snapshot or AppendOnly",
            kind="FieldValueForbidden",
        ),
    )

    mode: PersistenceMode = Field(
        description="None: data lives in memory alone. Snapshot: written to a volume now and then. AppendOnly: every "
        "write is logged to a volume, flushed each second."
    )
    size: MemoryAmount | None = Field(
        default=None,
        description="Size of each node's volume, for example 8Gi; at least limits.memory, better twice that: while a "
        "new snapshot or log is written the old one is still there. It can grow, without a restart, where the "
        "StorageClass allows expansion; it cannot shrink.",
    )
    storage_class_name: ObjectName | None = Field(
        default=None, description="StorageClass of the volumes; omitted: the Kubernetes cluster's default."
    )


class Auth(Model):
    """How clients prove who they are."""

    mode: AuthMode = Field(
        description="Password: clients need the generated one from the Secrets NAME-auth and NAME-connection. "
        "Disabled: anybody who can reach the port may read and write."
    )


class ImagePullSecret(Model):
    """Name of a Secret in the same namespace."""

    name: ObjectName = Field(description="Name of a Secret of type kubernetes.io/dockerconfigjson.")


class PodOverlay(Model):
    """What users may add to the cache pods."""

    labels: OverlayLabels | None = Field(default=None, description="Further labels of the pods.")
    annotations: OverlayAnnotations | None = Field(default=None, description="Annotations of the pods.")
    priority_class_name: ObjectName | None = Field(default=None, description="PriorityClass of the pods.")


def _owned(group: OwnedGroup) -> Rule:
    return Rule(
        f"!self.exists(k, {group.cel})",
        lambda parameters: not group.refused(parameters),
        group.advice,
        kind="FieldValueForbidden",
        names=f"self.filter(k, {group.cel})",
        offending=group.refused,
    )


_PARAMETER_NAMES: Final = keys_matching(
    "[a-z][-a-z0-9_]{0,63}", "is not the name of a parameter; write it as in valkey.conf, for example maxmemory-policy"
)
Parameters = Annotated[
    dict[str, ParameterValue], Field(max_length=128), Check(_PARAMETER_NAMES, *(_owned(group) for group in OWNED))
]


def _survives_a_replica(self: Any) -> bool:
    return self.durability_mode is DurabilityMode.DEFAULT or self.topology.replicas_per_shard >= MIN_REPLICAS


def _volume_holds_memory(self: Any) -> bool:
    size = self.persistence.size if self.persistence else None
    return size is None or exact(size) >= exact(self.resources.limits.memory)


class CacheClusterSpec(Model):
    """The wished-for cache cluster."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.persistence) || !has(self.persistence.size) || !isQuantity(string(self.persistence.size)) || "
            "!isQuantity(string(self.resources.limits.memory)) || !quantity(string(self.persistence.size))"
            ".isLessThan(quantity(string(self.resources.limits.memory)))",
            _volume_holds_memory,
            "the volume must hold what fits into memory; write at least resources.limits.memory, better twice that",
            at="persistence.size",
        ),
        Rule(
            "!has(self.deletionPolicy) || self.deletionPolicy != 'Retain' || "
            "(has(self.persistence) && self.persistence.mode != 'None')",
            lambda self: (
                self.deletion_policy is not DeletionPolicy.RETAIN or self.persistence_mode is not PersistenceMode.NONE
            ),
            "without persistence there are no volumes to retain; remove it, or set persistence.mode",
            at="deletionPolicy",
            kind="FieldValueForbidden",
        ),
        Rule(
            "!has(self.durability) || self.durability.mode != 'AtLeastOneReplica' || "
            f"self.topology.replicasPerShard >= {MIN_REPLICAS}",
            _survives_a_replica,
            "AtLeastOneReplica needs two replicas, for else writes would be refused whenever one restarts; write "
            f"topology.replicasPerShard: {MIN_REPLICAS} or more, or durability.mode: Default",
            at="durability.mode",
        ),
    )
    TRANSITIONS: ClassVar[tuple[Transition, ...]] = (
        Transition(
            "self.engine == oldSelf.engine",
            "the engine of a living cluster cannot be changed; create a new CacheCluster and move the clients to it",
            at="engine",
        ),
        PERSISTENCE_KEPT,
        PLACEMENT_KEPT,
        AUTH_KEPT,
    )

    engine: Engine = Field(description="Cache engine: Valkey. Fixed once the cluster exists.")
    version: EngineVersion = Field(
        description="Release family of the engine, in quotes: '8.0', '8.1', '9.0' or '9.1'. A newer one is rolled out "
        "node by node; once every node runs it, it can go back within 8.x or 9.x, but not from 9.x to 8.x."
    )
    image: ImageReference | None = Field(
        default=None, description="Image to run instead of the version's own; it must be of the same release family."
    )
    image_pull_secrets: Annotated[list[ImagePullSecret], Field(max_length=16)] | None = Field(
        default=None,
        description="Secrets with credentials for the image's registry.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    topology: Topology = Field(
        description="Shards and copies. Both numbers can be changed at any time: slots move with their keys."
    )
    resources: Resources = Field(
        description="Compute resources of each node. Edits reach running pods where Kubernetes "
        "can resize them (1.33), else they are rolled out node by node."
    )
    persistence: Persistence | None = Field(
        default=None,
        description="Whether and how data outlives a node's restart. Omitted: mode None. Of a cluster that exists the "
        "size can grow; mode and storageClassName are fixed, in this version.",
    )
    durability: Durability | None = Field(
        default=None,
        description="Which writes are accepted while replicas are missing. Omitted: mode Default. Edits take effect on "
        "running nodes, without a restart.",
    )
    recovery: Recovery | None = Field(
        default=None,
        description="What is done once every copy of some data is gone. Edits take effect at once and restart nothing.",
    )
    placement: Placement | None = Field(
        default=None,
        description="Where nodes may run. Omitted: everywhere, spread over zones. Fixed once the cluster exists, in "
        "this version, but for nodeLossGraceSeconds.",
    )
    parameters: Parameters | None = Field(
        default=None,
        description="Parameters of the engine by their names in valkey.conf, for example maxmemory-policy: "
        "allkeys-lru. Edits take effect on running nodes, without a restart; those few that the engine reads only when "
        "it starts (cluster-databases, io-threads before 9.0, rdbchecksum and others of that kind) are rolled out node "
        "by node.",
    )
    auth: Auth | None = Field(
        default=None,
        description="How clients prove who they are. Omitted: mode Password. Fixed once the cluster exists, in this "
        "version.",
    )
    network: Network | None = Field(
        default=None, description="Who may connect. Omitted: pods of the own namespace. Edits take effect at once."
    )
    pod: PodOverlay | None = Field(
        default=None, description="Additions to the pods. Edits are rolled out node by node."
    )
    deletion_policy: DeletionPolicy | None = Field(
        default=None,
        description="What becomes of the volumes when the CacheCluster is deleted: Delete or Retain. Omitted: Retain.",
    )
    paused: Flag | None = Field(
        default=None, description="true: the operator changes nothing at all, not even to repair, and says so."
    )

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> Self:
        """Validate ``raw``; raises ``pydantic.ValidationError``."""
        return cls.model_validate(raw)

    @property
    def persistence_mode(self) -> PersistenceMode:
        """The mode in force."""
        return self.persistence.mode if self.persistence else PersistenceMode.NONE

    @property
    def durability_mode(self) -> DurabilityMode:
        """The mode in force."""
        return self.durability.mode if self.durability else DurabilityMode.DEFAULT

    @property
    def on_data_loss(self) -> OnDataLoss:
        """What is in force: caches start empty, what was stored on volumes may still be brought back."""
        if self.recovery is not None:
            return self.recovery.on_data_loss
        volatile = self.persistence_mode is PersistenceMode.NONE
        return OnDataLoss.RECREATE if volatile else OnDataLoss.WAIT_FOR_APPROVAL

    @property
    def auth_mode(self) -> AuthMode:
        """The mode in force."""
        return self.auth.mode if self.auth else AuthMode.PASSWORD

    @property
    def node_loss_grace_seconds(self) -> int:
        """The grace in force."""
        given = self.placement.node_loss_grace_seconds if self.placement else None
        return NODE_LOSS_GRACE_SECONDS if given is None else given

    @property
    def members_per_shard(self) -> int:
        """Primary and replicas of a shard."""
        return 1 + self.topology.replicas_per_shard
