"""A cluster of real nodes that the operator's own loop forms and looks after. Kubernetes is a model, in real time."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from redis import exceptions
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, PersistenceMode
from cachecluster.domain.slots import share
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.lease import boot_time
from cachecluster.manifests import acl, system_secret
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile import loop
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.wake import Wake
from tests.engines.fleet import CONNECTOR, PASSWORDS, of_shard
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.tags import tag
from tests.engines.harness.waiting import until
from tests.simulation.clock import Clock
from tests.simulation.kubernetes.scheduler import Hosts, Scheduler
from tests.simulation.kubernetes.server import Server
from tests.simulation.kubernetes.statefulset import StatefulSets
from tests.simulation.kubernetes.store import Key, Object, Store, rfc3339
from tests.simulation.operating.faults import NO_FAULTS, Interference
from tests.simulation.operating.kube import Kube
from tests.simulation.operating.operator import Recorder

NAMESPACE: Final = "shop"
END_SECONDS: Final = 60
"""For the operator to leave its pass, and for processes that have been killed to begin anew."""


class WallClock(Clock):
    """Real time, for the models of Kubernetes."""

    def __init__(self) -> None:
        self.later: Callable[..., Any] = asyncio.get_running_loop().call_later
        self._seed = "wall"

    def now(self) -> float:
        """Unix seconds."""
        return time.time()

    async def sleep(self, seconds: float) -> None:
        """As long as it takes."""
        await asyncio.sleep(seconds)


class Operated:
    """A CacheCluster whose pods are processes: the one that is called like a pod gets its address."""

    def __init__(self, cluster: ProcessCluster, spec: dict[str, Any]) -> None:
        self.cluster, self.spec = cluster, CacheClusterSpec.parse(spec)
        clock = WallClock()
        self.store = Store(clock)
        self.hosts = Hosts.in_zones(3, 2)
        self.recorder = Recorder()
        self.wake = Wake()
        self._ends: list[asyncio.Task[None]] = []
        self._controllers = (Scheduler(self.store, clock, self.hosts), StatefulSets(self.store, clock))
        self.store.watchers.append(self._changed)
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "spec": spec}
        metadata = {"name": "cart", "namespace": NAMESPACE, "finalizers": [names.FINALIZER]}
        made = self.store.insert({**body, "metadata": metadata})
        self.ref = ClusterRef(NAMESPACE, "cart", made["metadata"]["uid"])
        self.store.insert(dict(system_secret(self.ref, PASSWORDS)))
        self.deps = Dependencies(
            kube=Kube(Server(self.store), self.hosts, Interference(clock, NO_FAULTS, "operator")),
            nodes=CONNECTOR,
            hosts=lambda: dict(self.hosts.by_name),
            now=time.time,
            generate_password=str,
            operator_namespace="cachecluster-system",
            events=self.recorder,
            leader=lambda: True,
            watcher=CONNECTOR,
            clock=boot_time,
        )

    def status(self) -> Object:
        """Of the CacheCluster."""
        body = self.store.get(Key(names.KIND, NAMESPACE, "cart"))
        found: Object = (body or {}).get("status", {})
        return found

    def primary(self, shard: int) -> NodeProcess:
        """Who leads a shard, as the status says."""
        return self.cluster[self.status()["shards"][shard]["primary"]["pod"]]

    def replica(self, shard: int) -> NodeProcess:
        """The first who follows that one."""
        return self.cluster[self.status()["shards"][shard]["replicas"][0]["pod"]]

    async def until_whole(self) -> None:
        """Every shard has all its copies, every node knows them as such, and the operator has nothing left to do."""
        try:
            await until(self._whole, "the cluster is whole", 60)
        except TimeoutError as error:
            raise TimeoutError(f"{error}, but {self.status().get('message')}") from None

    async def _whole(self) -> bool:
        found = {c["type"]: c["status"] for c in self.status().get("conditions", ())}
        if found.get("Ready") != "True" or found.get("Degraded") != "False" or found.get("Reconciling") != "False":
            return False
        tables = [await node.call("CLUSTER", "NODES") for node in self.cluster]
        replicas = len(tables) - self.spec.topology.shards
        return all(table.count("slave") == replicas and "fail" not in table for table in tables)

    async def start(self) -> None:
        """Run a blank node for each pod that there will be; they are given their tasks by the operator."""
        topology = self.spec.topology
        members = range(1 + topology.replicas_per_shard)
        for shard, name in ((s, names.pod_name("cart", s, o)) for s in range(topology.shards) for o in members):
            directory = self.cluster.directory / name
            directory.mkdir(parents=True)
            users = acl.quarantine_file(self.spec.version, self.spec.auth_mode, PASSWORDS)
            (directory / "users.acl").write_text(of_shard(users, shard))
            options = {
                "aclfile": str(directory / "users.acl"),
                "primaryuser": names.user_of(names.USER_REPLICATION, shard),
                "primaryauth": PASSWORDS.replication,
                "cluster-port": str(names.bus_port(NAMESPACE, "cart")),
                "cluster-node-timeout": "5000",
                "repl-ping-replica-period": "1",
                "appendonly": "yes" if self.spec.persistence_mode is PersistenceMode.APPEND_ONLY else "no",
            }
            node = self.cluster.add(name, options=options, username=names.USER_OPERATOR, password=PASSWORDS.operator)
            await node.start()

    async def restart(self, node: NodeProcess) -> None:
        """Start a killed node as the pods' start script does where its memory was all that it had: blank and closed."""
        (node.data / "nodes.conf").unlink()
        await node.start()

    def _changed(self, key: Key, body: Object | None) -> None:
        """The kubelet's part, which says that all is well as long as nobody deletes the pod; and the watch's."""
        self.wake.set()
        if key.kind == "Pod" and body is not None and "deletionTimestamp" in body["metadata"]:
            self._ends.append(asyncio.get_running_loop().create_task(self._end(key)))
            return
        if key.kind != "Pod" or body is None or not body["spec"].get("nodeName") or body["status"].get("podIP"):
            return
        now = rfc3339(time.time() - 60)
        container = {
            "name": names.CONTAINER,
            "state": {"running": {"startedAt": now}},
            "restartCount": 0,
            "resources": body["spec"]["containers"][0]["resources"],
        }
        status = {
            "phase": "Running",
            "podIP": self.cluster[key.name].address,
            "conditions": [*body["status"].get("conditions", ()), {"type": "Ready", "status": "True"}],
            "containerStatuses": [container],
        }
        asyncio.get_running_loop().call_soon(self.store.update, {**body, "status": status})

    async def _end(self, key: Key) -> None:
        """Kill the process; it begins anew in the pod that comes next."""
        await self.cluster[key.name].kill()
        self.store.remove(key)
        await self.restart(self.cluster[key.name])

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """With an operator."""
        stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(loop.run(self.ref, self.deps, self.wake, stop, metrics=Metrics()))
        try:
            yield
        finally:
            stop.set_result(None)
            async with asyncio.timeout(END_SECONDS):
                await asyncio.gather(task, *self._ends)


def key_of(shard: int, shards: int) -> str:
    """Some key that a shard serves."""
    return tag(next(iter(share(shards)[shard]))).decode()


def application(node: NodeProcess, within: float) -> Redis:
    """A client of one node, as an application; each command takes so many seconds at most."""
    return Redis(
        host=node.address,
        port=node.port,
        username=names.USER_APPLICATION,
        password=PASSWORDS.application,
        socket_timeout=within,
        socket_connect_timeout=within,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )


async def until_it_takes_writes(node: NodeProcess, key: str, within: float = 10.0) -> float:
    """Write to a node until it accepts; when that was (monotonic seconds). Raises TimeoutError."""
    async with application(node, within) as client, asyncio.timeout(within):
        while True:
            with contextlib.suppress(exceptions.ResponseError):
                await client.set(key, "value")
                return time.monotonic()
            await asyncio.sleep(0.001)
