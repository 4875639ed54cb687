"""One incarnation of the operator: the real loop with real passes, until it is killed."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, Literal

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.snapshot import ClusterRef, Host
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile import loop as reconcile_loop
from cachecluster.reconcile.dependencies import Dependencies, Memory
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.gather import Gone
from cachecluster.reconcile.pass_ import PassResult, run_pass
from cachecluster.reconcile.wake import Wake
from tests.simulation.kubernetes.store import Key
from tests.simulation.operating.connector import Connector
from tests.simulation.operating.faults import Faults, Interference, Killed
from tests.simulation.operating.kube import Kube

if TYPE_CHECKING:
    from tests.simulation.world import World

METRICS: Final = Metrics()


class Recorder:
    """Events, kept."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Reason, str]] = []

    async def record(self, ref: ClusterRef, type_: Literal["Normal", "Warning"], reason: Reason, message: str) -> None:
        """Keep it."""
        self.events.append((type_, reason, message))


class Operator:
    """A process of the operator that looks after one cluster."""

    def __init__(self, world: "World", ref: ClusterRef, number: int, faults: Faults) -> None:
        self.world, self.ref, self.number = world, ref, number
        self.born = world.clock.now()
        self.way = Interference(world.clock, faults, f"{ref.name} {number}")
        self.way.trace = lambda what: world.note(f"op{number} {what}")
        self.way.on_death = self.end
        self.leads_until = 0.0
        """So long (loop time) it takes itself for the leader although another one leads."""
        self._index: Mapping[str, Host] = {}
        connector = Connector(world.network, self.way)
        self.deps = Dependencies(
            kube=Kube(world.server, world.hosts, self.way),
            nodes=connector,
            hosts=self._hosts,
            now=self._now,
            generate_password=world.new_password,
            operator_namespace=world.operator_namespace,
            events=world.recorder,
            leader=self.leads,
            watcher=connector,
            clock=world.loop.time,
        )
        self.wake = Wake()
        self.abandoned = False
        """Nobody starts another one when it has ended."""
        self.passes = 0
        self.looking = False
        self.began = 0.0
        """When the last pass did."""
        self.last: PassResult | None = None
        random.seed(f"{world.seed}/operator {number}")  # the loop's own jitter
        self.stop: asyncio.Future[Any] = world.loop.create_future()
        self.task = world.loop.create_task(self._live())

    def leads(self) -> bool:
        """As it sees it."""
        leads = self.world.leader.get(self.ref.name) is self or self.world.loop.time() < self.leads_until
        return leads and not self.way.dead

    def _now(self) -> float:
        """By its machine's clock, which people set."""
        return self.world.clock.now() + self.world.operator_ahead

    def _hosts(self) -> Mapping[str, Host]:
        """As this process has seen them: what was before its time it does not know."""
        stale = self.way.faults.stale_index
        if not (self._index and stale and self.way.chance.random() < stale):
            seen = self.world.hosts.by_name
            self._index = {n: replace(h, not_ready_since=self._since(h.not_ready_since)) for n, h in seen.items()}
        return self._index

    def _since(self, moment: float | None) -> float | None:
        """As HostCache: how long ago is asked of a clock that nobody sets."""
        return None if moment is None else max(moment, self.born) + self.world.operator_ahead

    async def _live(self) -> None:
        try:
            await reconcile_loop.run(
                self.ref, self.deps, self.wake, self.stop, metrics=METRICS, one_pass=self._one_pass
            )
            if not self.way.dead:
                await reconcile_loop.finish(self.ref, self.deps, leaving=asyncio.Event())
                self._let_go()
        except (Killed, asyncio.CancelledError):
            self.way.dead = True

    async def _one_pass(self, ref: ClusterRef, deps: Dependencies, memory: Memory, detector: Detector) -> PassResult:
        """A pass, watched."""
        self.passes += 1
        self.looking = True
        self.began = self.world.loop.time()
        try:
            self.last = await run_pass(ref, deps, memory, detector)
        except Gone:
            if not self.stop.done():
                self.stop.set_result(None)
            raise
        finally:
            self.looking = False
            self.world.watch.after_pass(self, self.world.loop.time() - self.began)
        return self.last

    def _let_go(self) -> None:
        """The framework removes its finalizer from a deleted CacheCluster once its task has ended."""
        body = self.world.store.look(Key(names.KIND, self.ref.namespace, self.ref.name))
        if body is not None and body["metadata"]["uid"] == self.ref.uid and "deletionTimestamp" in body["metadata"]:
            self.world.store.update({**body, "metadata": {**body["metadata"], "finalizers": []}})

    def end(self) -> None:
        """The process is gone."""
        self.way.dead = True
        self.task.cancel()
