"""Services: a name for each node, and the configuration endpoint."""

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests.metadata import cluster_selector, metadata


def nodes_service(ref: ClusterRef) -> Manifest:
    """Headless Service with every pod, ready or not: nodes have to find each other before they are ready."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(ref, names.nodes_service(ref.name)),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": cluster_selector(ref),
            "ports": [
                {"name": "cache", "port": names.CACHE_PORT, "targetPort": "cache", "protocol": "TCP"},
                {
                    "name": "bus",
                    "port": names.bus_port(ref.namespace, ref.name),
                    "targetPort": "bus",
                    "protocol": "TCP",
                },
            ],
        },
    }


def endpoint_service(ref: ClusterRef) -> Manifest:
    """Configuration endpoint: any ready node; a cluster client learns the others from it."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(ref, names.endpoint_service(ref.name)),
        "spec": {
            "type": "ClusterIP",
            "selector": cluster_selector(ref),
            "ports": [{"name": "cache", "port": names.CACHE_PORT, "targetPort": "cache", "protocol": "TCP"}],
        },
    }
