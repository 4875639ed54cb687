"""The start script and a log of writes that the engine cannot read (S3): put aside where others have the data."""

import asyncio
from pathlib import Path
from typing import Final

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods, is_ready
from tests.engines.restarting import (
    appended,
    becomes_primary,
    fails_to_start,
    follows,
    formed,
    keys_of,
    myself,
    write,
)

ASIDE: Final = "appendonlydir.unreadable"


async def with_data(nodes: ProcessCluster, engine: EngineBinary) -> Pods:
    """A shard of two, whose logs have what was written."""
    pods = await formed(nodes, engine, 1, 1, "AppendOnly")
    await write(pods, pods[0, 0])
    await asyncio.gather(*(appended(node) for node in pods.nodes.values()))
    return pods


def tear(node: NodeProcess) -> Path:
    """A gap in the middle of the log, as a disk leaves that was full."""
    [log] = (node.data / "appendonlydir").glob("*.incr.aof")
    text = log.read_bytes()
    middle = text.index(b"*", len(text) // 2)
    log.write_bytes(text[:middle] + bytes(20) + text[middle:])
    return log


async def test_s3_replica_puts_it_aside_and_copies_the_data_again(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = await with_data(nodes, engine)
    primary, replica = pods[0, 0], pods[0, 1]
    node_id = (await myself(replica))[0]
    await replica.kill()
    tear(replica)
    await fails_to_start(replica)
    await replica.start()
    assert "is put aside" in replica.log_end()
    assert (replica.data / ASIDE).is_dir(), "it is there until there is another copy"
    await follows(replica, primary)
    assert (await myself(replica))[0] == node_id
    assert await keys_of(pods, replica) == 50
    await until(lambda: is_ready(replica), "the replica is ready")
    assert not (replica.data / ASIDE).exists()


async def test_s3_former_primary_puts_it_aside_and_is_a_new_node(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = await with_data(nodes, engine)
    former, replica = pods[0, 0], pods[0, 1]
    old_id = (await myself(former))[0]
    await former.kill()
    await replica.call("CLUSTER", "FAILOVER", "TAKEOVER")
    await becomes_primary(replica)
    tear(former)
    await fails_to_start(former)
    await former.start()
    assert "blank start" in former.log_end()
    assert (await myself(former))[0] != old_id
    assert (former.data / ASIDE).is_dir()
    assert await keys_of(pods, replica) == 50


async def test_s3_it_is_left_where_nobody_answers_who_has_the_data(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = await with_data(nodes, engine)
    primary, replica = pods[0, 0], pods[0, 1]
    await asyncio.gather(primary.kill(), replica.kill())
    log = tear(replica)
    torn = log.read_bytes()
    for _ in range(2):
        await fails_to_start(replica)
    assert log.read_bytes() == torn
    assert not (replica.data / ASIDE).exists()


async def test_a_log_that_can_be_read_stays_although_a_start_has_not_come_to_its_end(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await with_data(nodes, engine)
    primary, replica = pods[0, 0], pods[0, 1]
    await replica.kill()
    (replica.data / "unread").touch()
    await replica.start()
    await follows(replica, primary)
    assert "put aside" not in replica.log_end()
    assert not (replica.data / ASIDE).exists()
