"""Going back to an earlier release family on the same volume: what the schema allows must work (engine-facts §9)."""

from pathlib import Path
from typing import Final

import pytest

from cachecluster.domain.slots import ALL_SLOTS
from tests.engines.harness.binaries import engine_binary
from tests.engines.harness.cluster import ProcessCluster, is_ok
from tests.engines.harness.node import NodeDied, NodeProcess
from tests.engines.harness.waiting import until

VOLUMES: Final = {"Snapshot": {"save": "3600 1"}, "AppendOnly": {"appendonly": "yes"}}


async def with_data(cluster: ProcessCluster, mode: str) -> NodeProcess:
    """A node that owns every slot, holds a key of each type, and was stopped."""
    node = cluster.add("n0", options={"cluster-enabled": "yes", **VOLUMES[mode]})
    await node.start()
    await node.call("CLUSTER", "ADDSLOTSRANGE", *(end for ends in ALL_SLOTS.ranges for end in ends))
    await until(lambda: is_ok(node), "it serves")
    await node.call("SET", "text", "x" * 100)
    await node.call("HSET", "hash", "field", "value")
    await node.call("ZADD", "scores", 1, "one")
    await node.call("XADD", "stream", "*", "field", "value")
    await node.stop()
    return node


@pytest.mark.parametrize("mode", VOLUMES)
async def test_8_0_starts_on_what_8_1_wrote(tmp_path: Path, mode: str) -> None:
    async with ProcessCluster(engine_binary("8.1"), tmp_path) as cluster:
        node = await with_data(cluster, mode)
        node.binary = engine_binary("8.0")
        await node.start()
        assert await node.call("DBSIZE") == 4
        await until(lambda: is_ok(node), "it serves")
        assert await node.call("HGET", "hash", "field") == "value"


@pytest.mark.parametrize("mode", VOLUMES)
async def test_8_1_does_not_start_on_what_9_1_wrote(tmp_path: Path, mode: str) -> None:
    async with ProcessCluster(engine_binary("9.1"), tmp_path) as cluster:
        node = await with_data(cluster, mode)
        node.binary = engine_binary("8.1")
        with pytest.raises(NodeDied):
            await node.start()
