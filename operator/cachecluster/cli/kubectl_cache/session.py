"""What every verb works with: the API server, the namespace, the screen; and how it reads clusters."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.screen import Screen
from cachecluster.kube.api import KubeApi, NotFound, Rejected

LOOK_SECONDS: Final = 0.5
"""Between two looks at a cluster that is waited for."""


class Problem(Exception):
    """Ends the command with one line for people: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the command."""

    kube: KubeApi
    namespace: str
    screen: Screen
    operator_namespace: str
    in_cluster: bool = False
    """Runs in a pod, with its service account."""
    now: Callable[[], float] = time.time
    """Unix seconds."""
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep

    async def cluster(self, name: str) -> dict[str, Any]:
        """The CacheCluster; raises Problem if there is none."""
        try:
            return await self.kube.get(names.API_VERSION, names.KIND, self.namespace, name)
        except NotFound:
            raise Problem(f"no CacheCluster {name} in namespace {self.namespace}{await self._others()}") from None

    async def _others(self) -> str:
        """What there is instead, for who may know."""
        try:
            others = sorted(str(c["metadata"]["name"]) for c in await self.clusters())
        except Rejected:
            return ""
        return f": there are {', '.join(others)}" if others else ": there is none"

    async def clusters(self) -> Sequence[dict[str, Any]]:
        """All CacheClusters of the namespace; raises Problem if this Kubernetes does not know the kind."""
        try:
            return await self.kube.list(names.API_VERSION, names.KIND, self.namespace)
        except NotFound:
            message = (
                "this Kubernetes knows no CacheClusters: install cachecluster-operator, or choose another --context"
            )
            raise Problem(message) from None

    async def children(self, api_version: str, kind: str, name: str) -> Sequence[dict[str, Any]]:
        """Objects of one kind that belong to a cluster."""
        return await self.kube.list(api_version, kind, self.namespace, f"{names.LABEL_CLUSTER}={name}")

    async def annotate(self, body: Mapping[str, Any], key: str, value: str | None, version: str | None = None) -> None:
        """Annotate that very CacheCluster; None takes the annotation away. Raises Conflict if it has changed since
        ``version`` or is another by now.
        """
        metadata = {"uid": body["metadata"]["uid"], "annotations": {key: value}}
        if version is not None:
            metadata["resourceVersion"] = version
        name = body["metadata"]["name"]
        await self.kube.merge_patch(names.API_VERSION, names.KIND, self.namespace, name, {"metadata": metadata})

    def stamp(self) -> str:
        """The present moment as an annotation has it."""
        return datetime.fromtimestamp(self.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
