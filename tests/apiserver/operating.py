"""An operator under Kopf inside a test, with a pass that only records when it ran, and objects for it to see."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from cachecluster.api import names
from cachecluster.domain.plan import Plan
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.handlers.runtime import serve
from cachecluster.handlers.state import Shared
from cachecluster.kube.api import NotFound, Unavailable
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile.dependencies import Dependencies, Memory
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.hosts import HostCache
from cachecluster.reconcile.pass_ import PassResult
from cachecluster.reconcile.teardown import tear_down
from tests.dependencies import dependencies

PATIENCE = 30.0


class Operator:
    """A running operator and what its clusters' tasks have done."""

    def __init__(self, *, no_teardown: bool = False) -> None:
        self.passes: dict[str, int] = {}
        self.torn_down: list[str] = []
        self.no_teardown = no_teardown
        """Each attempt at a teardown fails."""
        self.refused: list[str] = []
        self.ready = False
        self.metrics = Metrics()
        self.hosts = HostCache()
        self.changed = asyncio.Condition()

    async def one_pass(self, ref: ClusterRef, _deps: Dependencies, _memory: Memory, _: Detector) -> PassResult:
        async with self.changed:
            self.passes[ref.name] = self.passes.get(ref.name, 0) + 1
            self.changed.notify_all()
        return PassResult(Plan(), (), None)

    async def last_act(self, ref: ClusterRef, deps: Dependencies) -> None:
        if not self.no_teardown:
            await tear_down(ref, deps)
        async with self.changed:
            (self.refused if self.no_teardown else self.torn_down).append(ref.name)
            self.changed.notify_all()
        if self.no_teardown:
            raise Unavailable("away")

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(condition)

    async def settled(self, name: str, kube: KubeClient) -> int:
        """Passes of a cluster once its finalizer is on and every event about it so far has been handled."""
        await until_gone_or(
            kube, name, lambda o: o is not None and names.FINALIZER in o["metadata"].get("finalizers", ())
        )
        await self.sees_status(name, kube, "Unknown")
        return self.passes[name]

    async def sees_status(self, name: str, kube: KubeClient, status: str) -> None:
        """Write a status and wait until its event has been handled, and with it all earlier ones of the object."""
        condition = {
            "type": "Ready",
            "status": status,
            "reason": "Testing",
            "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": 1,
        }
        await kube.patch_status(names.API_VERSION, names.KIND, name, name, {"conditions": [condition]})
        sample = f'cachecluster_clusters{{condition="Ready",status="{status}"}} 1.0'
        await eventually(lambda: sample in self.metrics.render().decode())
        await turns()


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - it becomes true inside the handlers, which signal nothing
            await asyncio.sleep(0.01)


async def turns() -> None:
    """Let whoever has been woken run."""
    for _ in range(50):
        await asyncio.sleep(0)


async def until_gone_or(
    kube: KubeClient, name: str, condition: Callable[[dict[str, Any] | None], bool]
) -> dict[str, Any] | None:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                found: dict[str, Any] | None = await kube.get(names.API_VERSION, names.KIND, name, name)
            except NotFound:
                found = None
            if condition(found):
                return found
            await asyncio.sleep(0.02)


async def wake_by_child(operator: Operator, name: str, kube: KubeClient, number: int) -> str:
    """Change a child and wait for the pass that comes of it; returns the child's uid."""
    count = operator.passes[name]
    changed = await kube.apply(child(name, {"number": str(number)}))
    await operator.until(lambda: operator.passes[name] > count)
    return str(changed["metadata"]["uid"])


def child(cluster: str, data: Mapping[str, str]) -> dict[str, Any]:
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_CLUSTER: cluster}
    metadata = {"name": f"{cluster}-child", "namespace": cluster, "labels": labels}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def system_secret(owner: Mapping[str, Any]) -> dict[str, Any]:
    name = owner["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": names.system_secret(name),
            "namespace": name,
            "labels": {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_CLUSTER: name},
            "finalizers": [names.SYSTEM_SECRET_FINALIZER],
            "ownerReferences": [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": names.KIND,
                    "name": name,
                    "uid": owner["metadata"]["uid"],
                    "controller": True,
                }
            ],
        },
    }


def volume_claim(owner: Mapping[str, Any]) -> dict[str, Any]:
    name = owner["metadata"]["name"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": f"data-{name}-0-0",
            "namespace": name,
            "labels": {names.LABEL_CLUSTER: name},
            "annotations": {names.ANNOTATION_CLUSTER_UID: owner["metadata"]["uid"]},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }


def pod(cluster: str, node: str) -> dict[str, Any]:
    labels = {names.LABEL_MANAGED_BY: names.MANAGED_BY, names.LABEL_CLUSTER: cluster}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{cluster}-0-0", "namespace": cluster, "labels": labels},
        "spec": {
            "nodeName": node,
            "automountServiceAccountToken": False,
            "containers": [{"name": "engine", "image": "valkey/valkey:8.1"}],
        },
    }


@asynccontextmanager
async def running(
    namespace: str,
    credentials: Credentials,
    kube: KubeClient,
    *,
    no_teardown: bool = False,
    leaves_within: float = 25.0,
) -> AsyncIterator[Operator]:
    """An operator for one namespace, which stops in time: the grace period of its pod is 30 s."""
    operator = Operator(no_teardown=no_teardown)
    deps = dependencies(kube=kube, hosts=operator.hosts.hosts, operator_namespace="default")
    shared = Shared(
        deps,
        operator.hosts,
        operator.metrics,
        credentials,
        asyncio.Event(),
        one_pass=operator.one_pass,
        last_act=operator.last_act,
    )
    ready = asyncio.Event()

    def on_ready(is_ready: bool) -> None:
        operator.ready = is_ready
        if is_ready:
            ready.set()

    task = asyncio.create_task(serve(shared, (namespace,), on_ready=on_ready, take_signals=lambda: None))
    try:
        async with asyncio.timeout(PATIENCE):
            await ready.wait()
        yield operator
        shared.leaving.set()
        async with asyncio.timeout(leaves_within):
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await asyncio.sleep(0.25)  # Kopf closes its HTTP session without awaiting TLS (aiohttp: "Graceful Shutdown")


async def delete_cluster(kube: KubeClient, created: Mapping[str, Any]) -> None:
    metadata = created["metadata"]
    await kube.delete(
        names.API_VERSION,
        names.KIND,
        metadata["namespace"],
        metadata["name"],
        uid=metadata["uid"],
        resource_version=None,
    )
