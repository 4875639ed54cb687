"""Failover: native elections, votes, manual hand-over (clusterHandleReplicaFailover and around it)."""

from typing import TYPE_CHECKING

from tests.simulation.engine import bus
from tests.simulation.engine.table import Link, Packet, Row

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

MANUAL_TIMEOUT = 5.0
VALIDITY_FACTOR = 10


def reset_manual(node: "Node") -> None:
    """Forget a manual failover; a paused primary serves again (resetManualFailover)."""
    state = node.election
    state.manual_end, state.manual_can_start = 0.0, False
    state.manual_offset, state.manual_replica = None, None


def cron(node: "Node") -> None:
    """Ten times a second."""
    state = node.election
    if state.manual_end and state.manual_end < node.now():
        reset_manual(node)
    if state.manual_end and node.me.primary and state.manual_replica is not None:
        replica = node.rows.get(state.manual_replica)
        if replica is not None and replica.link is not None:
            bus.ping(node, replica.link)
    if not node.me.primary:
        run(node)


def run(node: "Node") -> None:
    """Stand for election if the primary has failed, or if told to."""
    state, now = node.election, node.now()
    _check_manual(node)
    manual = bool(state.manual_end) and state.manual_can_start
    primary = node.rows.get(node.me.primary_id) if node.me.primary_id else None
    if node.me.primary or primary is None or not primary.slots or not (primary.fail or manual):
        return
    timeout = max(2 * node.timeout, 2.0)
    if not manual and _data_age(node) > 1.0 + node.timeout * VALIDITY_FACTOR:
        return
    age = now - state.at
    if age > 2 * timeout:
        _schedule(node, primary)
        age = now - state.at
        if now < state.at:
            return
    if not state.sent and not state.manual_end:
        rank = _rank(node, primary)
        state.at += (rank - state.rank) * 1.0
        state.rank = rank
    if now < state.at or age > timeout:
        return
    if not state.sent:
        node.current_epoch += 1
        state.epoch, state.sent = node.current_epoch, True
        bus.broadcast(node, bus.packet(node, "AUTH_REQUEST"))
    elif state.count >= node.size // 2 + 1:
        node.me.config_epoch = max(node.me.config_epoch, state.epoch)
        node.become_primary()


def _check_manual(node: "Node") -> None:
    """All of the paused primary's stream has arrived: the election may start."""
    state = node.election
    if state.manual_end and not state.manual_can_start and state.manual_offset == node.repl.offset:
        state.manual_can_start, state.at = True, 0.0


def _data_age(node: "Node") -> float:
    """Seconds for which the data may be old; a replica that has never synced is never elected."""
    repl, now = node.repl, node.now()
    if repl.up:
        age = now - repl.last_io
    elif repl.down_since is None:
        return float("inf")
    else:
        age = now - repl.down_since
    return age - node.timeout if age > node.timeout else age


def _schedule(node: "Node", primary: Row) -> None:
    state, now = node.election, node.now()
    state.count, state.sent = 0, False
    state.rank = _rank(node, primary)
    state.at = now + 0.5 + 0.5 * node.chance.random() + state.rank * 1.0
    if state.manual_end:
        state.at, state.rank = now, 0
    bus.broadcast_pong(node)


def _rank(node: "Node", primary: Row) -> int:
    """How many siblings are better candidates."""
    mine = (-node.repl.offset, node.node_id)
    siblings = [r for r in node.rows.values() if r.primary_id == primary.node_id and r is not node.me]
    return sum(1 for r in siblings if (-r.offset, r.node_id) < mine)


def vote(node: "Node", sender: Row, request: Packet) -> None:
    """Grant a vote if the rules allow it (clusterSendFailoverAuthIfNeeded)."""
    primary = node.rows.get(sender.primary_id) if sender.primary_id else None
    if not node.me.votes or request.current_epoch < node.current_epoch or node.last_vote_epoch == node.current_epoch:
        return
    if sender.primary or primary is None or not (primary.fail or request.force_ack):
        return
    now = node.now()
    if node.config.version < (8, 1) and now - primary.voted < 2 * node.timeout:
        return
    for row in node.rows.values():
        if row.config_epoch > request.config_epoch and (row.slots - row.unclaimed) & request.slots:
            return
    node.last_vote_epoch, primary.voted = node.current_epoch, now
    bus.transmit(sender.link, bus.packet(node, "AUTH_ACK"))


def pause_for(node: "Node", sender: Row, link: Link, *, inbound: bool) -> None:
    """A replica asks to take over: stop writes and tell it where the stream ends (MFSTART)."""
    if sender.primary_id != node.node_id:
        return
    reset_manual(node)
    node.election.manual_end = node.now() + MANUAL_TIMEOUT
    node.election.manual_replica = sender.node_id
    bus.transmit(link, bus.packet(node, "PING"), back=inbound)
