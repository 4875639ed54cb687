"""NodeClient for Valkey on redis-py's asyncio connection. One connection per node; it never reconnects."""

import asyncio
import math
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Final, assert_never

from redis import exceptions
from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cachecluster.api import names
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import Ending, NodeId, NodeView
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import Parameters
from cachecluster.engines import idle, parse
from cachecluster.engines.client import (
    KEY_SECONDS,
    Login,
    NoAnswer,
    NobodyListens,
    NodeDenied,
    NodeError,
    NodeRefused,
    NodeUnreachable,
    SlotMigration,
    SlotState,
    StreamPosition,
)

CONNECT_SECONDS: Final = 2.0
COMMAND_SECONDS: Final = 3.0
_NOTHING: Final = ("resetpass", "resetkeys", "resetchannels", "clearselectors", "nocommands")
"""Rules that leave a user without any right, and on or off as it was."""
_RANGES_PER_COMMAND: Final = 500
_SLOTS_PER_ROUND_TRIP: Final = 1024
_ATOMIC_SINCE: Final = (9, 1, 2)
"""With io-threads, atomic migration under writes fails in releases before this one (engine-facts §1.5)."""


class ValkeyConnector:
    """Opens connections as the operator's user."""

    @asynccontextmanager
    async def connect(self, ip: str, password: str | None) -> AsyncIterator["ValkeyClient"]:
        """See NodeConnector. The connection is dropped at the end, whatever happened."""
        connection = Connection(
            host=ip,
            port=names.CACHE_PORT,
            username=names.USER_OPERATOR,
            password=password,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=COMMAND_SECONDS,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            driver_info=None,
            protocol=2,  # no server pushes, and errors of AUTH as such
            decode_responses=True,
        )
        try:
            with _errors_of(ip):
                async with asyncio.timeout(CONNECT_SECONDS + COMMAND_SECONDS):
                    await connection.connect()  # type: ignore[no-untyped-call]
            yield ValkeyClient(ip, connection)
        finally:
            await _drop(connection)

    async def has_machine(self, ip: str, seconds: float) -> bool:
        """See NodeConnector."""
        try:
            async with asyncio.timeout(seconds):
                _, writer = await asyncio.open_connection(ip, names.CACHE_PORT)
        except ConnectionRefusedError:
            return True
        except (OSError, TimeoutError):
            return False
        writer.transport.abort()
        return True

    async def watch(
        self, ip: str, password: str, node_id: NodeId, ended: Callable[[Ending], None]
    ) -> idle.IdleConnection:
        """See NodeWatcher."""
        return await idle.watch(ip, password, node_id, ended, seconds=CONNECT_SECONDS + COMMAND_SECONDS)


async def _drop(connection: Connection) -> None:
    """Close without waiting for the peer; a cancelled command may have left half an answer on it."""
    try:
        await connection.disconnect(nowait=True)
    except (OSError, exceptions.RedisError):
        return


class _errors_of:  # noqa: N801 - reads as a clause: with _errors_of(ip)
    """Turn redis-py's and the socket's errors into NodeError."""

    def __init__(self, ip: str) -> None:
        self._ip = ip

    def __enter__(self) -> None:
        return None

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, (exceptions.RedisError, OSError, TimeoutError)):
            raise _converted(self._ip, error) from error


def _converted(ip: str, error: Exception) -> NodeError:
    """The engine's error texts quote no arguments of ours but key names and ids."""
    text = str(error)
    match error:
        case exceptions.AuthenticationError() | exceptions.NoPermissionError():
            return NodeDenied(f"{ip}: our credentials are not accepted")
        case exceptions.TimeoutError() | TimeoutError():
            return NoAnswer(f"{ip}: no answer in time")
        case exceptions.BusyLoadingError():
            return NodeRefused(f"{ip}: {text}")
        case exceptions.ConnectionError() | OSError():
            kind = NobodyListens if _is_refusal(error) else NodeUnreachable
            return kind(f"{ip}: {_cause(error)}")
        case _:
            return NodeRefused(f"{ip}: {text}")


def _cause(error: Exception) -> str:
    """The engine's or the operating system's word, without redis-py's story around it."""
    if getattr(error, "status_code", None):  # an error answer, after which the engine hangs up
        return str(error)
    return next((os.strerror(e.errno).lower() for e in _sources(error) if e.errno), "connection lost")


def _is_refusal(error: Exception) -> bool:
    return any(isinstance(source, ConnectionRefusedError) for source in _sources(error))


def _sources(error: Exception) -> Iterator[OSError]:
    """The operating system's errors behind redis-py's."""
    source: BaseException | None = error
    while source is not None:
        if isinstance(source, OSError):
            yield source
        source = source.__cause__ or source.__context__


class ValkeyClient:
    """See NodeClient."""

    def __init__(self, ip: str, connection: Connection) -> None:
        """Over an open connection."""
        self._ip = ip
        self._connection = connection
        self._turn = asyncio.Lock()

    async def view(self, parameters: Collection[str] = ()) -> NodeView:
        """See NodeClient. One round trip; each part is answered while loading, too."""
        commands: tuple[tuple[str, ...], ...] = (
            ("INFO", "server", "replication", "memory", "persistence", "keyspace"),
            ("CLUSTER", "NODES"),
            ("CLUSTER", "INFO"),
            ("ACL", "LIST"),
            *([("CONFIG", "GET", *sorted(parameters))] if parameters else []),
        )
        info, nodes, cluster, users, *asked = await self._pipeline(*commands)
        with self._understanding():
            view = parse.view(parse.info(info), nodes, parse.info(cluster), users)
            return replace(view, parameters=parse.pairs(asked[0])) if asked else view

    async def node_id(self) -> NodeId:
        """See NodeClient."""
        return NodeId(await self._command("CLUSTER", "MYID"))

    async def end_other_sessions(self) -> None:
        """See NodeClient."""
        await self._command("CLIENT", "KILL", "USER", names.USER_OPERATOR, "SKIPME", "yes")

    async def set_config_epoch(self, epoch: int) -> None:
        """See NodeClient."""
        await self._command("CLUSTER", "SET-CONFIG-EPOCH", epoch)

    async def bump_epoch(self) -> None:
        """See NodeClient."""
        await self._command("CLUSTER", "BUMPEPOCH")

    async def meet(self, ip: str, port: int, bus_port: int) -> None:
        """See NodeClient."""
        await self._command("CLUSTER", "MEET", ip, port, bus_port)

    async def add_slots(self, slots: SlotSet) -> None:
        """See NodeClient."""
        for start in range(0, len(slots.ranges), _RANGES_PER_COMMAND):
            part = slots.ranges[start : start + _RANGES_PER_COMMAND]
            await self._command("CLUSTER", "ADDSLOTSRANGE", *(bound for pair in part for bound in pair))

    async def replicate(self, primary: NodeId) -> None:
        """See NodeClient."""
        await self._command("CLUSTER", "REPLICATE", primary)

    async def forget(self, node_id: NodeId) -> None:
        """See NodeClient."""
        try:
            await self._command("CLUSTER", "FORGET", node_id)
        except NodeRefused as error:
            if "Unknown node" not in str(error):
                raise

    async def reset(self) -> None:
        """See NodeClient."""
        await self._command("CLUSTER", "RESET", "HARD")

    async def failover(self, kind: FailoverKind) -> None:
        """See NodeClient."""
        match kind:
            case FailoverKind.GRACEFUL:
                await self._command("CLUSTER", "FAILOVER")
            case FailoverKind.FORCE:
                await self._command("CLUSTER", "FAILOVER", "FORCE")
            case FailoverKind.TAKEOVER:
                await self._command("CLUSTER", "FAILOVER", "TAKEOVER")
            case _:
                assert_never(kind)

    async def configure(self, parameters: Parameters) -> None:
        """See NodeClient."""
        await self._command("CONFIG", "SET", *(word for pair in parameters for word in pair))

    async def rewrite_log(self) -> None:
        """See NodeClient."""
        await self._command("BGREWRITEAOF")

    async def set_users(self, rules: Mapping[str, Sequence[str]]) -> None:
        """See NodeClient. The engine hides the rules from its slow log and from MONITOR."""
        await self._pipeline(*(("ACL", "SETUSER", user, *_NOTHING, *words) for user, words in rules.items()))

    async def release(self, shard: int) -> None:
        """See NodeClient. The application's user comes last: replicas attach first."""
        users = (names.user_of(names.USER_REPLICATION, shard), names.USER_APPLICATION)
        await self._pipeline(*(("ACL", "SETUSER", user, "on") for user in users))

    async def set_slots(self, slots: SlotSet, state: SlotState, peer: NodeId | None = None) -> None:
        """See NodeClient. One pipeline, so that the engine writes its nodes.conf once (engine-facts §1.2)."""
        words = (state,) if peer is None else (state, peer)
        if slots:
            await self._pipeline(*(("CLUSTER", "SETSLOT", slot, *words) for slot in slots))

    async def count_keys(self, slots: SlotSet) -> dict[int, int]:
        """See NodeClient."""
        counts: dict[int, int] = {}
        every = list(slots)
        for start in range(0, len(every), _SLOTS_PER_ROUND_TRIP):
            part = every[start : start + _SLOTS_PER_ROUND_TRIP]
            counts |= zip(part, await self._pipeline(*(("CLUSTER", "COUNTKEYSINSLOT", s) for s in part)), strict=True)
        return {slot: count for slot, count in counts.items() if count}

    async def keys_in_slots(self, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """See NodeClient."""
        commands = (("CLUSTER", "GETKEYSINSLOT", slot, count) for slot, count in counts.items())
        return dict(zip(counts, await self._pipeline(*commands, decode=False), strict=True))

    async def migrate(self, ip: str, keys: Sequence[bytes], login: Login, silence: float = KEY_SECONDS) -> None:
        """See NodeClient. The engine hides the password from its slow log and from MONITOR."""
        milliseconds = int(silence * 1000)
        where = (ip, names.CACHE_PORT, "", 0, milliseconds)
        command = ("MIGRATE", *where, "REPLACE", "AUTH2", login.user, login.password, "KEYS", *keys)
        # It may be silent while it connects, while it sends and while it waits for the answers.
        await self._pipeline(command, seconds=3 * silence + COMMAND_SECONDS)

    async def position(self) -> StreamPosition:
        """See NodeClient."""
        with self._understanding():
            return parse.position(parse.info(await self._command("INFO", "replication")))

    async def moves_atomically(self) -> bool:
        """See NodeClient."""
        (known,), info, threads = await self._pipeline(
            ("COMMAND", "INFO", "cluster|migrateslots"), ("INFO", "server"), ("CONFIG", "GET", "io-threads")
        )
        with self._understanding():
            version = tuple(map(int, parse.info(info).get("valkey_version", "0").split(".")))
            return known is not None and (version >= _ATOMIC_SINCE or int(threads[1]) == 1)

    async def start_migration(self, slots: SlotSet, target: NodeId) -> None:
        """See NodeClient."""
        bounds = (bound for pair in slots.ranges for bound in pair)
        await self._command("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *bounds, "NODE", target)

    async def migrations(self) -> list[SlotMigration]:
        """See NodeClient."""
        with self._understanding():
            return [parse.migration(entry) for entry in await self._command("CLUSTER", "GETSLOTMIGRATIONS")]

    @contextmanager
    def _understanding(self) -> Iterator[None]:
        try:
            yield
        except (KeyError, ValueError) as error:
            raise NodeRefused(f"{self._ip}: its answer is not understood ({error})") from error

    async def _command(self, *command: Any) -> Any:
        (answer,) = await self._pipeline(command)
        return answer

    async def _pipeline(
        self, *commands: Sequence[Any], seconds: float = COMMAND_SECONDS, decode: bool = True
    ) -> list[Any]:
        """Send all, then read all; the first error answer is raised once every answer has been read.

        ``decode=False`` leaves strings as the bytes that they are.
        """
        with _errors_of(self._ip):
            async with self._turn, asyncio.timeout(seconds):
                if not self._connection.is_connected:  # redis-py would open another one
                    raise NodeUnreachable(f"{self._ip}: connection lost")
                await self._connection.send_packed_command(
                    self._connection.pack_commands([tuple(c) for c in commands]), check_health=False
                )
                answers = [await self._answer(decode=decode) for _ in commands]
            for answer in answers:
                if isinstance(answer, exceptions.ResponseError):
                    raise answer
        return answers

    async def _answer(self, *, decode: bool) -> Any:
        try:  # the pipeline as a whole has a bound; running into redis-py's own would leave the answer for the next
            return await self._connection.read_response(disable_decoding=not decode, timeout=math.inf)
        except exceptions.ResponseError as error:
            return error
