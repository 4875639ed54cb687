"""A connection on which next to nothing is said: its end is news about the other side. It costs no work while it lasts.

The kernel asks the other machine every second whether it is still there. So a process that ends is noticed when its
kernel hangs up, within milliseconds, and a machine that falls silent two to three seconds later. A process that hangs
is not noticed: its kernel answers for it. Now and then the other side is asked for its mood, which no end tells.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from contextlib import ExitStack
from typing import Final, cast

from cachecluster.api import names
from cachecluster.domain.loss import SILENT_SECONDS
from cachecluster.domain.nodes import Ending, Mood, NodeId
from cachecluster.engines import parse
from cachecluster.engines.client import NobodyListens, NodeDenied, NodeRefused, NodeUnreachable

_OPTIONS: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SILENT_SECONDS * 1000)),
)
"""tcp(7): asked after 1 s of silence and every second from then on. Seconds, but for the last: milliseconds."""
_AWAITED: Final = 4
"""Answers to the greeting that are waited for: all but the last two."""
_MOOD: Final = re.compile(
    rb"cluster_state:(\w+)\r\n.*cluster_current_epoch:(\d+)\r\n.*(# Persistence\r\n.*aof_last_write_status:\w+\r\n)",
    re.DOTALL,
)
_MOOD_BYTES: Final = 8192
"""More than CLUSTER INFO and INFO persistence ever say."""


class IdleConnection(asyncio.Protocol):
    """Says who it is, hears whom it has reached, and is silent from then on."""

    __slots__ = ("_answers", "_ended", "_ip", "_received", "_told", "_transport")

    def __init__(self, ip: str, ended: Callable[[Ending], None]) -> None:
        """``ended`` is called if it ends by itself after ``greet()`` has returned."""
        self._ip = ip
        self._ended: Callable[[Ending], None] | None = ended
        self._answers: asyncio.Future[list[bytes]] = asyncio.get_running_loop().create_future()
        self._received = b""
        self._told: Callable[[Mood], None] | None = None
        self._transport: asyncio.Transport | None = None

    async def greet(self, password: str) -> NodeId:
        """Log in; returns who answers, raises NodeError."""
        if self._transport is not None:
            self._transport.write(_greeting(password))
        login, *_, myid = await self._answers
        if login.startswith(b"-"):
            raise NodeDenied(f"{self._ip}: our credentials are not accepted")
        if myid.startswith(b"-"):
            raise NodeRefused(f"{self._ip}: {myid[1:].decode(errors='replace')}")
        return NodeId(myid.decode(errors="replace"))

    def ask(self, told: Callable[[Mood], None]) -> None:
        """See Watched."""
        if self._transport is not None and not self._transport.is_closing():
            self._received, self._told = b"", told
            self._transport.write(_packed(("CLUSTER", "INFO")) + _packed(("INFO", "persistence")))

    def close(self) -> None:
        """Hang up. ``ended`` is not called any more."""
        self._ended = self._told = None
        self._answers.cancel()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)
        connected: socket.socket = transport.get_extra_info("socket")
        for level, option, value in _OPTIONS:
            connected.setsockopt(level, option, value)

    def data_received(self, data: bytes) -> None:
        """Take in what is awaited; whatever somebody may publish later is nothing to us."""
        if self._answers.done():
            self._hear(data)
            return
        self._received += data
        answers = _complete(self._received)
        if len(answers) >= _AWAITED:
            self._answers.set_result(answers[:_AWAITED])
            self._received = b""

    def _hear(self, data: bytes) -> None:
        if self._told is None:
            return
        self._received = (self._received + data)[-_MOOD_BYTES:]
        if found := _MOOD.search(self._received):
            told, self._told, self._received = self._told, None, b""
            persistence = parse.info(found[3].decode(errors="replace"))
            told(Mood(epoch=int(found[2]), ok=found[1] == b"ok", unwritten=parse.unwritten(persistence)))

    def connection_lost(self, exc: Exception | None) -> None:
        """The other side has hung up, or our kernel has given it up."""
        if not self._answers.done():
            self._answers.set_exception(NodeUnreachable(f"{self._ip}: connection lost"))
        elif self._ended is not None:
            by_the_other = exc is None or isinstance(exc, ConnectionError)
            self._ended(Ending.CLOSED if by_the_other else Ending.TIMED_OUT)
        self._ended = None


def _greeting(password: str) -> bytes:
    """Only the login and the question for the id have to succeed; a node may have been started with an older ACL.

    A subscriber is not subject to the engine's ``timeout``; in the newer protocol it may ask something all the same.
    """
    commands = (
        ("AUTH", names.USER_OPERATOR, password),
        ("CLIENT", "SETNAME", names.DETECTOR),
        ("CLIENT", "NO-EVICT", "on"),
        ("CLUSTER", "MYID"),
        ("HELLO", "3"),
        ("SUBSCRIBE", names.DETECTOR),
    )
    return b"".join(_packed(words) for words in commands)


def _packed(words: tuple[str, ...]) -> bytes:
    """As the engine reads a command (valkey.io "RESP")."""
    parts = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{''.join(parts)}".encode()


def _complete(data: bytes) -> list[bytes]:
    """The complete answers so far: lines with their mark, strings without."""
    found = []
    while (end := data.find(b"\r\n")) >= 0:
        answer, data = data[:end], data[end + 2 :]
        if answer.startswith(b"$"):
            length = int(answer[1:])
            if len(data) < length + 2:
                break
            answer, data = data[:length], data[length + 2 :]
        found.append(answer)
    return found


async def watch(
    ip: str, password: str, node_id: NodeId, ended: Callable[[Ending], None], *, seconds: float
) -> IdleConnection:
    """Connect to ``node_id``, within ``seconds``; see NodeWatcher."""
    connection = IdleConnection(ip, ended)
    with ExitStack() as unless_it_works:
        unless_it_works.callback(connection.close)
        try:
            async with asyncio.timeout(seconds):
                await asyncio.get_running_loop().create_connection(lambda: connection, ip, names.CACHE_PORT)
                found = await connection.greet(password)
        except ConnectionRefusedError as error:
            raise NobodyListens(f"{ip}: connection refused") from error
        except OSError as error:
            raise NodeUnreachable(f"{ip}: {error.strerror or 'no answer in time'}") from error
        if found != node_id:
            raise NodeRefused(f"{ip}: another node answers")
        unless_it_works.pop_all()
    return connection
