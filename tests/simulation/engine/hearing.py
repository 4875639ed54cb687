"""Listening on the bus: handshakes, roles, failure reports, slot ownership (clusterProcessPacket)."""

from typing import TYPE_CHECKING, Final

from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from tests.simulation.engine import bus, election, replication
from tests.simulation.engine.table import Link, Packet, Row, Update

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

CLOCKS_DIFFER_SECONDS: Final = 0.5
"""A pong that another node had later than that by our clock is none (clusterProcessGossipSection)."""


def receive(node: "Node", link: Link, message: Packet, *, inbound: bool) -> None:
    """Process one packet."""
    mine = link.peer_row if inbound else link.row
    sender = mine if mine is not None and not mine.handshake else node.rows.get(message.sender)
    if inbound and link.peer_row is None and sender is not None:
        _associate(link, sender)
    if sender is not None and not sender.handshake:
        _hear_header(node, sender, message)
    if message.kind in {"PING", "MEET"}:
        if message.kind == "MEET":
            _met(node, link, sender, message)
        bus.transmit(link, bus.packet(node, "PONG"), back=inbound)
        _heartbeat(node, link, sender, message, inbound=inbound)
    elif message.kind == "PONG":
        _heartbeat(node, link, sender, message, inbound=inbound)
    elif sender is not None:
        _order(node, link, sender, message, inbound=inbound)


def _order(node: "Node", link: Link, sender: Row, message: Packet, *, inbound: bool) -> None:
    """What is not a heartbeat; strangers are not heard."""
    match message.kind:
        case "FAIL":
            failing = node.rows.get(message.about or NodeId(""))
            if failing is not None and not failing.fail and failing is not node.me:
                bus.fail(node, failing)
        case "AUTH_REQUEST":
            election.vote(node, sender, message)
        case "AUTH_ACK":
            if sender.votes and message.current_epoch >= node.election.epoch:
                node.election.count += 1
                election.run(node)
        case "MFSTART":
            election.pause_for(node, sender, link, inbound=inbound)
        case "UPDATE" if message.update is not None:
            _update(node, message.update)


def _associate(link: Link, row: Row) -> None:
    """The row's inbound connection; a newer one replaces an older."""
    old, link.peer_row = row.inbound, row
    row.inbound = link
    if old is not None and old is not link:
        old.peer_row = None


def _hear_header(node: "Node", sender: Row, message: Packet) -> None:
    node.current_epoch = max(node.current_epoch, message.current_epoch)
    if message.primary and message.config_epoch > sender.config_epoch:
        sender.config_epoch = message.config_epoch
        if node.election.at and node.election.sent and sender.config_epoch >= node.election.epoch:
            node.election.at = 0.0
    sender.offset = message.offset
    manual = node.election
    if manual.manual_end and node.me.primary_id == sender.node_id and message.paused and manual.manual_offset is None:
        manual.manual_offset = message.offset
        election.run(node)


def _met(node: "Node", link: Link, sender: Row | None, message: Packet) -> None:
    """Somebody wants to be known."""
    now = node.now()
    if sender is None:
        if link.peer_row is None:
            row = Row(NodeId(node.new_id()), message.address, now, node.new_id(), handshake=True, inbound_lost=now)
            node.add_row(row)
            _associate(link, row)
        _hear_gossip(node, link.peer_row if node.config.version >= (8, 1) else None, message)
    elif sender.link is not None and now - sender.created > bus.handshake_timeout(node):
        node.network.close(sender.link)


def _heartbeat(node: "Node", link: Link, sender: Row | None, message: Packet, *, inbound: bool) -> None:
    if sender is not None:
        sender.meet = False
    if not inbound:
        if not _identify(node, link, sender, message):
            return
        sender = sender or node.rows.get(message.sender)
    if sender is not None and message.kind == "PING" and not sender.handshake:
        _update_address(node, sender, link, message)
    if not inbound and message.kind == "PONG":
        _answered(node, link.row)
    if sender is None or sender is node.me:
        return
    was_primary = sender.primary
    _hear_role(node, sender, message)
    if message.primary and (not was_primary or sender.slots != message.slots):
        update_slots(node, sender, message.config_epoch, message.slots)
        _correct(node, sender, message)
    if node.me.primary and sender.primary and message.config_epoch == node.me.config_epoch:
        _collide(node, sender)
    _hear_gossip(node, sender, message)
    _hear_extensions(node, sender, message)


def _identify(node: "Node", link: Link, sender: Row | None, message: Packet) -> bool:
    """Who answered on our link? False if the link is not to be used any more."""
    row = link.row
    if row.handshake:
        if sender is not None:
            _update_address(node, sender, link, message)
            node.drop_row(row)
            return False
        del node.rows[row.node_id]
        row.node_id, row.handshake, row.shard_id = message.sender, False, message.shard_id
        row.primary = message.primary
        node.add_row(row)
        return True
    if row.node_id != message.sender:
        row.noaddr = True
        row.address = row.address._replace(ip="")
        node.network.close(link)
        if node.config.version >= (8, 1) and not row.fail:
            bus.fail(node, row)
            bus.broadcast(node, bus.packet(node, "FAIL", about=row.node_id))
        node.update_state()
        return False
    return True


def _answered(node: "Node", row: Row) -> None:
    row.pong_received, row.ping_sent = node.now(), 0.0
    if row.pfail:
        row.pfail = False
        node.update_state()
    elif row.fail and (not row.votes or node.now() - row.fail_time > 2 * node.timeout):
        row.fail = False
        node.update_state()


def _update_address(node: "Node", row: Row, link: Link, message: Packet) -> None:
    if row.link is link or row.address == message.address or row is node.me:
        return
    row.address, row.noaddr = message.address, False
    if row.link is not None:
        node.network.close(row.link)
    if node.me.primary_id == row.node_id:
        replication.redirect(node, row.address.ip)


def _hear_role(node: "Node", sender: Row, message: Packet) -> None:
    if message.primary:
        sender.primary, sender.primary_id = True, None
        return
    claimed = node.rows.get(message.primary_id) if message.primary_id else None
    if sender.primary:
        if claimed is not None and claimed.shard_id == sender.shard_id:
            if sender.config_epoch <= message.config_epoch and claimed is not node.me:
                claimed.primary, claimed.primary_id = True, None
                claimed.config_epoch = max(claimed.config_epoch, message.config_epoch)
        else:
            sender.slots, sender.unclaimed = NO_SLOTS, NO_SLOTS
        sender.primary = False
        node.update_state()
    if claimed is not None and sender.primary_id != claimed.node_id:
        sender.primary_id, sender.shard_id = claimed.node_id, claimed.shard_id
        ours = node.rows.get(node.me.primary_id) if node.me.primary_id else None
        if ours is sender and claimed is not node.me:
            node.follow(claimed, full_sync=claimed.shard_id != node.me.shard_id)


def _update(node: "Node", update: Update) -> None:
    row = node.rows.get(update.node_id)
    if row is None or row.config_epoch >= update.config_epoch:
        return
    if row is not node.me:
        row.primary, row.primary_id = True, None
    row.config_epoch = update.config_epoch
    update_slots(node, row, update.config_epoch, update.slots)


def update_slots(node: "Node", sender: Row, epoch: int, slots: SlotSet) -> None:
    """Rebind slots to a claim with a newer epoch; follow who took all of our shard's (clusterUpdateSlotsConfigWith)."""
    if sender is node.me:
        return
    same_shard = sender.shard_id == node.me.shard_id
    current = node.speaks_for
    ours_before = current.slots
    rest = gained = slots - sender.slots
    for row in node.rows.values():
        if not rest:
            break
        overlap = row.slots & rest if row is not sender else NO_SLOTS
        if not overlap:
            continue
        rest -= overlap
        lost = overlap if row.config_epoch < epoch else overlap & row.unclaimed
        row.slots, row.unclaimed = row.slots - lost, row.unclaimed - lost
        gained -= overlap - lost
    sender.unclaimed = (sender.slots - slots) if sender.slots else NO_SLOTS
    sender.slots |= gained
    node.update_state()
    if ours_before and not current.slots and current is not sender and ours_before & gained and same_shard:
        node.follow(sender, full_sync=False)
    else:
        node.lose(ours_before & gained)
    _reopen(node, sender, gained)


def _reopen(node: "Node", sender: Row, gained: SlotSet) -> None:
    """Who has taken a shard over is now the other end of slots on their way from or to it (Valkey >= 8.0)."""
    if not gained or node.config.version < (8, 0):
        return
    rows = (node.rows.get(peer) for peer in {*node.migrating.values(), *node.importing.values()})
    replaced = {r.node_id for r in rows if r is not None and r is not sender and r.shard_id == sender.shard_id}
    if replaced:
        node.migrating = {s: sender.node_id if peer in replaced else peer for s, peer in node.migrating.items()}
        node.importing = {s: sender.node_id if peer in replaced else peer for s, peer in node.importing.items()}


def _correct(node: "Node", sender: Row, message: Packet) -> None:
    """The sender claims slots that somebody owns under a newer epoch: tell it."""
    for row in node.rows.values():
        if (
            row is not sender
            and row.config_epoch > message.config_epoch
            and (row.slots - row.unclaimed) & message.slots
        ):
            news = Update(row.node_id, row.config_epoch, row.slots - row.unclaimed)
            bus.transmit(sender.link, bus.packet(node, "UPDATE", update=news))
            return


def _collide(node: "Node", sender: Row) -> None:
    """Two primaries with one epoch: the smaller id takes a new one (clusterHandleConfigEpochCollision)."""
    if sender.node_id > node.node_id:
        node.current_epoch += 1
        node.me.config_epoch = node.current_epoch


def _hear_gossip(node: "Node", sender: Row | None, message: Packet) -> None:
    for entry in message.gossip:
        row = node.rows.get(entry.node_id)
        if row is node.me:
            continue
        if row is None:
            if sender is not None and node.blacklist.get(entry.node_id, 0.0) <= node.now():
                new = Row(entry.node_id, entry.address, node.now(), node.new_id(), primary=entry.primary)
                new.inbound_lost = node.now()
                node.add_row(new)
            continue
        if sender is not None:
            if entry.failing and sender.votes:
                row.reports[sender.node_id] = node.now()
            elif not entry.failing:
                row.reports.pop(sender.node_id, None)
            bus.mark_failing(node, row)
        believable = entry.pong_received <= node.now() + CLOCKS_DIFFER_SECONDS
        if not entry.failing and not row.ping_sent and not row.reports and believable:
            row.pong_received = max(row.pong_received, entry.pong_received)
        if (row.fail or row.pfail) and not entry.failing and row.address != entry.address:
            if row.link is not None:
                node.network.close(row.link)
            row.address, row.noaddr = entry.address, False
            if node.me.primary_id == row.node_id:
                replication.redirect(node, row.address.ip)


def _hear_extensions(node: "Node", sender: Row, message: Packet) -> None:
    """Ids to forget, and the sender's shard, which its replicas share."""
    for node_id, ttl in message.forgotten:
        row = node.rows.get(node_id)
        if row is not None and row is not node.me and node.me.primary_id != node_id:
            node.blacklist[node_id] = node.now() + ttl
            node.drop_row(row)
    sender.shard_id = message.shard_id
    if node.me.primary_id == sender.node_id:
        node.me.shard_id = message.shard_id
