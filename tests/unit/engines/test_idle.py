"""Idle connections against a scripted node: what is news about the other side, and what is not."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cachecluster.api import names
from cachecluster.domain.nodes import Ending, Mood, NodeId, Unwritten
from cachecluster.engines import idle
from cachecluster.engines.client import NobodyListens, NodeDenied, NodeError, NodeRefused, NodeUnreachable
from tests.engines.harness.addresses import Addresses

NODE = NodeId("a" * 40)
OK = b"+OK\r\n"
MYID = b"$40\r\n" + b"a" * 40 + b"\r\n"
SUBSCRIBED = b"*3\r\n$9\r\nsubscribe\r\n$21\r\ncachecluster-detector\r\n:1\r\n"
GREETING = OK * 3 + MYID + SUBSCRIBED


class ScriptedNode:
    """Answers whatever comes first with ``answer``, piece by piece, and keeps the connection open."""

    def __init__(self, *answer: bytes) -> None:
        self.answer = answer
        self.address = Addresses(ports=(names.CACHE_PORT,)).take()
        self.asked = b""
        self.greeted = asyncio.Event()
        self.writer: asyncio.StreamWriter | None = None
        self.endings: asyncio.Queue[Ending] = asyncio.Queue()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.asked = await reader.read(4096)
        self.greeted.set()
        for piece in self.answer:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async def watch(self, seconds: float = 5.0) -> idle.IdleConnection:
        return await idle.watch(self.address, "secret", NODE, self.endings.put_nowait, seconds=seconds)

    async def ending(self) -> Ending:
        async with asyncio.timeout(5):
            return await self.endings.get()

    def hang_up(self, *, reset: bool = False) -> None:
        assert self.writer is not None
        if reset:
            connected: socket.socket = self.writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.close()


@asynccontextmanager
async def listening(*answer: bytes) -> AsyncIterator[ScriptedNode]:
    node = ScriptedNode(*answer)
    server = await asyncio.start_server(node.serve, node.address, names.CACHE_PORT)
    try:
        yield node
    finally:
        server.close()
        if node.writer is not None:
            node.writer.close()


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_the_other_side_hangs_up(reset: bool) -> None:
    async with listening(GREETING) as node:
        await node.watch()
        assert node.endings.empty()
        node.hang_up(reset=reset)
        assert await node.ending() is Ending.CLOSED


async def test_the_kernel_is_told_to_look_after_the_connection() -> None:
    async with listening(GREETING) as node:
        connection = await node.watch()
        assert connection._transport is not None
        connected: socket.socket = connection._transport.get_extra_info("socket")
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert connected.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2500


async def test_what_is_published_is_no_news() -> None:
    async with listening(GREETING) as node:
        await node.watch()
        assert node.writer is not None
        node.writer.write(b"*3\r\n$7\r\nmessage\r\n" + b"x" * 100_000)
        await node.writer.drain()
        node.hang_up()
        assert await node.ending() is Ending.CLOSED
        assert node.endings.empty()


INFO = (
    b"=60\r\ntxt:cluster_state:ok\r\ncluster_slots_assigned:16384\r\ncluster_current_epoch:7\r\n\r\n"
    b"=99\r\ntxt:# Persistence\r\nrdb_last_bgsave_status:ok\r\naof_enabled:1\r\naof_last_write_status:err\r\n\r\n"
)


@pytest.mark.parametrize("cut", [1, 20, 90, len(INFO) - 5, len(INFO)])
async def test_the_mood_is_told_once_it_has_come_whole(cut: int) -> None:
    async with listening(GREETING) as node:
        connection = await node.watch()
        moods: asyncio.Queue[Mood] = asyncio.Queue()
        connection.ask(moods.put_nowait)
        assert node.writer is not None
        node.writer.write(b"x" * 5000)  # whatever was published meanwhile
        for piece in (INFO[:cut], INFO[cut:]):
            node.writer.write(piece)
            await node.writer.drain()
            await asyncio.sleep(0.01)
        async with asyncio.timeout(5):
            assert await moods.get() == Mood(epoch=7, ok=True, unwritten=Unwritten.LOG)
        node.writer.write(INFO)
        await asyncio.sleep(0.01)
        assert moods.empty(), "nobody has asked"
        connection.close()
        connection.ask(moods.put_nowait)


async def test_who_closes_it_is_told_nothing() -> None:
    async with listening(GREETING) as node:
        connection = await node.watch()
        connection.close()
        connection.close()
        node.hang_up()
        await asyncio.sleep(0.05)
        assert node.endings.empty()


async def test_answers_may_come_in_pieces() -> None:
    async with listening(GREETING[:3], GREETING[3:25], GREETING[25:]) as node:
        await node.watch()
        assert b"AUTH" in node.asked


def test_only_complete_answers_count_wherever_the_greeting_is_cut() -> None:
    wanted = [b"+OK"] * 3 + [b"a" * 40]
    for end in range(len(GREETING) - len(SUBSCRIBED)):
        assert idle._complete(GREETING[:end]) == wanted[: min(3, end // len(OK))]
    assert idle._complete(GREETING)[:4] == wanted


async def test_rights_that_an_older_acl_lacks_are_done_without() -> None:
    denied = b"-NOPERM no\r\n"
    async with listening(OK + denied + denied + MYID + denied) as node:
        await node.watch()
        node.hang_up()
        assert await node.ending() is Ending.CLOSED


@pytest.mark.parametrize(
    ("answer", "expected", "text"),
    [
        (b"-WRONGPASS invalid\r\n" + OK * 2 + MYID, NodeDenied, "credentials"),
        (OK * 3 + b"$40\r\n" + b"b" * 40 + b"\r\n", NodeRefused, "another node"),
        (OK * 3 + b"-BUSY script\r\n", NodeRefused, "BUSY"),
        (OK * 2, NodeUnreachable, "no answer in time"),
    ],
)
async def test_who_does_not_say_that_it_is_the_node_is_not_watched(
    answer: bytes, expected: type[NodeError], text: str
) -> None:
    async with listening(answer) as node:
        with pytest.raises(NodeError, match=text) as caught:
            await node.watch(seconds=0.2)
        assert type(caught.value) is expected
        assert "secret" not in str(caught.value)
        node.hang_up()
        await asyncio.sleep(0.05)
        assert node.endings.empty()


async def test_hanging_up_at_once_is_a_failed_attempt_and_no_ending() -> None:
    async with listening() as node:
        attempt = asyncio.create_task(node.watch())
        await node.greeted.wait()
        node.hang_up()
        with pytest.raises(NodeUnreachable, match="connection lost"):
            await attempt
        assert node.endings.empty()


async def test_nobody_listens() -> None:
    node = ScriptedNode()
    with pytest.raises(NobodyListens, match="refused"):
        await node.watch()
