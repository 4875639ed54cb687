"""NetworkPolicy: who may reach the nodes."""

from typing import Any

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, NetworkPeer, NetworkPolicyMode
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests.metadata import cluster_selector, metadata

OPERATOR_LABELS = {"app.kubernetes.io/name": "cachecluster-operator"}


def network_policies(spec: CacheClusterSpec, ref: ClusterRef, operator_namespace: str) -> tuple[Manifest, ...]:
    """The cache port for ``allowFrom``, the cluster itself and the operator; the bus port for the cluster alone.

    ``allowFrom`` omitted means the own namespace, empty means nobody else.
    """
    network = spec.network
    if network is not None and network.policy is NetworkPolicyMode.DISABLED:
        return ()
    own = {"podSelector": {"matchLabels": cluster_selector(ref)}}
    operator = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator_namespace}},
        "podSelector": {"matchLabels": dict(OPERATOR_LABELS)},
    }
    allow_from = network.allow_from if network is not None else None
    clients = [{"podSelector": {}}] if allow_from is None else [_peer(peer) for peer in allow_from]
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(ref, names.network_policy(ref.name)),
        "spec": {
            "podSelector": {"matchLabels": cluster_selector(ref)},
            "policyTypes": ["Ingress"],
            "ingress": [
                {"from": [own, operator, *clients], "ports": [_port(names.CACHE_PORT)]},
                {"from": [own], "ports": [_port(names.bus_port(ref.namespace, ref.name))]},
            ],
        },
    }
    return (policy,)


def _port(number: int) -> dict[str, Any]:
    return {"port": number, "protocol": "TCP"}


def _peer(peer: NetworkPeer) -> dict[str, Any]:
    """A peer as the API server stores it: empty lists and maps inside a selector are dropped, the selector stays."""
    dumped = peer.model_dump(by_alias=True, exclude_none=True, mode="json")
    return {part: _without_empty(value) for part, value in dumped.items()}


def _without_empty(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_empty(item) for key, item in value.items() if item not in ({}, [])}
    if isinstance(value, list):
        return [_without_empty(item) for item in value]
    return value
