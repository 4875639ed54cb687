"""Moving slots and their keys: CLUSTER SETSLOT and MIGRATE, with the engine's refusals. A key is one token."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import SlotSet
from cachecluster.engines.client import SlotState
from tests.simulation.engine import bus, replication
from tests.simulation.engine.commands import Refused

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node


def set_slots(node: "Node", slots: SlotSet, state: SlotState, peer: NodeId | None = None) -> None:
    """CLUSTER SETSLOT for each slot, as a pipeline: one refusal does not keep the others back."""
    refusals: list[Refused] = []
    given: list[int] = []
    for slot in slots:
        try:
            _set_slot(node, slot, state, peer)
        except Refused as e:
            refusals.append(e)
            continue
        if state is SlotState.NODE and node.config.version < (8, 1):
            _give(node, SlotSet.of([slot]), peer)
        elif state is SlotState.NODE:  # what comes at once is announced at once (engine-facts §1.3)
            given.append(slot)
    if given:
        _give(node, SlotSet.of(given), peer)
    for replica in node.repl.replicas.values():
        if replica.repl.up:
            replication.share_marks(node, replica)
    if refusals:
        raise refusals[0]


def _set_slot(node: "Node", slot: int, state: SlotState, peer: NodeId | None) -> None:
    if not node.me.primary:
        raise Refused("ERR Please use SETSLOT only with masters.")
    if state is SlotState.STABLE:
        node.migrating.pop(slot, None)
        node.importing.pop(slot, None)
        return
    mine = slot in node.me.slots
    if state is SlotState.MIGRATING and not mine:
        raise Refused(f"ERR I'm not the owner of hash slot {slot}")
    if state is SlotState.IMPORTING and mine:
        raise Refused(f"ERR I'm already the owner of hash slot {slot}")
    row = node.rows.get(peer) if peer is not None else None
    if row is None:
        raise Refused(f"ERR I don't know about node {peer}")
    if not row.primary:
        raise Refused("ERR Target node is not a master")
    match state:
        case SlotState.MIGRATING:
            node.migrating[slot] = row.node_id
        case SlotState.IMPORTING:
            node.importing[slot] = row.node_id
        case SlotState.NODE if mine and row is not node.me and node.tokens.get(slot):
            raise Refused(
                f"ERR Can't assign hashslot {slot} to a different node while I still hold keys for this hash slot."
            )


def _give(node: "Node", slots: SlotSet, to: NodeId | None) -> None:
    """SETSLOT NODE: the importing node takes a new epoch without asking, so that its claim wins everywhere."""
    owner = node.rows[to or node.node_id]
    for row in node.rows.values():
        row.slots, row.unclaimed = row.slots - slots, row.unclaimed - slots
    owner.slots |= slots
    each = list(slots)
    expected = [node.importing.pop(slot, None) for slot in each] if owner is node.me else []
    for slot in each:
        node.migrating.pop(slot, None)
    if any(source is not None for source in expected):
        highest = max(node.current_epoch, *(r.config_epoch for r in node.rows.values()))
        if node.me.config_epoch == 0 or node.me.config_epoch != highest:
            node.current_epoch = highest + 1
            node.me.config_epoch = node.current_epoch
        bus.broadcast_pong(node)
    node.update_state()


def migrate(node: "Node", ip: str, keys: Sequence[bytes]) -> None:
    """MIGRATE ... REPLACE: a key goes once the destination has it; keys that are not here are passed over."""
    if replication.refuses(node):
        raise Refused(replication.NO_REPLICAS)
    target = node.network.listener(node.ip, ip)
    if target is None:
        raise Refused("IOERR error or timeout connecting to the client")
    if target.quarantined:
        raise Refused("ERR Target instance replied with error: WRONGPASS invalid username-password pair")
    names = {key.decode() for key in keys}
    here = [(slot, t) for slot, tokens in node.tokens.items() for t in tokens if t in names]
    for slot, token in here:
        if not node.me.primary or slot not in node.me.slots:
            raise Refused(f"MOVED {slot}")
        if not target.me.primary or (slot not in target.me.slots and slot not in target.importing):
            raise Refused(f"ERR Target instance replied with error: MOVED {slot}")
        if replication.refuses(target):
            raise Refused(f"ERR Target instance replied with error: {replication.NO_REPLICAS}")
        if token not in target.tokens.get(slot, ()):
            replication.append(target, slot, token)
        replication.remove(node, slot, token)
