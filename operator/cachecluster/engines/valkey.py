"""NodeClient for Valkey on redis-py's asyncio connection. One connection per node; it never reconnects."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, assert_never

from redis import exceptions
from redis.asyncio import Connection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cachecluster.api import names
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import NodeId, NodeView, Parameters, Peer, Role
from cachecluster.engines import parse
from cachecluster.engines.client import NodeDenied, NodeError, NodeRefused, NodeUnreachable

CONNECT_SECONDS: Final = 2.0
COMMAND_SECONDS: Final = 3.0
_RANGES_PER_COMMAND: Final = 500


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
            return NodeUnreachable(f"{ip}: no answer in time")
        case exceptions.BusyLoadingError():
            return NodeRefused(f"{ip}: {text}")
        case exceptions.ConnectionError() | OSError():
            return NodeUnreachable(f"{ip}: {_cause(error)}")
        case _:
            return NodeRefused(f"{ip}: {text}")


def _cause(error: Exception) -> str:
    """The engine's or the operating system's word, without redis-py's story around it."""
    if getattr(error, "status_code", None):  # an error answer, after which the engine hangs up
        return str(error)
    source: BaseException | None = error
    while source is not None:
        if isinstance(source, OSError) and source.errno:
            return os.strerror(source.errno).lower()
        source = source.__cause__ or source.__context__
    return "connection lost"


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
            ("ACL", "GETUSER", names.USER_REPLICATION),
            ("ACL", "GETUSER", names.USER_APPLICATION),
            *([("CONFIG", "GET", *sorted(parameters))] if parameters else []),
        )
        info, nodes, cluster, replication, application, *asked = await self._pipeline(*commands)
        users = (replication, application)
        try:
            view = _view(parse.info(info), nodes, parse.info(cluster), users)
            return replace(view, parameters=parse.pairs(asked[0])) if asked else view
        except (KeyError, ValueError) as error:
            raise NodeRefused(f"{self._ip}: its answer is not understood ({error})") from error

    async def node_id(self) -> NodeId:
        """See NodeClient."""
        return NodeId(await self._command("CLUSTER", "MYID"))

    async def end_other_sessions(self) -> None:
        """See NodeClient."""
        await self._command("CLIENT", "KILL", "USER", names.USER_OPERATOR, "SKIPME", "yes")

    async def set_config_epoch(self, epoch: int) -> None:
        """See NodeClient."""
        await self._command("CLUSTER", "SET-CONFIG-EPOCH", epoch)

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

    async def release(self) -> None:
        """See NodeClient. The application's user comes last: replicas attach first."""
        users = (names.USER_REPLICATION, names.USER_APPLICATION)
        await self._pipeline(*(("ACL", "SETUSER", user, "on") for user in users))

    async def _command(self, *command: Any) -> Any:
        (answer,) = await self._pipeline(command)
        return answer

    async def _pipeline(self, *commands: Sequence[Any]) -> list[Any]:
        """Send all, then read all; the first error answer is raised once every answer has been read."""
        with _errors_of(self._ip):
            async with self._turn, asyncio.timeout(COMMAND_SECONDS):
                if not self._connection.is_connected:  # redis-py would open another one
                    raise NodeUnreachable(f"{self._ip}: connection lost")
                await self._connection.send_packed_command(
                    self._connection.pack_commands([tuple(c) for c in commands]), check_health=False
                )
                answers = [await self._answer() for _ in commands]
            for answer in answers:
                if isinstance(answer, exceptions.ResponseError):
                    raise answer
        return answers

    async def _answer(self) -> Any:
        try:
            return await self._connection.read_response()
        except exceptions.ResponseError as error:
            return error


def _view(fields: Mapping[str, str], nodes: str, cluster: Mapping[str, str], users: Iterable[Any]) -> NodeView:
    now_ms = int(fields["server_time_usec"]) // 1000
    table = parse.peers(nodes, now_ms)
    link = parse.replica_link(fields)
    return NodeView(
        node_id=_own_id(table),
        run_id=fields["run_id"],
        version=fields.get("valkey_version") or fields["redis_version"],
        role=Role.REPLICA if link is not None else Role.PRIMARY,
        loading=fields.get("loading") != "0" or fields.get("async_loading", "0") != "0",
        keys=parse.keys(fields),
        used_memory=int(fields["used_memory"]),
        replication_id=fields["master_replid"],
        previous_replication_id=fields.get("master_replid2", parse.NO_HISTORY),
        offset=int(fields["slave_repl_offset" if link is not None else "master_repl_offset"]),
        link=link,
        cluster_state_ok=cluster.get("cluster_state") == "ok",
        current_epoch=int(cluster["cluster_current_epoch"]),
        quarantined=any("off" in _flags(user) for user in users if user is not None),
        peers=table,
    )


def _own_id(table: Iterable[Peer]) -> NodeId:
    ids = [p.node_id for p in table if "myself" in p.flags]
    if len(ids) != 1:
        raise ValueError(f"{len(ids)} rows of its table are its own")
    return ids[0]


def _flags(user: Sequence[Any]) -> Sequence[str]:
    """Of ACL GETUSER, a flat list of names and values; a user that does not exist is nil."""
    flags: Sequence[str] = user[user.index("flags") + 1]
    return flags
