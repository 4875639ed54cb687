"""How soon writes go on after a primary was killed, with the operator and without; what a planned switch costs.

Real engine processes on loopback, three shards with a replica each, nothing on disk. The operator's loop runs in the
process that also measures.
"""

import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench.clients import Clients, probed
from bench.shop import leaders, shop
from bench.statistics import Percentiles, percentiles
from cachecluster.api import names
from tests.engines.fleet import as_operator
from tests.engines.harness.binaries import engine_binary
from tests.engines.harness.cluster import ProcessCluster, is_synced
from tests.engines.harness.waiting import until
from tests.engines.moving import Shop
from tests.engines.operated import NAMESPACE, Operated, key_of, until_it_takes_writes
from tests.simulation.kubernetes.store import Key

FAMILY: Final = "8.1"
SHARDS: Final = 3
NATIVE: Final = ((2000, 10), (5000, 10), (15000, 5))
"""Node timeout in milliseconds, and how often a primary is killed under it."""
SWITCHES: Final = 20
NATIVE_SECONDS: Final = 120.0
"""A first election that fails is repeated after four node timeouts."""


@dataclass(frozen=True, slots=True)
class Kills:
    """One way to get over the SIGKILL of a primary: milliseconds until its slots take writes again."""

    by: str
    node_timeout: int
    """Milliseconds."""
    kills: int
    times: Percentiles


def measure(kills: int) -> dict[str, Any]:
    """All comparisons."""
    by_operator, switches = asyncio.run(_by_operator(kills))
    rows = [by_operator, *(asyncio.run(_by_engine(timeout, count)) for timeout, count in NATIVE)]
    for row in (*rows, switches):
        print(row, file=sys.stderr)
    return {"kills": [asdict(row) for row in rows], "switches": {"count": SWITCHES, **asdict(switches)}}


async def _by_operator(kills: int) -> tuple[Kills, Clients]:
    async with _operated() as cart:
        times = []
        for index in range(kills):
            shard = index % SHARDS
            primary, heir = cart.primary(shard), cart.replica(shard)
            began = time.monotonic()
            await primary.kill()
            times.append(1000 * (await until_it_takes_writes(heir, key_of(shard, SHARDS), 30.0) - began))
            await cart.restart(primary)
            await cart.until_whole()
        seen: list[Clients] = []
        async with probed(cart.primary(0), seen):
            for index in range(SWITCHES):
                await _switch(cart, index % SHARDS)
        return Kills("operator", 5000, kills, percentiles(times)), seen[0]


@asynccontextmanager
async def _operated() -> AsyncIterator[Operated]:
    """A whole cluster with an operator."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        async with ProcessCluster(engine_binary(FAMILY), Path(directory)) as nodes:
            topology = {"mode": "Cluster", "shards": SHARDS, "replicasPerShard": 1}
            resources = {"limits": {"memory": "256Mi"}}
            spec = {"engine": "Valkey", "version": FAMILY, "topology": topology, "resources": resources}
            cart = Operated(nodes, spec)
            await cart.start()
            async with cart.running():
                await cart.until_whole()
                yield cart


async def _switch(cart: Operated, shard: int) -> None:
    """As `kubectl cache failover` asks for it."""
    before = cart.primary(shard)
    body = cart.store.get(Key(names.KIND, NAMESPACE, "cart"))
    assert body is not None
    request = {names.ANNOTATION_FAILOVER: f"{before.name}@{time.monotonic()}"}
    metadata = {**body["metadata"], "annotations": {**body["metadata"].get("annotations", {}), **request}}
    cart.store.update({**body, "metadata": metadata})
    await until(lambda: _has_left(cart, shard, before.name), f"{before.name} has handed over", 60)
    await cart.until_whole()


async def _has_left(cart: Operated, shard: int, pod: str) -> bool:
    return cart.primary(shard).name != pod


async def _by_engine(node_timeout: int, kills: int) -> Kills:
    """Nobody but the nodes themselves; a killed one comes back under its id, once its replica leads."""
    async with shop(FAMILY, SHARDS, SHARDS, 1) as place:
        followers = {
            shard: name for name, shard in place.shard_of.items() if name not in {n.name for n in leaders(place)}
        }
        pairs = [(leaders(place)[shard], place.fleet.cluster[followers[shard]]) for shard in range(SHARDS)]
        for node in place.fleet.cluster:
            await as_operator(node, "CONFIG", "SET", "cluster-node-timeout", str(node_timeout))
        times = []
        for index in range(kills):
            shard = index % SHARDS
            primary, heir = pairs[shard]
            began = time.monotonic()
            await primary.kill()
            times.append(1000 * (await until_it_takes_writes(heir, key_of(shard, SHARDS), NATIVE_SECONDS) - began))
            pairs[shard] = (heir, primary)
            await primary.start()
            await as_operator(primary, "CONFIG", "SET", "cluster-node-timeout", str(node_timeout))
            await until(lambda back=primary: is_synced(back), f"{primary.name} follows", NATIVE_SECONDS)  # type: ignore[misc]
            await until(lambda: _nobody_fails(place), "every node counts every other as alive", NATIVE_SECONDS)
        return Kills("the engine alone", node_timeout, kills, percentiles(times))


async def _nobody_fails(place: Shop) -> bool:
    tables = [str(await as_operator(node, "CLUSTER", "NODES")) for node in place.fleet.cluster]
    return not any("fail" in table for table in tables)
