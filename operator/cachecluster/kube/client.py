"""KubeApi on the HTTP layer of ``kubernetes.aio``: plain dicts, no typed models, every call bounded in time."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

import aiohttp
from kubernetes.aio.client.api_client import ApiClient

from cachecluster.api import names
from cachecluster.kube import errors
from cachecluster.kube.api import KubeError, NotFound, Unavailable
from cachecluster.kube.credentials import Credentials
from cachecluster.kube.resources import Resource, resource

STATUS_FIELD_MANAGER: Final = f"{names.FIELD_MANAGER}-status"
PAGE: Final = 500
"""Objects per list request, as many as client-go's pager asks for (k8s.io/client-go/tools/pager)."""
_RESTARTS: Final = 3
_JSON: Final = "application/json"
_STRATEGIC: Final = "application/strategic-merge-patch+json"
_MERGE: Final = "application/merge-patch+json"
_APPLY: Final = "application/apply-patch+yaml"

Observer = Callable[[str, str, str, float], None]
"""Called after each request with verb, kind, outcome (``ok`` or the error's class name) and seconds."""


def _unobserved(_verb: str, _kind: str, _outcome: str, _seconds: float) -> None:
    """Nobody counts."""


@dataclass(frozen=True, slots=True)
class _Request:
    verb: str
    method: str
    resource: Resource
    namespace: str | None
    name: str | None
    subresource: str | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    content_type: str | None = None
    body: Mapping[str, Any] | None = None

    @property
    def path(self) -> str:
        name = None if self.method == "POST" else self.name
        return self.resource.path(self.namespace, name, self.subresource)

    def __str__(self) -> str:
        where = "/".join(filter(None, (self.namespace, self.name)))
        return " ".join(filter(None, (self.verb, self.resource.kind, where)))


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    raw: bytes


class KubeClient:
    """Implements KubeApi. An async context manager; or ``close()`` it at the end."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        timeout: float = 15.0,
        concurrency: int = 32,
        observe: Observer = _unobserved,
        agent: str = names.FIELD_MANAGER,
    ) -> None:
        """``timeout`` is in seconds per request, not counting the wait for one of ``concurrency`` places.

        ``agent`` is the name under which the API server keeps what is written here.
        """
        self._agent = agent
        self._ours = {"fieldManager": agent}
        self._credentials = credentials
        self._seconds = timeout
        self._concurrency = concurrency
        self._places = asyncio.Semaphore(concurrency)
        self._observe = observe
        self._login = asyncio.Lock()
        self._api: Any = None

    async def __aenter__(self) -> Self:
        """Connections are opened when needed."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self.close()

    async def close(self) -> None:
        """Close all connections; a later call opens new ones."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """See KubeApi."""
        return await self._call(_Request("get", "GET", resource(api_version, kind), namespace, name))

    async def list(
        self,
        api_version: str,
        kind: str,
        namespace: str | None,
        label_selector: str = "",
        *,
        field_selector: str = "",
    ) -> Sequence[dict[str, Any]]:
        """See KubeApi. All pages are of one moment; if the server forgets it meanwhile (410), reading starts again."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = {name: selector for name, selector in selectors.items() if selector}
        for _ in range(_RESTARTS):
            try:
                return await self._pages(resource(api_version, kind), namespace, query)
            except errors.Expired:
                continue
        raise Unavailable(f"list {kind}: expired {_RESTARTS} times while it was being read")

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """See KubeApi."""
        return await self._call(_write("create", "POST", manifest, self._ours, _JSON))

    async def apply(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """See KubeApi."""
        return await self._call(_write("apply", "PATCH", manifest, self._ours | {"force": "true"}, _APPLY))

    async def replace(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        """See KubeApi."""
        return await self._call(_write("update", "PUT", manifest, self._ours, _JSON))

    async def merge_patch(
        self, api_version: str, kind: str, namespace: str, name: str, patch: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See KubeApi."""
        found = resource(api_version, kind)
        return await self._call(_Request("patch", "PATCH", found, namespace, name, None, self._ours, _MERGE, patch))

    async def resize_pod(
        self, namespace: str, name: str, uid: str, container: str, resources: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See KubeApi."""
        patch = {"metadata": {"uid": uid}, "spec": {"containers": [{"name": container, "resources": dict(resources)}]}}
        found = resource("v1", "Pod")
        return await self._call(
            _Request("resize", "PATCH", found, namespace, name, "resize", self._ours, _STRATEGIC, patch)
        )

    async def serves(self, api_version: str, resource: str) -> bool:
        """See KubeApi."""
        listed = await self._call(_Request("discover", "GET", Resource(api_version, "APIResourceList", ""), None, None))
        return any(found.get("name") == resource for found in listed.get("resources") or ())

    async def patch_status(
        self, api_version: str, kind: str, namespace: str, name: str, status: Mapping[str, Any]
    ) -> dict[str, Any]:
        """See KubeApi. The status has its own field manager: applying one part must not prune the other."""
        found = resource(api_version, kind)
        body = {
            "apiVersion": api_version,
            "kind": kind,
            "metadata": {"namespace": namespace, "name": name},
            "status": status,
        }
        query = {"fieldManager": STATUS_FIELD_MANAGER, "force": "true"}
        return await self._call(_Request("status", "PATCH", found, namespace, name, "status", query, _APPLY, body))

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
        """See KubeApi."""
        preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": preconditions,
            "propagationPolicy": "Orphan" if orphan else "Background",
            **({"gracePeriodSeconds": grace_seconds} if grace_seconds is not None else {}),
        }
        found = resource(api_version, kind)
        try:
            await self._call(_Request("delete", "DELETE", found, namespace, name, None, {}, _JSON, body))
        except NotFound:
            return

    async def _pages(
        self, found: Resource, namespace: str | None, selectors: Mapping[str, str]
    ) -> Sequence[dict[str, Any]]:
        items: list[dict[str, Any]] = []
        query = {"limit": str(PAGE), **selectors}
        while True:
            page = await self._call(_Request("list", "GET", found, namespace, None, None, query))
            items += ({"apiVersion": found.api_version, "kind": found.kind} | item for item in page.get("items") or ())
            token = (page.get("metadata") or {}).get("continue")
            if not token:
                return items
            query = query | {"continue": token}

    async def _call(self, request: _Request) -> dict[str, Any]:
        started = time.monotonic()
        outcome = "ok"
        try:
            async with self._places:
                started = time.monotonic()
                answer = await self._send_as_us(request)
            if answer.status >= 300:
                quotable = request.resource.kind != "Secret"
                raise errors.from_response(str(request), answer.status, answer.headers, answer.raw, quotable=quotable)
            return errors.parsed(str(request), answer.raw)
        except KubeError as error:
            outcome = type(error).__name__
            raise
        finally:
            self._observe(request.verb, request.resource.kind, outcome, time.monotonic() - started)

    async def _send_as_us(self, request: _Request) -> _Answer:
        """Send; if our token is not accepted any more, read the credentials again and send once more."""
        api = self._api or await self._log_in(None)
        answer = await self._send(api, request)
        if answer.status == 401:
            api = await self._log_in(api)
            answer = await self._send(api, request)
        return answer

    async def _log_in(self, rejected: Any) -> Any:
        """Replace the ``rejected`` connection pool, unless another call has done so meanwhile."""
        async with self._login:
            if self._api is None or self._api is rejected:
                configuration = await self._credentials.configuration()
                configuration.connection_pool_maxsize = self._concurrency
                old, self._api = self._api, ApiClient(configuration)
                self._api.user_agent = self._agent
                if old is not None:
                    await old.close()
            return self._api

    async def _send(self, api: Any, request: _Request) -> _Answer:
        headers = {"Accept": _JSON} | ({"Content-Type": request.content_type} if request.content_type else {})
        try:
            async with asyncio.timeout(self._seconds):
                _, url, headers, body, _ = await api.param_serialize(
                    request.method,
                    request.path,
                    query_params=list(request.query.items()),
                    header_params=headers,
                    body=dict(request.body) if request.body is not None else None,
                    auth_settings=["BearerToken"],
                )
                timeout = aiohttp.ClientTimeout(total=self._seconds, sock_connect=min(self._seconds, 5.0))
                response = await api.call_api(request.method, url, headers, body, _request_timeout=timeout)
                return _Answer(response.status, response.headers, await response.read())
        except TimeoutError as error:
            raise Unavailable(f"{request}: no answer within {self._seconds:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{request}: {error or type(error).__name__}") from error
        except RuntimeError as error:
            # How aiohttp says that its session is closed: another call has just replaced the credentials.
            raise Unavailable(f"{request}: the connection was closed") from error


def _write(verb: str, method: str, manifest: Mapping[str, Any], query: Mapping[str, str], media: str) -> _Request:
    metadata = manifest["metadata"]
    found = resource(manifest["apiVersion"], manifest["kind"])
    return _Request(verb, method, found, metadata.get("namespace"), metadata["name"], None, query, media, manifest)
