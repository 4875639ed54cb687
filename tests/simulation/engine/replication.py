"""Replication: attach, partial or full sync, the stream, what a promotion does to the history (replication.c)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cachecluster.domain import durability
from cachecluster.domain.nodes import NodeId
from tests.simulation.engine.disk import Dump

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

REPL_TIMEOUT = 60.0
NO_REPLICAS = "NOREPLICAS Not enough good replicas to write."


class Write(NamedTuple):
    """One entry of a replication stream."""

    slot: int
    token: str
    gone: bool = False
    """The token is taken away, not added."""


@dataclass(slots=True, eq=False)
class Stream:
    """One node's replication history, and its link to a primary while it is a replica."""

    id: str
    previous_id: str = "0" * 40
    second_offset: int = -1
    """Up to here ``previous_id`` is the same history."""
    offset: int = 0
    log_start: int = 0
    log: list[Write] = field(default_factory=list)
    """Every write after ``log_start``: the backlog."""
    primary_ip: str = ""
    primary: "Node | None" = None
    """Process on the other end while connected."""
    up: bool = False
    syncing: bool = False
    down_since: float | None = None
    """None: the link has never been up in this process's life."""
    last_io: float = 0.0
    sync_began: float = 0.0
    pending: list[Write] = field(default_factory=list)
    """On the wire towards this replica."""
    attempt: int = 0
    replicas: dict[NodeId, "Node"] = field(default_factory=dict)
    heard: dict[NodeId, float] = field(default_factory=dict)
    """When each replica in step has last reported (REPLCONF ACK)."""
    good: int = 0
    """How many of them have lately, when last counted."""


def refuses(node: "Node") -> bool:
    """Whether a primary answers writes with NOREPLICAS (checkGoodReplicasStatus)."""
    return node.me.primary and _max_lag(node) > 0 and node.repl.good < int(node.parameters[durability.TO_WRITE])


def _max_lag(node: "Node") -> int:
    return int(node.parameters[durability.MAX_LAG])


def count(node: "Node") -> None:
    """Once a second, and whenever replicas come or go: in whole seconds (refreshGoodReplicasCount)."""
    now = int(node.now())
    node.repl.good = sum(now - int(heard) <= _max_lag(node) for heard in node.repl.heard.values())


def lag(node: "Node") -> int | None:
    """Whole seconds since the last report of any replica in step (INFO replication)."""
    now = int(node.now())
    return min((now - int(heard) for heard in node.repl.heard.values()), default=None)


def accept(node: "Node", slot: int, token: str) -> str | None:
    """A client's write: None if it is taken, else the engine's error."""
    if refuses(node):
        return NO_REPLICAS
    append(node, slot, token)
    return None


def append(node: "Node", slot: int, token: str) -> None:
    """A write on a primary: applied here, on its way to the replicas."""
    _pass_on(node, Write(slot, token))


def remove(node: "Node", slot: int, token: str) -> None:
    """A deletion on a primary, likewise."""
    _pass_on(node, Write(slot, token, gone=True))


def _pass_on(node: "Node", write: Write) -> None:
    _apply(node, write)
    for replica in node.repl.replicas.values():
        if replica.repl.up:
            replica.repl.pending.append(write)
            node.network.send(node.ip, replica.ip, _drain, replica, replica.repl.attempt)


def _apply(node: "Node", write: Write) -> None:
    before = node.tokens.pop(write.slot, ())
    after = tuple(t for t in before if t != write.token) if write.gone else (*before, write.token)
    if after:
        node.tokens[write.slot] = after
    node.repl.offset += 1
    node.repl.log.append(write)


def _drain(node: "Node", attempt: int) -> None:
    """Take in what has arrived; a packet of an earlier connection is nobody's."""
    if not node.alive or node.frozen or node.repl.attempt != attempt:
        return
    arrived, node.repl.pending = node.repl.pending, []
    for write in arrived:
        _pass_on(node, write)
    node.repl.last_io = node.now()


def flush(node: "Node") -> None:
    """The process ends: its kernel still delivers what was written to the sockets."""
    for replica in node.repl.replicas.values():
        if replica.repl.up and node.network.open(node.ip, replica.ip):
            _drain(replica, replica.repl.attempt)


def hang_up(node: "Node") -> None:
    """End all links of a process that has ended; a primary that is not told goes on counting its last report. What is
    on its way from a machine without power is lost.
    """
    primary = node.repl.primary
    if primary is not None and not node.network.open(node.ip, primary.ip):
        node.repl.primary = None
    _detach(node)
    for replica in list(node.repl.replicas.values()):
        if node.network.open(node.ip, replica.ip):
            _down(replica)
        else:
            replica.repl.pending = []


def _down(node: "Node") -> None:
    repl = node.repl
    _detach(node)
    if repl.up:
        repl.up, repl.down_since = False, node.now()


def _detach(node: "Node") -> None:
    repl = node.repl
    if repl.primary is not None:
        repl.primary.repl.replicas.pop(node.node_id, None)
        repl.primary.repl.heard.pop(node.node_id, None)
        count(repl.primary)
    repl.primary, repl.syncing, repl.pending = None, False, []
    repl.attempt += 1


def start(node: "Node", ip: str, *, was_primary: bool, full_sync: bool) -> None:
    """Follow the primary at ``ip`` (replicationSetPrimary)."""
    repl = node.repl
    for replica in list(repl.replicas.values()):
        _down(replica)
    _down(node)
    repl.primary_ip = ip
    if was_primary:
        repl.down_since = node.now() if repl.offset else None
    if full_sync:
        repl.id = node.new_id()
    node.network.clock.later(0.01, _connect, node, repl.attempt)


def redirect(node: "Node", ip: str) -> None:
    """The primary has another address."""
    _down(node)
    node.repl.primary_ip = ip


def promote(node: "Node") -> None:
    """Continue the primary's history under a new id (shiftReplicationId)."""
    repl = node.repl
    _down(node)
    repl.previous_id, repl.second_offset, repl.id = repl.id, repl.offset + 1, node.new_id()
    repl.primary_ip, repl.down_since = "", None
    for replica in list(repl.replicas.values()):
        _down(replica)


def cron(node: "Node") -> None:
    """Once a second: connect if not connected, report if in step, notice silence."""
    repl = node.repl
    count(node)
    if node.me.primary:
        return
    row = node.rows.get(node.me.primary_id) if node.me.primary_id else None
    if not repl.primary_ip and row is not None and not row.noaddr:
        repl.primary_ip = row.address.ip
    if repl.primary is None:
        _connect(node, repl.attempt)
    elif node.network.open(node.ip, repl.primary.ip):
        if not repl.primary.alive:
            _down(node)
        elif repl.up and not repl.primary.frozen:
            _drain(node, repl.attempt)
            repl.primary.repl.heard[node.node_id] = repl.primary.now()
    elif node.now() - repl.last_io > REPL_TIMEOUT:
        _down(node)


def _connect(node: "Node", attempt: int) -> None:
    """Open the link and ask for a sync; a primary that is not in sync itself has nothing to offer."""
    repl = node.repl
    if not node.alive or node.me.primary or repl.primary is not None or repl.attempt != attempt:
        return
    primary = node.network.listener(node.ip, repl.primary_ip)
    if primary is None or primary is node or primary.quarantined or not primary.lets(node, "+psync"):
        return
    if not primary.me.primary and not primary.repl.up:
        return
    repl.primary, repl.last_io = primary, node.now()
    primary.repl.replicas[node.node_id] = node
    if _continues(node, primary):
        node.network.clock.later(0.01, _partial, node, repl.attempt)
    else:
        repl.syncing, repl.sync_began = True, node.now()
        node.network.clock.later(node.config.sync_seconds * (0.5 + node.chance.random()), _full, node, repl.attempt)


def _continues(node: "Node", primary: "Node") -> bool:
    ours, theirs = node.repl, primary.repl
    same = ours.id == theirs.id or (ours.id == theirs.previous_id and ours.offset < theirs.second_offset)
    return same and theirs.log_start <= ours.offset <= theirs.offset


def _usable(node: "Node", attempt: int) -> "Node | None":
    """The primary of an attempt that is still on and can be heard."""
    primary = node.repl.primary
    if not node.alive or node.frozen or node.repl.attempt != attempt or primary is None:
        return None
    if not primary.alive or not node.network.open(node.ip, primary.ip):
        _down(node)
        return None
    return primary


def _partial(node: "Node", attempt: int) -> None:
    primary = _usable(node, attempt)
    if primary is None:
        return
    if not _continues(node, primary):
        _down(node)
        return
    for write in primary.repl.log[node.repl.offset - primary.repl.log_start :]:
        _apply(node, write)
    _joined(node, primary)


def _full(node: "Node", attempt: int) -> None:
    """All of the primary's data in place of ours: whatever only we had is gone."""
    primary = _usable(node, attempt)
    if primary is None:
        return
    before, node.tokens = node.tokens, dict(primary.tokens)
    node.repl.offset = node.repl.log_start = primary.repl.offset
    node.repl.log = []
    if node.config.append_only:
        node.disk.append_only = dict(node.tokens)
    elif node.config.snapshots:  # the file that the sync came in
        node.disk.dump = Dump(dict(node.tokens), primary.repl.id, primary.repl.offset)
    gone = {s: tuple(t for t in tokens if t not in node.tokens.get(s, ())) for s, tokens in before.items()}
    node.discard({s: t for s, t in gone.items() if t}, f"full sync from {primary.ip}")
    _joined(node, primary)


def _joined(node: "Node", primary: "Node") -> None:
    repl = node.repl
    repl.id, repl.previous_id, repl.second_offset = (
        primary.repl.id,
        primary.repl.previous_id,
        primary.repl.second_offset,
    )
    repl.up, repl.syncing, repl.last_io, repl.down_since = True, False, node.now(), None
    primary.repl.heard[node.node_id] = primary.now()
    count(primary)
    share_marks(primary, node)


def share_marks(primary: "Node", replica: "Node") -> None:
    """A replica knows its primary's open slots, from Valkey 8.0 on; CLUSTER SETSLOT waits for it to know them."""
    if primary.config.version >= (8, 0):
        replica.migrating, replica.importing = dict(primary.migrating), dict(primary.importing)
