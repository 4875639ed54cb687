"""A watch that ends by an error: everything is set up again, and each cluster is looked after by one task alone."""

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pytest
from aiohttp import web

from cachecluster.api import names
from cachecluster.domain.plan import Plan
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.handlers import runtime
from cachecluster.handlers.register import LABELLED
from cachecluster.handlers.state import Shared
from cachecluster.kube.credentials import Credentials, Endpoint
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile.dependencies import Dependencies, Memory
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.hosts import HostCache
from cachecluster.reconcile.loop import Pace
from cachecluster.reconcile.pass_ import PassResult
from tests.dependencies import dependencies

PATIENCE: Final = 30.0
KOPFS_OWN: Final = (
    ("v1", "events"),
    ("v1", "namespaces"),
    ("apiextensions.k8s.io/v1", "customresourcedefinitions"),
)
KINDS: Final = (*LABELLED, *KOPFS_OWN, ("v1", "nodes"), (names.API_VERSION, names.PLURAL))
CLUSTER: Final[dict[str, Any]] = {
    "apiVersion": names.API_VERSION,
    "kind": names.KIND,
    "metadata": {
        "name": "cart",
        "namespace": "shop",
        "uid": "u",
        "resourceVersion": "5",
        "generation": 1,
        "finalizers": [names.FINALIZER],
    },
    "spec": {},
}
CHANGED: Final = {**CLUSTER, "metadata": {**CLUSTER["metadata"], "resourceVersion": "6", "labels": {"a": "b"}}}


class ApiServer:
    """Says what kinds there are, lists one CacheCluster, and sends what it is told to its watches.

    In a thread of its own: Kopf takes all tasks of its loop for its own.
    """

    def __init__(self) -> None:
        self.port = 0
        self.watches: dict[str, list[asyncio.Queue[Any]]] = {plural: [] for _, plural in KINDS}
        """All that there have been; nobody hears what is sent over those that have ended."""
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))
        self._thread.start()
        self._started.wait()

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.port = runner.addresses[0][1]
        self._started.set()
        await self._over.wait()
        await runner.cleanup()

    def send(self, plural: str, event: dict[str, Any]) -> None:
        for news in self.watches[plural]:
            self._loop.call_soon_threadsafe(news.put_nowait, event)

    async def watched(self, plural: str, *, times: int = 1) -> None:
        async with asyncio.timeout(PATIENCE):
            while len(self.watches[plural]) < times:  # noqa: ASYNC110 - it has a loop of its own
                await asyncio.sleep(0.01)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        groups = {version for version, _ in KINDS if "/" in version}
        if path == "/api":
            return web.json_response({"versions": ["v1"]})
        if path == "/apis":
            versions = [{"name": g.split("/")[0], "version": {"version": g.split("/")[1]}} for g in sorted(groups)]
            return web.json_response(
                {"groups": [{**v, "versions": [v["version"]], "preferredVersion": v["version"]} for v in versions]}
            )
        if path in {"/api/v1", *(f"/apis/{g}" for g in groups)}:
            return web.json_response({"resources": _resources(path.removeprefix("/apis/").removeprefix("/api/"))})
        plural = path.rsplit("/", 1)[1]
        if "watch" not in request.query:
            items = [CLUSTER] if plural == names.PLURAL else []
            return web.json_response({"metadata": {"resourceVersion": "5"}, "items": items})
        stream = web.StreamResponse()
        await stream.prepare(request)
        news: asyncio.Queue[Any] = asyncio.Queue()
        self.watches[plural].append(news)
        while request.transport is not None:
            event = await news.get()
            with contextlib.suppress(ConnectionError):
                await stream.write(json.dumps(event).encode() + b"\n")
        return stream


def _resources(version: str) -> list[dict[str, Any]]:
    verbs = ["list", "watch", "patch", "get"]
    plurals = [plural for v, plural in KINDS if v == version]
    return [{"name": p, "singularName": p[:-1], "kind": p, "namespaced": p != "nodes", "verbs": verbs} for p in plurals]


class Lists:
    """Of nodes and of CacheClusters, before Kopf begins."""

    async def list(self, *_: Any) -> Sequence[dict[str, Any]]:
        return []


class Looks:
    """Whose passes there have been: a task has one detector."""

    def __init__(self) -> None:
        self.by: list[int] = []
        self.more = asyncio.Condition()

    async def one_pass(self, _ref: ClusterRef, _deps: Dependencies, _memory: Memory, detector: Detector) -> PassResult:
        async with self.more:
            self.by.append(id(detector))
            self.more.notify_all()
        return PassResult(Plan(), (), None)

    async def of_another_than(self, detector: int) -> None:
        async with asyncio.timeout(PATIENCE), self.more:
            await self.more.wait_for(lambda: self.by[-1] != detector)

    async def next(self, count: int) -> list[int]:
        seen = len(self.by)
        async with asyncio.timeout(PATIENCE), self.more:
            await self.more.wait_for(lambda: len(self.by) >= seen + count)
        return self.by[seen:]


@pytest.fixture
def server() -> Iterator[ApiServer]:
    found = ApiServer()
    yield found
    found.end()


async def test_s7_each_cluster_has_one_task_after_a_watch_has_failed(server: ApiServer) -> None:
    class Given(Credentials):
        async def endpoint(self) -> Endpoint:
            return Endpoint(f"http://127.0.0.1:{server.port}", None, False, "token")

    looks, hosts = Looks(), HostCache()
    deps = dependencies(kube=Lists(), hosts=hosts.hosts)
    pace = Pace(resync=0.05)
    leaving, restarts = asyncio.Event(), asyncio.Queue[None]()
    shared = Shared(deps, hosts, Metrics(), Given(), leaving, one_pass=looks.one_pass, pace=pace)

    def on_ready(ready: bool) -> None:
        if ready:
            restarts.put_nowait(None)

    task = asyncio.create_task(runtime.serve(shared, (), on_ready=on_ready, take_signals=lambda: None))
    try:
        async with asyncio.timeout(PATIENCE):
            await restarts.get()
        await server.watched("services")
        await server.watched(names.PLURAL)
        [first] = await looks.next(1)
        server.send("services", {"type": "ERROR", "object": {"code": 500, "message": "etcdserver: no leader"}})
        await server.watched(names.PLURAL, times=2)
        server.send(names.PLURAL, {"type": "MODIFIED", "object": CHANGED})
        await looks.of_another_than(first)
        async with asyncio.timeout(PATIENCE):
            await restarts.get()
        await looks.next(20)
        assert len(set(await looks.next(20))) == 1
    finally:
        leaving.set()
        async with asyncio.timeout(PATIENCE):
            await task
    assert not [t for t in asyncio.all_tasks() if t.get_name().startswith("runner of")]
