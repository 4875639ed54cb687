"""The fence on real nodes: what the operator's own loop raises and lowers, and a primary that it does not reach."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from redis import exceptions

from cachecluster.api import names
from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.domain import fence
from cachecluster.domain.loss import EXPIRY_SECONDS
from cachecluster.domain.nodes import Ending, NodeId
from cachecluster.engines.client import NoAnswer, NodeClient, Watched
from tests.engines.fleet import CONNECTOR, as_operator
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.operated import NAMESPACE, Operated, application, key_of
from tests.simulation.kubernetes.store import Key

BUSY_SECONDS = 3.0
"""A machine that is busy with something else may be so late."""


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> EngineBinary:
    """Each family in turn, or the one that a test asks for."""
    return engine_binary(request.param)


class Horizon:
    """The operator's connections to nodes. From those that it does not reach nothing comes, not even a good-bye."""

    def __init__(self) -> None:
        self.hidden: set[str] = set()
        self._ended: dict[str, Callable[[Ending], None]] = {}

    def hide(self, node: NodeProcess) -> None:
        """Its machine is lost to the operator; that its kernel has noticed is told at once."""
        self.hidden.add(node.address)
        self._ended[node.address](Ending.TIMED_OUT)

    @asynccontextmanager
    async def connect(self, ip: str, password: str | None) -> AsyncIterator[NodeClient]:
        """NodeConnector."""
        if ip in self.hidden:
            raise NoAnswer(f"{ip}: no answer in time")
        async with CONNECTOR.connect(ip, password) as client:
            yield client

    async def has_machine(self, ip: str, seconds: float) -> bool:
        """NodeConnector."""
        return ip not in self.hidden and await CONNECTOR.has_machine(ip, seconds)

    async def watch(self, ip: str, password: str, node_id: NodeId, ended: Callable[[Ending], None]) -> Watched:
        """NodeWatcher."""
        if ip in self.hidden:
            raise NoAnswer(f"{ip}: no answer in time")
        self._ended[ip] = ended
        return await CONNECTOR.watch(ip, password, node_id, ended)


@pytest_asyncio.fixture
async def cart(nodes: ProcessCluster, request: pytest.FixtureRequest) -> AsyncIterator[tuple[Operated, Horizon]]:
    """A whole cluster with an operator, and what that sees; ``param``: its shards."""
    topology = {"mode": "Cluster", "shards": request.param, "replicasPerShard": 1}
    spec = {"engine": "Valkey", "version": nodes.binary.family, "topology": topology}
    cart, horizon = Operated(nodes, {**spec, "resources": {"limits": {"memory": "256Mi"}}}), Horizon()
    cart.deps = replace(cart.deps, nodes=horizon, watcher=horizon)
    await cart.start()
    async with cart.running():
        await cart.until_whole()
        yield cart, horizon


def written_down(cart: Operated, node: NodeProcess) -> str | None:
    """What is on the node's pod."""
    pod: dict[str, Any] = cart.store.get(Key("Pod", NAMESPACE, node.name)) or {"metadata": {}}
    found: str | None = pod["metadata"].get("annotations", {}).get(names.ANNOTATION_FENCE)
    return found


async def asks(node: NodeProcess) -> bool:
    """Whether it asks for a replica before it writes."""
    return (await as_operator(node, "CONFIG", "GET", "min-replicas-to-write"))[1] not in {"0", b"0"}


@pytest.mark.parametrize(("engine", "cart"), [(v, 1) for v in ("8.0", "8.1", "9.1")], indirect=True)
async def test_it_is_up_on_primaries_alone_and_a_killed_replica_costs_a_moment(cart: tuple[Operated, Horizon]) -> None:
    operated, _ = cart
    primary, replica = operated.primary(0), operated.replica(0)
    record = fence.Record.parse(written_down(operated, primary) or "")
    assert record is not None
    assert record.max_lag == MAX_LAG_SECONDS
    assert await asks(primary)
    assert not await asks(replica)
    await replica.kill()
    clock = asyncio.get_running_loop().time
    began, refused = clock(), 0
    async with application(primary, 5) as client:
        while await asks(primary):
            with contextlib.suppress(exceptions.ResponseError):
                await client.set(key_of(0, 1), "value")
                continue
            refused += 1
        await client.set(key_of(0, 1), "value")
    print(f"{primary.binary.family}: {refused} writes refused, accepted again after {(clock() - began) * 1000:.0f} ms")
    assert clock() - began < BUSY_SECONDS
    assert written_down(operated, primary) is None
    await operated.restart(replica)
    await operated.until_whole()

    async def asks_again() -> bool:
        operated.wake.set()  # as its kubelet does, which finds it ready a moment after it has caught up
        return await asks(primary)

    await until(asks_again, "it is up again")


@pytest.mark.parametrize("engine", ["8.0", "8.1", "9.1"], indirect=True)
@pytest.mark.parametrize("cart", [1, 2], indirect=True)
async def test_s10_a_primary_that_is_cut_off_with_clients_is_replaced_once_it_accepts_no_writes(
    cart: tuple[Operated, Horizon],
) -> None:
    """Its replica is kept from following it, and the operator from reaching it."""
    operated, horizon = cart
    primary, heir = operated.primary(0), operated.replica(0)
    key, shards = key_of(0, operated.spec.topology.shards), operated.spec.topology.shards
    clock = asyncio.get_running_loop().time
    async with application(primary, 5) as beside, application(heir, 5) as client:
        await beside.set(key, "before")
        began = clock()
        horizon.hide(primary)
        replication = names.user_of(names.USER_REPLICATION, 0)
        await as_operator(primary, "ACL", "SETUSER", replication, "off")
        await as_operator(primary, "CLIENT", "KILL", "USER", replication)
        await until(lambda: _refuses(beside, key), "it accepts no writes", within=MAX_LAG_SECONDS + 2 + BUSY_SECONDS)
        while True:
            assert await _refuses(beside, key), "it accepts none, whoever leads"
            with contextlib.suppress(exceptions.ResponseError):
                await client.set(key, "after")
                break
            assert clock() - began < EXPIRY_SECONDS + 2 + BUSY_SECONDS
            await asyncio.sleep(0.01)
        print(f"{primary.binary.family}, {shards} shards: writes again after {clock() - began:.1f} s")
        assert clock() - began > MAX_LAG_SECONDS + 2
        assert await _refuses(beside, key)
        assert await client.get(key) == b"after"
    await until(lambda: _tells(operated), "the pass tells of it at its end")
    assert operated.status()["lastFailover"]["cause"] == "FenceExpired"


async def _tells(operated: Operated) -> bool:
    return "lastFailover" in operated.status()


async def _refuses(client: Any, key: str) -> bool:
    """NOREPLICAS, or a redirect once it has heard of its successor."""
    try:
        await client.set(key, "beside")
    except exceptions.ResponseError:
        return True
    return False
