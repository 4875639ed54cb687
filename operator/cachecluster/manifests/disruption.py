"""PodDisruptionBudgets. They are disjoint by the role label: two on one pod would make every eviction fail.

``minAvailable`` because ``maxUnavailable`` counts the StatefulSets' scale, not the pods that a budget selects.
"""

from collections.abc import Mapping

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests.metadata import cluster_selector, metadata, shard_selector


def budgets(ref: ClusterRef, members: Mapping[int, int]) -> tuple[Manifest, ...]:
    """No primary may be evicted, and one replica of each shard at a time; none for shards without replicas.

    A drain then waits until the operator has moved the primary role off the node. ``members`` counts primary and
    replicas by shard index.
    """
    replicas = {shard: count - 1 for shard, count in members.items() if count > 1}
    if not replicas:
        return ()
    primaries = _budget(
        ref,
        names.primaries_budget(ref.name),
        None,
        cluster_selector(ref) | {names.LABEL_ROLE: names.ROLE_PRIMARY},
        len(members),
    )
    return (
        primaries,
        *(
            _budget(
                ref,
                names.replicas_budget(ref.name, shard),
                shard,
                shard_selector(ref, shard) | {names.LABEL_ROLE: names.ROLE_REPLICA},
                count - 1,
            )
            for shard, count in replicas.items()
        ),
    )


def _budget(ref: ClusterRef, name: str, shard: int | None, labels: dict[str, str], min_available: int) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(ref, name, shard=shard),
        "spec": {
            "minAvailable": min_available,
            "selector": {"matchLabels": labels},
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
        },
    }
