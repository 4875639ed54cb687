"""Where each kind lives on the API server: a static table instead of discovery, because the operator uses few kinds."""

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from cachecluster.api import names


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind of object and its place in URLs."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True

    def path(self, namespace: str | None, name: str | None = None, subresource: str | None = None) -> str:
        """URL path of an object, or of a collection without ``name``; no namespace means all of them."""
        root = f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"
        parts = [root]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        if self.plural:
            parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


RESOURCES: Final = (
    Resource("v1", "Pod", "pods"),
    Resource("v1", "Secret", "secrets"),
    Resource("v1", "Service", "services"),
    Resource("v1", "ConfigMap", "configmaps"),
    Resource("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    Resource("v1", "Event", "events"),
    Resource("v1", "Node", "nodes", namespaced=False),
    Resource("apps/v1", "StatefulSet", "statefulsets"),
    Resource("apps/v1", "ControllerRevision", "controllerrevisions"),
    Resource("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Resource("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Resource("coordination.k8s.io/v1", "Lease", "leases"),
    Resource("storage.k8s.io/v1", "StorageClass", "storageclasses", namespaced=False),
    Resource(names.API_VERSION, names.KIND, names.PLURAL),
)

_BY_KIND: Final = {(r.api_version, r.kind): r for r in RESOURCES}


def resource(api_version: str, kind: str) -> Resource:
    """Look one up; a kind that is not in the table is a programming error (ValueError)."""
    try:
        return _BY_KIND[api_version, kind]
    except KeyError:
        raise ValueError(f"{api_version} {kind} is not among the kinds that the operator uses") from None
