"""Speaking on the bus: connections, heartbeats, suspicion (clusterCron, clusterSendPing)."""

from functools import partial
from typing import TYPE_CHECKING, Final

from cachecluster.domain.nodes import NodeId
from tests.simulation.engine import hearing
from tests.simulation.engine.network import Port
from tests.simulation.engine.table import Gossip, Link, Packet, Row, Update

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

SAID_AGAIN: Final = frozenset({"PING", "PONG", "MEET", "FAIL", "UPDATE"})
"""A node may say them at any time; votes and what leads to them are said once."""


def handshake_timeout(node: "Node") -> float:
    """How long a handshake may take, and how long a one-sided acquaintance is left alone."""
    return max(node.timeout, 1.0)


def packet(node: "Node", kind: str, about: NodeId | None = None, update: Update | None = None) -> Packet:
    """Header of a message; heartbeats carry gossip."""
    spoken = node.speaks_for
    made = Packet(
        kind,
        node.node_id,
        node.address,
        node.me.shard_id,
        node.me.primary,
        node.me.primary_id,
        node.current_epoch,
        spoken.config_epoch,
        spoken.slots,
        node.repl.offset,
        paused=node.me.primary and node.election.manual_end > 0,
        force_ack=kind == "AUTH_REQUEST" and node.election.manual_end > 0,
        about=about,
        update=update,
    )
    if kind in {"PING", "PONG", "MEET"}:
        made.gossip = _gossip(node)
        now = node.now()
        if node.config.version >= (8, 0):
            made.forgotten = tuple((i, t - now) for i, t in node.blacklist.items() if t > now)
    return made


def _gossip(node: "Node") -> tuple[Gossip, ...]:
    others = [r for r in node.rows.values() if r is not node.me and not r.handshake and not r.noaddr]
    known = [r for r in others if r.link is not None or r.slots]
    wanted = max(3, len(node.rows) // 10)
    chosen = known if len(known) <= wanted else node.chance.sample(known, wanted)
    chosen = [*chosen, *(r for r in others if r.pfail and r not in chosen)]
    return tuple(Gossip(r.node_id, r.address, r.primary, r.fail or r.pfail, r.pong_received) for r in chosen)


# -- sending ------------------------------------------------------------------------------------------------------


def ping(node: "Node", link: Link, kind: str = "PING") -> None:
    """Send a heartbeat over a link that this node has opened."""
    row = link.row
    if kind == "PING" and not row.ping_sent:
        row.ping_sent = node.now()
    if kind == "MEET":
        row.meet_sent = node.now()
    transmit(link, packet(node, kind))


def transmit(link: Link | None, message: Packet, *, back: bool = False) -> None:
    """Put a message on a connection; ``back``: from the acceptor to the opener."""
    if link is None or not link.open:
        return
    source, destination = (link.peer, link.owner) if back else (link.owner, link.peer)
    deliver = partial(_deliver, link, destination, message)
    link.owner.network.say(link, source.ip, destination.ip, deliver, again=message.kind in SAID_AGAIN)


def _deliver(link: Link, destination: "Node", message: Packet) -> None:
    if destination.alive and link.open and not destination.frozen:
        hearing.receive(destination, link, message, inbound=destination is link.peer)


def broadcast(node: "Node", message: Packet) -> None:
    """To every known node with a link."""
    for row in list(node.rows.values()):
        if row is not node.me and not row.handshake:
            transmit(row.link, message)


def broadcast_pong(node: "Node") -> None:
    """Tell everybody about a change of ours."""
    broadcast(node, packet(node, "PONG"))


def connect(node: "Node", row: Row) -> None:
    """Open the link to a node; whoever listens there on this bus port accepts."""
    peer = node.network.listener(node.ip, row.address.ip, Port.BUS)
    if peer is None or peer is node or peer.address.bus_port != row.address.bus_port:
        return
    row.link = Link(node, peer, row, node.now())
    node.network.connected(row.link)
    before = row.ping_sent
    ping(node, row.link, "MEET" if row.meet else "PING")
    if before:
        row.ping_sent = before


# -- heartbeat of the node itself -----------------------------------------------------------------------------------


def cron(node: "Node") -> None:
    """Ten times a second: reconnect, ping, suspect (clusterCron)."""
    now = node.now()
    for row in [r for r in node.rows.values() if r.link is None or r.inbound is None or r.handshake]:
        if row is not node.me and not row.noaddr:
            _reconnect(node, row, now)
    if node.iteration % 10 == 0:
        _ping_somebody(node)
    changed = False
    silent = now - node.timeout / 2
    for row in [r for r in node.rows.values() if r.ping_sent or r.pong_received < silent]:
        if row is not node.me and not row.noaddr and not row.handshake:
            changed |= _watch(node, row, now)
    if changed or not node.state_ok:
        node.update_state()


def _reconnect(node: "Node", row: Row, now: float) -> None:
    timeout = handshake_timeout(node)
    if row.handshake and now - row.created > timeout:
        node.drop_row(row)
        return
    if row.link is None:
        connect(node, row)
    elif (
        node.config.version >= (8, 1)
        and not row.handshake
        and row.inbound is None
        and now - row.inbound_lost > timeout
        and now - row.meet_sent > timeout
    ):
        row.meet = True
        ping(node, row.link, "MEET")


def _ping_somebody(node: "Node") -> None:
    rows = [r for r in node.rows.values() if r is not node.me and not r.handshake]
    picked = [node.chance.choice(rows) for _ in range(5)] if rows else []
    idle = [r for r in picked if r.link is not None and not r.ping_sent]
    if idle:
        oldest = min(idle, key=lambda r: r.pong_received)
        if oldest.link is not None:
            ping(node, oldest.link)


def _watch(node: "Node", row: Row, now: float) -> bool:
    """Ping who has been silent, drop links that hang, suspect who does not answer. True if suspicion changed."""
    timeout = node.timeout
    waited = now - row.ping_sent if row.ping_sent else 0.0
    if row.link is not None and now - row.link.created > timeout and waited > timeout / 2:
        node.network.close(row.link)
    if not row.ping_sent and now - row.pong_received > timeout / 2:
        if row.link is not None:
            ping(node, row.link)
        else:
            row.ping_sent = now
        return False
    if waited > timeout and not row.pfail and not row.fail:
        row.pfail = True
        if node.me.votes:
            mark_failing(node, row)
        return True
    return False


def mark_failing(node: "Node", row: Row) -> None:
    """FAIL once a majority of the primaries with slots suspects it (markNodeAsFailingIfNeeded)."""
    if not row.pfail or row.fail:
        return
    oldest = node.now() - 2 * node.timeout
    row.reports = {i: t for i, t in row.reports.items() if t >= oldest}
    failures = len(row.reports) + (1 if node.me.votes else 0)
    if failures < node.size // 2 + 1:
        return
    fail(node, row)
    broadcast(node, packet(node, "FAIL", about=row.node_id))


def fail(node: "Node", row: Row) -> None:
    """The majority has given it up."""
    row.pfail, row.fail, row.fail_time = False, True, node.now()
    node.update_state()
