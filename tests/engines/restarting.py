"""Clusters of pods whose nodes are stopped and started again, and what is asked of them before and after."""

from collections.abc import Mapping
from typing import Any, Final

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods, field_of

QUICK: Final = {"cluster-node-timeout": "2000", "HOLD_SECONDS": "6", "SILENT_HOLD_SECONDS": "3"}
"""Elections come sooner, and what only ends with the longest hold does not take half a minute."""
LONG: Final = {"cluster-node-timeout": "2000"}
"""Elections come sooner; a node is held as long as in real life."""


def spec(engine: EngineBinary, shards: int, replicas: int, persistence: str = "None") -> dict[str, Any]:
    """Of a CacheCluster of the engine's version."""
    size = {} if persistence == "None" else {"size": "1Gi"}
    return {
        "engine": "Valkey",
        "version": engine.family,
        "topology": {"mode": "Cluster", "shards": shards, "replicasPerShard": replicas},
        "resources": {"limits": {"memory": "256Mi"}},
        "persistence": {"mode": persistence, **size},
    }


async def formed(
    nodes: ProcessCluster,
    engine: EngineBinary,
    shards: int,
    replicas: int,
    persistence: str = "None",
    *,
    tuned: Mapping[str, str] = QUICK,
) -> Pods:
    """Pods that serve all slots."""
    pods = Pods(nodes, spec(engine, shards, replicas, persistence), tuned=tuned)
    await pods.form()
    return pods


async def write(pods: Pods, node: NodeProcess, count: int = 50) -> None:
    """Acked by the primary and by one replica, if it has any. The tag's slot is 2844: shard 0 of at most three."""
    async with pods.application(node) as client:
        for i in range(count):
            await client.incr(f"{{shard0-0}}:{i}")
        if pods.spec.topology.replicas_per_shard:
            assert await client.wait(1, 5000) >= 1


async def keys_of(pods: Pods, node: NodeProcess) -> int:
    """How many a node holds, as an application counts them."""
    async with pods.application(node) as client:
        return int(await client.dbsize())


async def myself(node: NodeProcess) -> list[str]:
    """The node's own row of its table."""
    table: str = await node.call("CLUSTER", "NODES")
    return next(row.split() for row in table.splitlines() if "myself" in row)


async def becomes_primary(node: NodeProcess) -> None:
    """Wait until it leads and owns slots."""

    async def leads() -> bool:
        row = await myself(node)
        return "master" in row[2] and len(row) > 8

    await until(leads, f"{node.name} is promoted")


async def follows(node: NodeProcess, primary: NodeProcess) -> None:
    """Wait until it is in step with that primary."""
    primary_id = (await myself(primary))[0]

    async def in_step() -> bool:
        row = await myself(node)
        return row[3] == primary_id and await field_of(node, "replication", "master_link_status") == "up"

    await until(in_step, f"{node.name} follows {primary.name}\n{node.log_end()}")


async def save(node: NodeProcess) -> None:
    """Make the node write a snapshot now, as its save points would."""
    before = await field_of(node, "persistence", "rdb_changes_since_last_save")
    await node.call("CONFIG", "SET", "save", "1 1")
    assert before != "0"

    async def saved() -> bool:
        clean = await field_of(node, "persistence", "rdb_changes_since_last_save") == "0"
        return clean and await field_of(node, "persistence", "rdb_bgsave_in_progress") == "0"

    await until(saved, f"{node.name} has written a snapshot")
    await node.call("CONFIG", "SET", "save", "3600 1")


async def appended(node: NodeProcess) -> None:
    """Wait until what was written is in the append-only file, which a kill of the process does not undo."""

    async def written() -> bool:
        return await field_of(node, "persistence", "aof_buffer_length") == "0"

    await until(written, f"{node.name} has written its append-only file")


async def fails_to_start(node: NodeProcess) -> None:
    """Start it; the engine ends by itself over its log."""
    await node.start(ready=False)
    assert await node.until_exit() == 1
    assert "Bad file format reading the append only file" in node.log_end()
