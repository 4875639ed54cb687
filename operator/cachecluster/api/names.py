"""Names, labels and annotations of everything the operator owns. Nothing else may spell them out."""

import hashlib
from typing import Final

GROUP: Final = "cachecluster.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
KIND: Final = "CacheCluster"
PLURAL: Final = "cacheclusters"

FIELD_MANAGER: Final = "cachecluster-operator"
FINALIZER: Final = f"{GROUP}/operator"
SYSTEM_SECRET_FINALIZER: Final = f"{GROUP}/passwords-in-use"

LABEL_CLUSTER: Final = f"{GROUP}/cluster"
LABEL_SHARD: Final = f"{GROUP}/shard"
LABEL_ROLE: Final = f"{GROUP}/role"
LABEL_REVISION: Final = "controller-revision-hash"
LABEL_POD_NAME: Final = "statefulset.kubernetes.io/pod-name"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "cachecluster-operator"

ANNOTATION_APPLIED: Final = f"{GROUP}/applied-hash"
"""SHA-256 of our last applied manifest: tells a field that we no longer send from one that others own."""
ANNOTATION_TEMPLATE: Final = f"{GROUP}/template-hash"
"""SHA-256 of a StatefulSet's pod template as we built it (golden over operator releases, rule S9)."""
ANNOTATION_FIXED: Final = f"{GROUP}/fixed-hash"
"""On a pod: hash of what of its template only another pod can have; the rest can change while it runs."""
ANNOTATION_FORMED: Final = f"{GROUP}/formed"
"""On a shard's StatefulSet: the slots that this shard has served. Absent: it has never held data."""
ANNOTATION_HISTORY: Final = f"{GROUP}/replication-id"
"""On a shard's StatefulSet: the replication history that its primary was last seen serving; only with snapshots, which
remember the history that they belong to (S5)."""

ANNOTATION_LIVE_NAMES: Final = f"{GROUP}/live-parameters"
"""On the ConfigMap of live parameters: all that may ever have been set on a running node, so that one that the user
takes back is set back."""

ANNOTATION_ACCEPT_LOSS: Final = f"{GROUP}/accept-data-loss"
"""On the CacheCluster: what lets nodes restart whose data exists nowhere else, as the message asks for it (S8)."""

ANNOTATION_APPROVE_LOSS: Final = f"{GROUP}/approve-data-loss"
"""On the CacheCluster: the incident (``status.dataLoss.incident``) whose data is given up, so that its slots start
empty (S2)."""

ANNOTATION_FAILOVER: Final = f"{GROUP}/failover-from"
"""On the CacheCluster: the pod that is to stop being a primary, once; after an ``@`` anything that makes the request
differ from the last one (``cart-0-1@2026-01-31T12:00:00Z``)."""

ANNOTATION_RESTARTED: Final = f"{GROUP}/restarted-at"
"""On the CacheCluster: another value replaces every pod, one at a time. On a pod: the restart that it came with."""

ANNOTATION_FENCE: Final = f"{GROUP}/fence"
"""On the pod of a primary: which process of it asks for a replica before it writes, and has not been told to do without
since; and whether another has been told to lead in its place (``domain.fence``).
"""
ANNOTATION_CLUSTER_UID: Final = f"{GROUP}/cluster-uid"
"""On a volume claim: the CacheCluster whose data it holds, told from an earlier one of the same name."""

RECORD_SUFFIX: Final = "-record"

TAINT_OUT_OF_SERVICE: Final = "node.kubernetes.io/out-of-service"
"""On a Kubernetes node: somebody vouches for it that its machine is off (kubernetes.io, "Non-graceful shutdown")."""

ROLE_PRIMARY: Final = "primary"
ROLE_REPLICA: Final = "replica"

CACHE_PORT: Final = 6379
CONTAINER: Final = "engine"
DATA_VOLUME: Final = "data"
CONFIG_VOLUME: Final = "config"
LIVE_VOLUME: Final = "live"
ZONE_LABEL: Final = "topology.kubernetes.io/zone"

USER_OPERATOR: Final = "cachecluster-operator"
USER_REPLICATION: Final = "cachecluster-replication"
"""In the mounted files; on a node it has the name of its shard's (``user_of``)."""
USER_NODE: Final = "cachecluster-node"
"""For the pod's own scripts: probes, the start guard, the hand-over before termination."""
USER_APPLICATION: Final = "default"
DETECTOR: Final = "cachecluster-detector"
"""Name of the connections that tell the operator when a node ends, and the channel that they are subscribed to."""


def shard_name(cluster: str, shard: int) -> str:
    """StatefulSet of one shard, for example ``cart-0``."""
    return f"{cluster}-{shard}"


def pod_name(cluster: str, shard: int, ordinal: int) -> str:
    """Pod of one node, for example ``cart-0-1``."""
    return f"{cluster}-{shard}-{ordinal}"


def volume_claim(cluster: str, shard: int, ordinal: int) -> str:
    """Claim for the volume of one node, as the StatefulSet controller names it, for example ``data-cart-0-1``."""
    return f"{DATA_VOLUME}-{pod_name(cluster, shard, ordinal)}"


def nodes_service(cluster: str) -> str:
    """Headless service that gives each pod its name."""
    return f"{cluster}-nodes"


def endpoint_service(cluster: str) -> str:
    """Configuration endpoint: any node of the cluster."""
    return cluster


def auth_secret(cluster: str) -> str:
    """User name and password of the application."""
    return f"{cluster}-auth"


def system_secret(cluster: str) -> str:
    """The source of every generated password; created once, never applied."""
    return f"{cluster}-system"


def acl_secret(cluster: str) -> str:
    """What the pods mount: hashed users and the replication credentials."""
    return f"{cluster}-acl"


def user_of(user: str, shard: int) -> str:
    """What a user is called on the nodes of a shard: replication's is each shard's own (ADR 0022)."""
    return f"{user}-{shard}" if user == USER_REPLICATION else user


def users_file(version: str) -> str:
    """Key of that Secret: the users as nodes of one release family read them."""
    return f"users-{version}.acl"


def quarantine_file(version: str) -> str:
    """The same with the application and replication off (S5)."""
    return f"users-{version}-quarantine.acl"


def connection_secret(cluster: str) -> str:
    """uri, host, port, username and password, for ``envFrom``."""
    return f"{cluster}-connection"


def config_map(cluster: str, content_hash: str) -> str:
    """Immutable configuration and scripts; a pod only sees the one it was rolled to."""
    return f"{cluster}-config-{content_hash}"


def live_config_map(cluster: str, version: str) -> str:
    """Parameters that change without a restart, as nodes of one release family read them when they start."""
    return f"{cluster}-live-{version}"


def shard_record(cluster: str, shard: int) -> str:
    """ConfigMap that keeps what only a StatefulSet knows while that is deleted and created again."""
    return f"{shard_name(cluster, shard)}{RECORD_SUFFIX}"


def no_revision(cluster: str, shard: int) -> str:
    """What a pod that is being resized has for a revision: none that its StatefulSet knows."""
    return f"{shard_name(cluster, shard)}-resizing"


def primaries_budget(cluster: str) -> str:
    """PodDisruptionBudget over the primaries of all shards."""
    return f"{cluster}-primaries"


def replicas_budget(cluster: str, shard: int) -> str:
    """PodDisruptionBudget over the replicas of one shard."""
    return f"{cluster}-{shard}-replicas"


def network_policy(cluster: str) -> str:
    """NetworkPolicy over the cluster's pods."""
    return cluster


def bus_port(namespace: str, cluster: str) -> int:
    """Port of the cluster bus, 20000..29999, fixed by namespace and name.

    Two clusters that come to reuse each other's addresses then do not reach each other by gossip (S4).
    The range ends below the kernel's ephemeral ports (``ip_local_port_range``, 32768 and up).
    """
    digest = hashlib.sha256(f"{namespace}/{cluster}".encode()).digest()
    return 20000 + int.from_bytes(digest[:4], "big") % 10000
