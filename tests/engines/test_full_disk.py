"""A primary whose disk was full: what it says meanwhile, the gap in its log afterwards, and what closes that."""

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Final

from redis.exceptions import RedisError

from cachecluster.domain.nodes import Ending, Mood, NodeView, Rewrites, Unwritten
from cachecluster.engines.client import NodeClient
from tests.engines.fleet import CONNECTOR
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods
from tests.engines.restarting import QUICK, appended, fails_to_start, keys_of, spec, write

DISK_BYTES: Final = 2 * 1024 * 1024
PAGE_BYTES: Final = 4096
"""A write of so much ends in the middle of a page: what is left of the last one can be written, and no more."""


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


@asynccontextmanager
async def after_a_full_disk(nodes: ProcessCluster, engine: EngineBinary) -> AsyncIterator[tuple[Pods, NodeProcess]]:
    """A node that has gone on since, with writes from before and after."""
    pods = Pods(nodes, spec(engine, 1, 0, "AppendOnly"), tuned=QUICK)
    node = pods[0, 0]
    with small_disk(node):
        await pods.form()
        await rewritten(pods, node)
        await write(pods, node)
        await appended(node)
        ballast = node.data / "ballast"
        ballast.write_bytes(bytes(shutil.disk_usage(node.data).free))
        await until(lambda: is_refused(pods, node), "the engine cannot write its log")
        assert (await seen(pods, node)).unwritten is Unwritten.LOG
        assert (await mood(pods, node)).unwritten is Unwritten.LOG
        ballast.unlink()
        await until(lambda: takes_its_log(pods, node), "it can again")
        assert (await mood(pods, node)).unwritten is None
        await write(pods, node)
        await appended(node)
        yield pods, node


async def test_the_engine_leaves_a_gap_in_its_log_where_the_disk_was_full(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    """What all this is for. Should it fail with a new release of the engine: good, and a reason to say so here."""
    async with after_a_full_disk(nodes, engine) as (_, node):
        await node.kill()
        await fails_to_start(node)


async def test_a_rewrite_closes_the_gap(nodes: ProcessCluster, engine: EngineBinary) -> None:
    async with after_a_full_disk(nodes, engine) as (pods, node):
        keys, before = await keys_of(pods, node), (await seen(pods, node)).rewrites
        await rewritten(pods, node)
        assert (await seen(pods, node)).rewrites == Rewrites(begun=before.begun + 1)
        await write(pods, node)
        await appended(node)
        await node.kill()
        await node.start()
        assert await keys_of(pods, node) == keys


async def test_a_rewrite_that_does_not_fit_is_told(nodes: ProcessCluster, engine: EngineBinary) -> None:
    async with after_a_full_disk(nodes, engine) as (pods, node):
        (node.data / "ballast").write_bytes(bytes(shutil.disk_usage(node.data).free - PAGE_BYTES))
        before = (await seen(pods, node)).rewrites
        await rewritten(pods, node)
        assert (await seen(pods, node)).rewrites == Rewrites(begun=before.begun + 1, failed=True)


async def rewritten(pods: Pods, node: NodeProcess) -> None:
    """Tell it to rewrite its log, as the operator does, and wait until that has come to an end."""
    async with operator(pods, node) as client:
        await client.rewrite_log()

    async def at_rest() -> bool:
        return not (await seen(pods, node)).rewrites.running

    await until(at_rest, "the log is rewritten")


def operator(pods: Pods, node: NodeProcess) -> AbstractAsyncContextManager[NodeClient]:
    """A connection of its."""
    return CONNECTOR.connect(node.address, pods.passwords.operator)


async def seen(pods: Pods, node: NodeProcess) -> NodeView:
    """What the operator sees of a node."""
    async with operator(pods, node) as client:
        return await client.view()


async def mood(pods: Pods, node: NodeProcess) -> Mood:
    """What it is told in between."""
    ends: list[Ending] = []
    told: asyncio.Future[Mood] = asyncio.get_running_loop().create_future()
    node_id = (await seen(pods, node)).node_id
    connection = await CONNECTOR.watch(node.address, pods.passwords.operator, node_id, ends.append)
    try:
        connection.ask(told.set_result)
        async with asyncio.timeout(5):
            return await told
    finally:
        connection.close()


async def is_refused(pods: Pods, node: NodeProcess) -> bool:
    """Whether a write finds the disk full."""
    async with pods.application(node) as client:
        try:
            await client.append("{shard0-0}:journal", "x" * PAGE_BYTES)
        except RedisError as error:
            return "MISCONF" in str(error)
    return False


async def takes_its_log(pods: Pods, node: NodeProcess) -> bool:
    """Whether the last write of the log went well."""
    return (await seen(pods, node)).unwritten is None
