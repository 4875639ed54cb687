"""A real replica is behind when its primary's process ends: what the operator makes of it, with and without volumes."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import pytest
import pytest_asyncio

from cachecluster.api import names
from cachecluster.domain.loss import LATE_PONG_SECONDS
from tests.engines.fleet import PASSWORDS
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.operated import NAMESPACE, Operated, application, key_of, until_it_takes_writes
from tests.simulation.kubernetes.store import Key, rfc3339

VOLUMES: Final = {"persistence": {"mode": "AppendOnly", "size": "1Gi"}}


@pytest.fixture(params=["8.0", "8.1", "9.1"])
def engine(request: pytest.FixtureRequest) -> EngineBinary:
    """Each family in turn."""
    return engine_binary(request.param)


@pytest_asyncio.fixture(params=[{}, VOLUMES], ids=["memory", "volumes"])
async def cart(nodes: ProcessCluster, request: pytest.FixtureRequest) -> AsyncIterator[Operated]:
    """One shard of two nodes, with an operator."""
    topology = {"mode": "Cluster", "shards": 1, "replicasPerShard": 1}
    resources = {"limits": {"memory": "256Mi"}}
    spec = {"engine": "Valkey", "version": nodes.binary.family, "topology": topology, "resources": resources}
    cart = Operated(nodes, {**spec, **request.param})
    await cart.start()
    async with cart.running():
        await cart.until_whole()
        yield cart


async def test_s1_it_leads_only_where_nothing_brings_back_what_it_lacks(cart: Operated) -> None:
    primary, replica, key = cart.primary(0), cart.replica(0), key_of(0, 1)
    await fall_behind(primary, replica)
    cart.wake.set()  # by the watch: the replica's pod is not ready any more
    await until_it_takes_writes(primary, key)
    await primary.kill()
    report_end(cart, primary)
    if not cart.spec.persistence:
        await until_it_takes_writes(replica, key)

        async def is_told() -> bool:
            return bool(cart.status().get("failovers"))

        await until(is_told, "the status has the failover")
        assert cart.status()["failovers"][0]["cause"] == "ContainerTerminated"
        assert any("has the newest copy that is left" in message for *_, message in cart.recorder.events)
        return

    async def is_said() -> bool:
        return bool(cart.status()["reason"] == "NoSyncedReplica")

    await until(is_said, "the status says that the replica was behind")
    assert f"Waiting for {primary.name}, where the rest may be" in cart.status()["message"]
    await primary.start()
    await replica.call("CONFIG", "SET", "primaryauth", PASSWORDS.replication)
    await cart.until_whole()
    async with application(primary, 5) as client:
        assert await client.get(key) == b"value"
    assert "failovers" not in cart.status() or not cart.status()["failovers"]


async def fall_behind(primary: NodeProcess, replica: NodeProcess) -> None:
    """Its link ends, and is not let in again, for longer than could be a matter of whole seconds and late answers."""
    await replica.call("CONFIG", "SET", "primaryauth", "wrong")
    await primary.call("CLIENT", "KILL", "TYPE", "replica")

    async def is_behind() -> bool:
        fields = dict(line.split(":", 1) for line in str(await info(replica)).splitlines() if ":" in line)
        return int(fields.get("master_link_down_since_seconds", 0)) > 2 * LATE_PONG_SECONDS

    await until(is_behind, "the link has been down for long", 30)


async def info(node: NodeProcess) -> Any:
    return await node.call("INFO", "replication")


def report_end(cart: Operated, node: NodeProcess) -> None:
    """The kubelet says that the container has ended."""
    body = cart.store.get(Key("Pod", NAMESPACE, node.name))
    assert body is not None
    ended = {"exitCode": 137, "reason": "Error", "finishedAt": rfc3339(time.time())}
    [container] = body["status"]["containerStatuses"]
    assert container["name"] == names.CONTAINER
    status = {**body["status"], "containerStatuses": [{**container, "state": {"terminated": ended}}]}
    asyncio.get_running_loop().call_soon(cart.store.update, {**body, "status": status})
