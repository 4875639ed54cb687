"""The start script and a log of writes that the engine cannot read (S3): put aside where others have the data."""

import asyncio
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods, field_of, is_ready
from tests.engines.restarting import QUICK, appended, becomes_primary, follows, formed, keys_of, myself, spec, write

ASIDE: Final = "appendonlydir.unreadable"
BAD_FORMAT: Final = "Bad file format reading the append only file"
DISK_BYTES: Final = 2 * 1024 * 1024
PAGE_BYTES: Final = 4096
"""A write of so much ends in the middle of a page: what is left of the last one can be written, and no more."""


async def with_data(nodes: ProcessCluster, engine: EngineBinary) -> Pods:
    """A shard of two, whose logs have what was written."""
    pods = await formed(nodes, engine, 1, 1, "AppendOnly", tuned=QUICK)
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


async def fails_to_start(node: NodeProcess) -> None:
    """Start it; the engine ends by itself over its log."""
    await node.start(ready=False)
    assert await node.until_exit() == 1
    assert BAD_FORMAT in node.log_end()


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


async def test_the_engine_leaves_a_gap_in_its_log_where_the_disk_was_full(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    """What all this is for. Should it fail with a new release of the engine: good, and a reason to say so here."""
    pods = Pods(nodes, spec(engine, 1, 0, "AppendOnly"), tuned=QUICK)
    node = pods[0, 0]
    with small_disk(node):
        await pods.form()
        await node.call("CONFIG", "SET", "appendonly", "no")
        await node.call("CONFIG", "SET", "appendonly", "yes")  # begins a new log, as each rewrite does
        await until(lambda: has_rewritten(node), "the log is rewritten")
        await write(pods, node)
        await appended(node)
        ballast = node.data / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(node.data).free))
        await until(lambda: is_refused(pods, node), "the engine cannot write its log")
        ballast.unlink()
        await until(lambda: has_written(node), "it can again")
        await write(pods, node)
        await appended(node)
        await node.kill()
        await fails_to_start(node)


@contextmanager
def small_disk(node: NodeProcess) -> Iterator[None]:
    """A file system of its own for the node's data."""
    node.data.mkdir(parents=True)
    options = f"size={DISK_BYTES},mode=777"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(node.data)], check=True, timeout=10)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(node.data)], check=True, timeout=10)


async def is_refused(pods: Pods, node: NodeProcess) -> bool:
    """Whether a write finds the disk full."""
    async with pods.application(node) as client:
        try:
            await client.append("{shard0-0}:journal", "x" * PAGE_BYTES)
        except RedisError as error:
            return "MISCONF" in str(error)
    return False


async def has_rewritten(node: NodeProcess) -> bool:
    """Whether no rewrite is under way."""
    state = [await field_of(node, "persistence", f"aof_rewrite_{part}") for part in ("in_progress", "scheduled")]
    return state == ["0", "0"]


async def has_written(node: NodeProcess) -> bool:
    """Whether the last write of the log went well."""
    return await field_of(node, "persistence", "aof_last_write_status") == "ok"
