"""KubeApi over the model's API server, as one incarnation of the operator sees it."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.simulation.kubernetes.scheduler import Hosts
from tests.simulation.kubernetes.server import Server
from tests.simulation.operating.faults import Interference


class Kube:
    """Every call may be late, lost, refused or answered from the past."""

    def __init__(self, server: Server, hosts: Hosts, interference: Interference) -> None:
        self._server, self._hosts, self._way = server, hosts, interference

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """GET."""
        if kind == "Node":
            return await self._way.kube_read(lambda _: self._hosts.read(name))
        return await self._way.kube_read(lambda _: self._server.read(kind, namespace, name))

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        label_selector: str = "",
        *,
        field_selector: str = "",
    ) -> Sequence[dict[str, Any]]:
        """LIST. What is selected by fields are Events, which nobody writes here."""
        assert not field_selector or kind == "Event"
        store = self._server.store
        return await self._way.kube_read(lambda age: store.select(kind, namespace or "", label_selector, age=age))

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """POST."""
        return await self._way.kube_write(_what("create", manifest), lambda: self._server.create(manifest))

    async def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """Server-side apply."""
        return await self._way.kube_write(_what("apply", manifest), lambda: self._server.apply(manifest))

    async def merge_patch(
        self, api_version: str, kind: str, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """PATCH."""
        return await self._way.kube_write(
            f"patch {kind} {name} {patch}", lambda: self._server.merge_patch(kind, namespace, name, patch)
        )

    async def resize_pod(
        self, namespace: str, name: str, uid: str, container: str, resources: Mapping[str, Any]
    ) -> dict[str, Any]:
        """PATCH resize."""
        return await self._way.kube_write(
            f"resize Pod {name} {resources}", lambda: self._server.resize(namespace, name, uid, container, resources)
        )

    async def serves(self, api_version: str, resource: str) -> bool:
        """Discovery."""
        return await self._way.kube_read(lambda _: resource in self._server.resources)

    async def patch_status(
        self, api_version: str, kind: str, namespace: str, name: str, status: Mapping[str, Any]
    ) -> dict[str, Any]:
        """PATCH status."""
        return await self._way.kube_write(
            f"status {kind} {name}: {status.get('reason')}: {status.get('message')}",
            lambda: self._server.apply_status(kind, namespace, name, status),
        )

    async def replace(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """PUT."""
        return await self._way.kube_write(_what("replace", manifest), lambda: self._server.replace(manifest))

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
        """DELETE."""
        await self._way.kube_write(
            f"delete {kind} {name}{' alone' if orphan else ''}{' by force' if grace_seconds == 0 else ''}",
            lambda: self._server.delete(
                kind, namespace, name, uid, resource_version, orphan=orphan, grace=grace_seconds
            ),
        )


def _what(verb: str, manifest: Mapping[str, Any]) -> str:
    partition = manifest.get("spec", {}).get("updateStrategy", {}).get("rollingUpdate", {}).get("partition")
    extra = f" partition={partition}" if partition is not None else ""
    return f"{verb} {manifest['kind']} {manifest['metadata']['name']}{extra}"
