"""Metadata that every child carries: labels, owner, and selectors over them."""

from collections.abc import Mapping
from typing import Any

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef


def recommended_labels(ref: ClusterRef) -> dict[str, str]:
    """Labels of all objects of a cluster (kubernetes.io "Recommended Labels", and our own)."""
    return {
        "app.kubernetes.io/name": "cachecluster",
        "app.kubernetes.io/instance": ref.name,
        "app.kubernetes.io/component": "cache",
        names.LABEL_MANAGED_BY: names.MANAGED_BY,
        names.LABEL_CLUSTER: ref.name,
    }


def owner(ref: ClusterRef) -> dict[str, Any]:
    """Owner reference to the CacheCluster: garbage collection takes the child with it."""
    return {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "name": ref.name,
        "uid": ref.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }


def metadata(
    ref: ClusterRef,
    name: str,
    *,
    shard: int | None = None,
    annotations: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Metadata of a child, labelled with its shard if it belongs to one."""
    labels = recommended_labels(ref) | ({names.LABEL_SHARD: str(shard)} if shard is not None else {})
    return {
        "name": name,
        "namespace": ref.namespace,
        "labels": labels,
        **({"annotations": dict(annotations)} if annotations else {}),
        "ownerReferences": [owner(ref)],
    }


def cluster_selector(ref: ClusterRef) -> dict[str, str]:
    """Selects the pods of the cluster."""
    return {names.LABEL_CLUSTER: ref.name}


def shard_selector(ref: ClusterRef, shard: int) -> dict[str, str]:
    """Selects the pods of one shard. Immutable in a StatefulSet: never change it."""
    return {names.LABEL_CLUSTER: ref.name, names.LABEL_SHARD: str(shard)}
