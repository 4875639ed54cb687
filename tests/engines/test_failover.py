"""Real primaries are killed under the operator's own loop: who takes their place, and how soon it takes writes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio
from redis import exceptions

from cachecluster.domain.hanging import HUNG_SECONDS
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.operated import Operated, application, key_of, until_it_takes_writes

SOON_SECONDS: Final = 4.0
"""Native failover takes seven. A twentieth of this, but for a machine that is busy with something else."""


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> EngineBinary:
    """Each family in turn, or the one that a test asks for."""
    return engine_binary(request.param)


@pytest_asyncio.fixture
async def cart(nodes: ProcessCluster, request: pytest.FixtureRequest) -> AsyncIterator[Operated]:
    """A whole cluster with an operator; ``param``: its shards."""
    topology = {"mode": "Cluster", "shards": request.param, "replicasPerShard": 1}
    resources = {"limits": {"memory": "256Mi"}}
    version = nodes.binary.family
    cart = Operated(nodes, {"engine": "Valkey", "version": version, "topology": topology, "resources": resources})
    await cart.start()
    async with cart.running():
        await cart.until_whole()
        yield cart


@pytest.mark.parametrize("engine", ["8.0", "8.1", "9.1"], indirect=True)
@pytest.mark.parametrize("cart", [1, 3], indirect=True, ids=["takeover", "votes"])
async def test_a_killed_primary_is_replaced_at_once(cart: Operated) -> None:
    shards = cart.spec.topology.shards
    for shard in range(shards):
        primary, heir = cart.primary(shard), cart.replica(shard)
        began = time.monotonic()
        await primary.kill()
        took = await until_it_takes_writes(heir, key_of(shard, shards)) - began
        print(f"{primary.binary.family}, {shards} shards: writes again after {took * 1000:.0f} ms")
        assert took < SOON_SECONDS
        await cart.restart(primary)
        await cart.until_whole()
        told = cart.status()["lastFailover"]
        assert (told["from"], told["to"], told["cause"]) == (primary.name, heir.name, "ProcessEnded")
        failovers = cart.status()["failovers"]
        assert [f["shard"] for f in failovers] == [f"cart-{lost}" for lost in range(shard, -1, -1)]
        assert failovers[0]["seenAt"] <= failovers[0]["confirmedAt"] <= failovers[0]["writableAt"]


@pytest.mark.parametrize(("engine", "cart"), [("8.1", 1)], indirect=True)
async def test_s10_a_primary_that_hangs_is_ended_first(cart: Operated) -> None:
    primary, heir = cart.primary(0), cart.replica(0)
    primary.pause()
    cart.wake.set()  # by the watch, once the pod is not ready any more
    await until_it_takes_writes(heir, key_of(0, 1), within=60)
    await cart.until_whole()
    assert primary.starts == 2
    assert cart.status()["lastFailover"]["cause"] == "ProcessEnded"
    assert any(reason == "NodeHangs" for _, reason, _ in cart.recorder.events)


@pytest.mark.parametrize(("engine", "cart"), [("8.1", 1)], indirect=True)
async def test_s1_a_primary_that_is_busy_with_a_script_is_left_alone(cart: Operated) -> None:
    """It answers nobody's question, but that it is busy, once the script has run for five seconds."""
    primary = cart.primary(0)
    async with application(primary, 60) as client, application(primary, 60) as other:
        script: asyncio.Future[str] = asyncio.ensure_future(client.eval("while true do end", 0))
        await until_it_is_silent(primary)
        cart.wake.set()
        await asyncio.sleep(2.0 * HUNG_SECONDS)  # nothing is to happen
        assert cart.status()["reason"] == "NodeUnreachable"
        await other.script_kill()
        with pytest.raises(exceptions.ResponseError, match="killed by user"):
            await script
    await cart.until_whole()
    assert primary.starts == 1
    assert "lastFailover" not in cart.status()


async def until_it_is_silent(node: NodeProcess) -> None:
    """Ask until there is no answer: the script runs."""
    async with asyncio.timeout(10):
        with contextlib.suppress(exceptions.TimeoutError):
            while True:
                async with application(node, 0.5) as client:
                    await client.ping()
