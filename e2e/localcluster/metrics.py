"""metrics-server: what pods and nodes use of CPU and memory, for `kubectl top` and for autoscalers.

It runs beside the API server, which hands it all requests for its group of the API.
"""

import base64
from typing import Any, Final

from e2e.localcluster.instance import Instance
from e2e.localcluster.pki import INFRASTRUCTURE, METRICS_HOST, Pki

METRICS_SERVER: Final = "metrics-server"
METRICS_API: Final = "/apis/metrics.k8s.io/v1beta1"
METRICS_PORT: Final = 4443
RESOLUTION_SECONDS: Final = 10
"""The least that it accepts."""
KUBELET_SECONDS: Final = 5


def metrics_server_flags(pki: Pki) -> list[str]:
    """Its command line."""
    config = pki.kubeconfig(INFRASTRUCTURE)
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--secure-port={METRICS_PORT}",
        f"--tls-cert-file={pki.metrics}",
        f"--tls-private-key-file={pki.metrics_key}",
        f"--metric-resolution={RESOLUTION_SECONDS}s",
        f"--kubelet-request-timeout={KUBELET_SECONDS}s",
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-insecure-tls",  # kubelets sign their certificates themselves
    ]


def metrics_objects(instance: Instance, authority: bytes) -> list[dict[str, Any]]:
    """What tells the API server where it is; `authority` is the CA certificate, PEM, that vouches for it."""
    name, namespace = METRICS_HOST.split(".")[:2]
    place = {"name": name, "namespace": namespace}
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": place,
        "spec": {"ports": [{"name": "https", "port": 443, "targetPort": METRICS_PORT}]},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{name}-fabric",
            "namespace": namespace,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": "IPv4",
        "ports": [{"name": "https", "port": METRICS_PORT, "protocol": "TCP"}],
        "endpoints": [{"addresses": [str(instance.control_plane)], "conditions": {"ready": True}}],
    }
    service_of_the_api = {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": "v1beta1.metrics.k8s.io"},
        "spec": {
            "group": "metrics.k8s.io",
            "version": "v1beta1",
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": place,
            "caBundle": base64.b64encode(authority).decode(),
        },
    }
    return [service, endpoints, service_of_the_api]
