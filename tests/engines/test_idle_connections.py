"""The failure detector's connections to real engines: what ends them, how soon it is known, and what does not."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from cachecluster.api import names
from cachecluster.domain.nodes import Ending, Mood, NodeId
from cachecluster.engines.client import NobodyListens, NodeUnreachable
from tests.engines.fleet import CONNECTOR, PASSWORDS, Nodes, as_operator
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until

SOON_SECONDS: Final = 2.0
"""Milliseconds, but for a machine that is busy with something else; less than keepalive would take."""


class Wire:
    """One idle connection and what becomes of it."""

    def __init__(self, node: NodeProcess, node_id: NodeId) -> None:
        self.node, self.node_id = node, node_id
        self.endings: list[tuple[Ending, float]] = []

    async def connect(self) -> None:
        await CONNECTOR.watch(self.node.address, PASSWORDS.operator, self.node_id, self.ended)

    def ended(self, ending: Ending) -> None:
        self.endings.append((ending, time.monotonic()))

    async def ending(self) -> Ending:
        await until(self._over, "the connection ends", 10)
        [(ending, _)] = self.endings
        return ending

    async def _over(self) -> bool:
        return bool(self.endings)


@pytest_asyncio.fixture
async def wire(fleet: Nodes) -> Wire:
    """A connection to a node that runs."""
    node = await fleet.start("one")
    wire = Wire(node, await (await fleet.client(node)).node_id())
    await wire.connect()
    return wire


async def test_a_killed_process_is_known_at_once_and_refuses(wire: Wire) -> None:
    began = time.monotonic()
    await wire.node.kill()
    assert await wire.ending() is Ending.CLOSED
    seen_after = wire.endings[0][1] - began
    print(f"{wire.node.binary.family}: seen after {seen_after * 1000:.1f} ms")
    assert seen_after < SOON_SECONDS
    with pytest.raises(NobodyListens):
        await wire.connect()


async def test_an_orderly_stop_is_known_at_once(wire: Wire) -> None:
    await wire.node.stop()
    assert await wire.ending() is Ending.CLOSED


async def test_client_kill_ends_a_connection_but_not_the_node(wire: Wire) -> None:
    await as_operator(wire.node, "CLIENT", "KILL", "USER", names.USER_OPERATOR)
    assert await wire.ending() is Ending.CLOSED
    await wire.connect()
    assert len(wire.endings) == 1


async def test_the_idle_timeout_of_the_engine_leaves_it_alone(wire: Wire) -> None:
    reader, writer = await asyncio.open_connection(wire.node.address, names.CACHE_PORT)
    await as_operator(wire.node, "CONFIG", "SET", "timeout", "1")
    async with asyncio.timeout(10):
        assert await reader.read() == b"", "an ordinary connection is ended"
    writer.close()
    assert not wire.endings


async def test_the_mood_is_told_whenever_it_is_asked_for(wire: Wire) -> None:
    moods: asyncio.Queue[Mood] = asyncio.Queue()
    connection = await CONNECTOR.watch(wire.node.address, PASSWORDS.operator, wire.node_id, wire.ended)
    for epoch in (0, 5):
        if epoch:
            await as_operator(wire.node, "CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
        connection.ask(moods.put_nowait)
        async with asyncio.timeout(10):
            assert (await moods.get()).epoch == epoch
    connection.close()


async def test_a_hung_process_is_no_end(wire: Wire) -> None:
    wire.node.pause()
    with pytest.raises(NodeUnreachable, match="no answer in time"):
        await wire.connect()
    assert not wire.endings
    wire.node.resume()


async def test_a_node_with_an_older_acl_can_be_watched(fleet: Nodes) -> None:
    node = await fleet.start("one")
    wire = Wire(node, await (await fleet.client(node)).node_id())
    await as_operator(node, "ACL", "SETUSER", names.USER_OPERATOR, "resetchannels", "-subscribe")
    await wire.connect()
    await node.kill()
    assert await wire.ending() is Ending.CLOSED


def test_a_machine_that_falls_silent_is_known_within_three_seconds() -> None:
    """In a network of its own, whose packets are dropped from a certain moment on."""
    script = Path(__file__).with_name("silent_machine.py")
    answer = subprocess.run(
        ["unshare", "--net", sys.executable, str(script)], check=True, capture_output=True, text=True, timeout=60
    )
    ending, seconds = answer.stdout.split()
    assert ending == Ending.TIMED_OUT
    assert 1.9 < float(seconds) < 3.5
