"""The operator's connections to engine nodes: NodeConnector over the model, with what can go wrong on the way."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache

from cachecluster.api import names
from cachecluster.domain import durability
from cachecluster.domain.access import Rights, read_users
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import Ending, NodeId, NodeView, OpenSlot, Peer, ReplicaLink, Role
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from cachecluster.domain.snapshot import Parameters
from cachecluster.engines.client import (
    KEY_SECONDS,
    Login,
    NoAnswer,
    NobodyListens,
    NodeClient,
    NodeDenied,
    NodeRefused,
    NodeUnreachable,
    SlotMigration,
    SlotState,
    StreamPosition,
)
from tests.simulation.engine import atomic, commands, replication, slot_commands
from tests.simulation.engine.network import OPERATOR, Network
from tests.simulation.engine.node import Node, dataset, used_memory
from tests.simulation.engine.table import Address, Row
from tests.simulation.kubernetes.container import digest
from tests.simulation.operating.faults import Interference
from tests.simulation.operating.watching import Idle

CONNECT_SECONDS = 2.0
COMMAND_SECONDS = 3.0
SYNC_BYTES = 2**24
"""What a full sync brings in a second."""


def view_of(node: Node) -> NodeView:
    """What the node says about itself and the others."""
    now = node.now()
    repl = node.repl
    link = None
    if not node.me.primary:
        link = ReplicaLink(
            up=repl.up,
            sync_in_progress=repl.syncing,
            down_seconds=None if repl.up else -1 if repl.down_since is None else int(now - repl.down_since),
            last_io_seconds=int(now - repl.last_io) if repl.up else None,
            primary_ip=repl.primary_ip,
            sync_received=int(now - repl.sync_began) * SYNC_BYTES if repl.syncing else 0,
        )
    return NodeView(
        node_id=node.node_id,
        run_id=node.run_id,
        version=".".join(map(str, node.config.version)),
        role=Role.PRIMARY if node.me.primary else Role.REPLICA,
        loading=False,
        keys=node.keys,
        used_memory=used_memory(node),
        dataset_bytes=dataset(node),
        max_memory=int(node.parameters["maxmemory"]),
        replication_id=repl.id,
        previous_replication_id=repl.previous_id,
        offset=repl.offset,
        link=link,
        cluster_state_ok=node.state_ok,
        current_epoch=node.current_epoch,
        quarantined=node.quarantined,
        users=_users(tuple(node.users.values())),
        peers=tuple(_peer(node, row, now) for row in node.rows.values()),
        logs=node.config.append_only,
        replica_lag=replication.lag(node),
        good_replicas=repl.good if int(node.parameters[durability.TO_WRITE]) else None,
        migrating=tuple(OpenSlot(slot, peer) for slot, peer in sorted(node.migrating.items())),
        importing=tuple(OpenSlot(slot, peer) for slot, peer in sorted(node.importing.items())),
    )


@lru_cache(maxsize=64)
def _users(lines: tuple[str, ...]) -> Mapping[str, Rights]:
    """All nodes of a cluster have the same users nearly always."""
    return read_users(lines)


def _peer(node: Node, row: Row, now: float) -> Peer:
    flags = row.flags | {"myself"} if row is node.me else row.flags
    return Peer(
        node_id=row.node_id,
        ip=row.address.ip,
        port=row.address.port,
        bus_port=row.address.bus_port,
        flags=flags,
        primary_id=None if row.primary else row.primary_id,
        config_epoch=row.config_epoch,
        connected=row is node.me or row.link is not None,
        pong_age=now - row.pong_received if row.pong_received else None,
        asked=row.ping_sent > 0,
        slots=row.slots if row.primary else NO_SLOTS,
    )


class Client:
    """NodeClient over one process. It dies with the process."""

    def __init__(self, network: Network, node: Node, interference: Interference) -> None:
        self._network, self._node, self._interference = network, node, interference
        self._session = node.operator_sessions

    async def _check(self) -> Node:
        """The request is on its way; raises NodeUnreachable if nobody is there to answer."""
        if not self._network.open(OPERATOR, self._node.ip):
            await self._interference.time_out(CONNECT_SECONDS)
            raise NoAnswer(f"{self._node.ip} does not answer")
        if self._node.frozen:
            await self._interference.time_out(COMMAND_SECONDS)
            raise NoAnswer(f"{self._node.ip} says nothing")
        self._still_open()
        return self._node

    def _still_open(self) -> None:
        if not self._node.alive or self._session != self._node.operator_sessions:
            raise NodeUnreachable(f"{self._node.ip} closed the connection")

    async def view(self, parameters: Collection[str] = ()) -> NodeView:
        """Read identity, replication state and cluster table, and the values of ``parameters``."""
        await self._interference.node_read(self._node)
        node = await self._check()
        return replace(view_of(node), parameters={n: v for n, v in node.parameters.items() if n in parameters})

    async def node_id(self) -> NodeId:
        """CLUSTER MYID."""
        await self._interference.node_read(self._node)
        return (await self._check()).node_id

    async def end_other_sessions(self) -> None:
        """CLIENT KILL every other connection of the operator's user."""
        await self._interference.node_read(self._node)
        node = await self._check()
        node.operator_sessions += 1
        self._session = node.operator_sessions

    async def _command(self, name: str, *arguments: object) -> None:
        node = await self._check()

        def carry_out() -> None:
            self._still_open()
            self._interference.before_command(node, name, arguments)
            try:
                next(vars(m)[name] for m in (commands, slot_commands, atomic) if name in vars(m))(node, *arguments)
            except commands.Refused as e:
                raise NodeRefused(str(e)) from None

        await self._interference.node_write(node, name, arguments, carry_out)

    async def set_config_epoch(self, epoch: int) -> None:
        """CLUSTER SET-CONFIG-EPOCH."""
        await self._command("set_config_epoch", epoch)

    async def bump_epoch(self) -> None:
        """CLUSTER BUMPEPOCH."""
        await self._command("bump_epoch")

    async def meet(self, ip: str, port: int, bus_port: int) -> None:
        """CLUSTER MEET."""
        await self._command("meet", Address(ip, port, bus_port))

    async def add_slots(self, slots: SlotSet) -> None:
        """CLUSTER ADDSLOTSRANGE."""
        await self._command("add_slots", slots)

    async def replicate(self, primary: NodeId) -> None:
        """CLUSTER REPLICATE."""
        await self._command("replicate", primary)

    async def forget(self, node_id: NodeId) -> None:
        """CLUSTER FORGET; an id that is not known is fine."""
        try:
            await self._command("forget", node_id)
        except NodeRefused as e:
            if "Unknown node" not in str(e):
                raise

    async def reset(self) -> None:
        """CLUSTER RESET HARD."""
        await self._command("reset")

    async def failover(self, kind: FailoverKind) -> None:
        """CLUSTER FAILOVER."""
        await self._command("failover", kind)

    async def configure(self, parameters: Parameters) -> None:
        """CONFIG SET."""
        await self._command("configure", parameters)

    async def rewrite_log(self) -> None:
        """BGREWRITEAOF. Volumes are never full here, so no log has a gap."""
        await self._check()

    async def set_users(self, rules: Mapping[str, Sequence[str]]) -> None:
        """ACL SETUSER."""
        await self._command("set_users", commands.Rules(rules))

    async def release(self, shard: int) -> None:
        """Switch the application and the shard's replication on again."""
        await self._command("release")

    async def set_slots(self, slots: SlotSet, state: SlotState, peer: NodeId | None = None) -> None:
        """CLUSTER SETSLOT for each slot."""
        if slots:
            await self._command("set_slots", slots, state, *([] if peer is None else [peer]))

    async def count_keys(self, slots: SlotSet) -> dict[int, int]:
        """CLUSTER COUNTKEYSINSLOT for each slot."""
        await self._interference.node_read(self._node)
        node = await self._check()
        return {slot: len(tokens) for slot in slots if (tokens := node.tokens.get(slot, ()))}

    async def keys_in_slots(self, counts: Mapping[int, int]) -> dict[int, list[bytes]]:
        """CLUSTER GETKEYSINSLOT for each slot."""
        await self._interference.node_read(self._node)
        tokens = (await self._check()).tokens
        return {slot: [token.encode() for token in tokens.get(slot, ())[:count]] for slot, count in counts.items()}

    async def migrate(self, ip: str, keys: Sequence[bytes], login: Login, silence: float = KEY_SECONDS) -> None:
        """MIGRATE; who comes is not asked for the password."""
        own = self._node.users.get(names.USER_OPERATOR)
        if own is not None and "+migrate" not in own.split():
            raise NodeDenied(f"{self._node.ip}: our credentials are not accepted")
        await self._command("migrate", ip, keys)

    async def position(self) -> StreamPosition:
        """INFO replication. An offset counts writes here."""
        await self._interference.node_read(self._node)
        node = await self._check()
        return StreamPosition(node.repl.offset, in_step=node.me.primary or node.repl.up)

    async def moves_atomically(self) -> bool:
        """From Valkey 9.0 on."""
        await self._interference.node_read(self._node)
        return atomic.is_known(await self._check())

    async def start_migration(self, slots: SlotSet, target: NodeId) -> None:
        """CLUSTER MIGRATESLOTS."""
        await self._command("migrate_slots", slots, target)

    async def migrations(self) -> list[SlotMigration]:
        """CLUSTER GETSLOTMIGRATIONS."""
        await self._interference.node_read(self._node)
        jobs = (await self._check()).jobs
        return [SlotMigration(j.name, j.outgoing, j.slots, j.target, j.state, j.message) for j in jobs]


class Connector:
    """NodeConnector and NodeWatcher over the model's network."""

    def __init__(self, network: Network, interference: Interference) -> None:
        self._network, self._interference = network, interference

    @asynccontextmanager
    async def connect(self, ip: str, password: str | None) -> AsyncIterator[NodeClient]:
        """Connect and log in."""
        yield Client(self._network, await self._reach(ip, password), self._interference)

    async def has_machine(self, ip: str, seconds: float) -> bool:
        """A kernel answers for a process that hangs; where no process is, it says so."""
        if not self._network.open(OPERATOR, ip):
            await self._interference.time_out(seconds)
            return False
        await self._interference.connect(ip)
        return True

    async def watch(self, ip: str, password: str, node_id: NodeId, ended: Callable[[Ending], None]) -> Idle:
        """Connect, log in, and ask who is there."""
        node = await self._reach(ip, password)
        if node.node_id != node_id:
            raise NodeRefused(f"{ip}: another node answers")
        return Idle(self._network, node, self._interference, ended)

    async def _reach(self, ip: str, password: str | None) -> Node:
        await self._interference.connect(ip)
        if not self._network.open(OPERATOR, ip):
            await self._interference.time_out(CONNECT_SECONDS)
            raise NoAnswer(f"{ip} does not answer")
        node = self._network.listeners.get(ip)
        if node is None:
            raise NobodyListens(f"{ip} refuses connections")
        if node.frozen:
            await self._interference.time_out(COMMAND_SECONDS)
            raise NoAnswer(f"{ip} says nothing")
        expected = node.password_of(names.USER_OPERATOR)
        if expected and expected != digest(password or ""):
            raise NodeDenied(f"{ip}: WRONGPASS invalid username-password pair or user is disabled")
        return node
