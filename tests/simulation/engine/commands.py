"""CLUSTER subcommands and others as a client sees them, with the engine's refusals (clusterCommandSpecial)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import Parameters
from tests.simulation.engine import bus, election, replication
from tests.simulation.engine.table import Address, Row

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

FORGET_SECONDS = 60.0


class Refused(Exception):
    """The engine's error reply."""


def set_config_epoch(node: "Node", epoch: int) -> None:
    """CLUSTER SET-CONFIG-EPOCH."""
    if epoch < 0:
        raise Refused(f"ERR Invalid config epoch specified: {epoch}")
    if len(node.rows) > 1:
        raise Refused("ERR The user can assign a config epoch only when the node does not know any other node.")
    if node.me.config_epoch != 0:
        raise Refused("ERR Node config epoch is already non-zero")
    node.me.config_epoch = epoch
    node.current_epoch = max(node.current_epoch, epoch)


def bump_epoch(node: "Node") -> None:
    """CLUSTER BUMPEPOCH: nothing if its epoch is the newest already (clusterBumpConfigEpochWithoutConsensus)."""
    highest = max(r.config_epoch for r in node.rows.values())
    if node.me.config_epoch == 0 or node.me.config_epoch != highest:
        node.current_epoch += 1
        node.me.config_epoch = node.current_epoch


def meet(node: "Node", address: Address) -> None:
    """CLUSTER MEET: starts a handshake unless one with that address is on."""
    if any(r.handshake and r.address == address for r in node.rows.values()):
        return
    row = Row(NodeId(node.new_id()), address, node.now(), node.new_id(), handshake=True, meet=True)
    row.inbound_lost = node.now()
    node.add_row(row)


def add_slots(node: "Node", slots: SlotSet) -> None:
    """CLUSTER ADDSLOTSRANGE: all or nothing."""
    for row in node.rows.values():
        if busy := row.slots & slots:
            raise Refused(f"ERR Slot {next(iter(busy))} is already busy")
    node.me.slots |= slots
    node.update_state()


def replicate(node: "Node", primary_id: NodeId) -> None:
    """CLUSTER REPLICATE."""
    row = node.rows.get(primary_id)
    if row is None or row.handshake:
        raise Refused(f"ERR Unknown node {primary_id}")
    if row is node.me:
        raise Refused("ERR Can't replicate myself")
    if not row.primary:
        raise Refused("ERR I can only replicate a master, not a replica.")
    if node.me.primary and (node.me.slots or node.keys):
        raise Refused("ERR To set a master the node must be empty and without assigned slots.")
    if not node.me.primary and node.me.primary_id == primary_id and node.config.version >= (9, 0):
        return
    node.follow(row, full_sync=row.shard_id != node.me.shard_id)
    bus.broadcast_pong(node)


def forget(node: "Node", node_id: NodeId) -> None:
    """CLUSTER FORGET: gone, and not taken back from gossip for a minute."""
    row = node.rows.get(node_id)
    if row is None:
        if node.blacklist.get(node_id, 0.0) > node.now():
            return
        raise Refused(f"ERR Unknown node {node_id}")
    if row is node.me:
        raise Refused("ERR I tried hard but I can't forget myself...")
    if not node.me.primary and node.me.primary_id == node_id:
        raise Refused("ERR Can't forget my master!")
    node.blacklist[node_id] = node.now() + FORGET_SECONDS
    node.drop_row(row)
    node.update_state()


def failover(node: "Node", kind: FailoverKind) -> None:
    """CLUSTER FAILOVER [FORCE|TAKEOVER]: OK means started, but for TAKEOVER."""
    primary = node.rows.get(node.me.primary_id) if node.me.primary_id else None
    if node.me.primary:
        raise Refused("ERR You should send CLUSTER FAILOVER to a replica")
    if primary is None:
        raise Refused("ERR I'm a replica but my master is unknown to me")
    if kind is FailoverKind.GRACEFUL and (primary.fail or primary.link is None):
        raise Refused("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
    election.reset_manual(node)
    if kind is FailoverKind.TAKEOVER:
        bump_epoch(node)
        node.become_primary()
        return
    node.election.manual_end = node.now() + election.MANUAL_TIMEOUT
    if kind is FailoverKind.FORCE:
        node.election.manual_can_start, node.election.at = True, 0.0
        election.run(node)
    else:
        bus.transmit(primary.link, bus.packet(node, "MFSTART"))


def reset(node: "Node") -> None:
    """CLUSTER RESET HARD: a new id that knows nobody; a replica drops its data."""
    if node.me.primary and node.keys:
        raise Refused("ERR CLUSTER RESET can't be called with master nodes containing keys")
    node.reset()


def unusable(node_parameters: Mapping[str, str], parameters: Mapping[str, str]) -> str | None:
    """Why the engine does not take the parameters: one is not known, or not what this machine offers."""
    unknown = sorted(parameters.keys() - node_parameters.keys())
    if unknown:
        return f"ERR Unknown option or number of arguments for CONFIG SET - '{unknown[0]}'"
    if parameters.get("locale-collate", "") not in {"", "C"}:
        return "ERR CONFIG SET failed (possibly related to argument 'locale-collate') - Failed to configure it"
    return None


def configure(node: "Node", parameters: Parameters) -> None:
    """CONFIG SET: all or nothing."""
    problem = unusable(node.parameters, dict(parameters))
    if problem is not None:
        raise Refused(problem)
    node.parameters.update(parameters)
    replication.count(node)


@dataclass(frozen=True)
class Rules:
    """Words by user. Hashes of passwords are among them, which no trace may show (S12)."""

    by_user: Mapping[str, Sequence[str]] = field(repr=False)


def set_users(node: "Node", rules: Rules) -> None:
    """ACL SETUSER; who is off stays off."""
    node.users |= {user: " ".join(("user", user, "on", *words)) for user, words in rules.by_user.items()}


def release(node: "Node") -> None:
    """ACL SETUSER ... on: clients and replicas are let in again."""
    node.quarantined = False
