"""The operator's whole view of the Kubernetes API: a few methods on plain dicts, and its errors."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol


class KubeError(Exception):
    """A call to the API server failed; ``str()`` is for people and holds no secret."""


class NotFound(KubeError):
    """HTTP 404."""


class Conflict(KubeError):
    """HTTP 409: exists already, or resourceVersion/uid/field-manager precondition failed. Read again, then decide."""


class Rejected(KubeError):
    """HTTP 400, 403, 422: the object was refused (schema, admission, quota, RBAC). Retrying as is will not help."""


class Throttled(KubeError):
    """HTTP 429. ``retry_after`` is in seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(KubeError):
    """No answer in time, connection refused, or HTTP 5xx: unknown whether a write happened."""


class KubeApi(Protocol):
    """Namespaced objects by apiVersion and kind. Every call is bounded in time; raises KubeError only."""

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """Read one object; raises NotFound."""
        ...

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        label_selector: str = "",
        *,
        field_selector: str = "",
    ) -> Sequence[dict[str, Any]]:
        """Read all matching objects, each with apiVersion and kind; None: all namespaces or cluster-scoped."""
        ...

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """POST; raises Conflict if it exists."""
        ...

    async def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply with our field manager, forced. A metadata.uid in the manifest is a precondition."""
        ...

    async def merge_patch(
        self, api_version: str, kind: str, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """JSON merge patch; metadata.uid/resourceVersion inside the patch act as preconditions."""
        ...

    async def patch_status(
        self, api_version: str, kind: str, namespace: str, name: str, status: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Server-side apply of the status subresource."""
        ...

    async def resize_pod(
        self, namespace: str, name: str, uid: str, container: str, resources: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Change the resources of a running container; raises Rejected where that cannot be."""
        ...

    async def serves(self, api_version: str, resource: str) -> bool:
        """Whether the API server has a resource or subresource, such as ``pods/resize``; by discovery."""
        ...

    async def replace(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """PUT; metadata.resourceVersion is the precondition."""
        ...

    async def delete(
        self,
        api_version: str,
        kind: str,
        namespace: str,
        name: str,
        *,
        uid: str,
        resource_version: str | None,
        orphan: bool = False,
        grace_seconds: int | None = None,
    ) -> None:
        """Delete only the object that was seen; raises Conflict if it is another by now. Gone already is fine.

        ``orphan``: what it owns stays, without an owner. ``grace_seconds``: of a pod, other than its own.
        """
        ...
