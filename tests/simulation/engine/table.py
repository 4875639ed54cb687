"""What engine nodes know about each other and what they say over the bus (valkey src/cluster_legacy.h)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import NO_SLOTS, SlotSet

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node


class Address(NamedTuple):
    """Where a node says that it is."""

    ip: str
    port: int
    bus_port: int


@dataclass(slots=True, eq=False)
class Row:
    """One entry of a node's table."""

    node_id: NodeId
    address: Address
    created: float
    shard_id: str
    primary: bool = True
    primary_id: NodeId | None = None
    config_epoch: int = 0
    slots: SlotSet = NO_SLOTS
    unclaimed: SlotSet = NO_SLOTS
    """Slots still bound to this node although it no longer claims them."""
    offset: int = 0
    handshake: bool = False
    meet: bool = False
    noaddr: bool = False
    pfail: bool = False
    fail: bool = False
    fail_time: float = 0.0
    ping_sent: float = 0.0
    pong_received: float = 0.0
    meet_sent: float = 0.0
    inbound_lost: float = 0.0
    voted: float = 0.0
    """When this node last voted for a replica of it."""
    link: "Link | None" = None
    inbound: "Link | None" = None
    reports: dict[NodeId, float] = field(default_factory=dict)

    @property
    def votes(self) -> bool:
        """Primaries with slots decide."""
        return self.primary and bool(self.slots)

    @property
    def flags(self) -> frozenset[str]:
        """As CLUSTER NODES prints them, ``myself`` left out."""
        words = {"master" if self.primary else "slave"} if not self.handshake else {"handshake"}
        if self.noaddr:
            words.add("noaddr")
        if self.fail:
            words.add("fail")
        elif self.pfail:
            words.add("fail?")
        return frozenset(words)


class Gossip(NamedTuple):
    """What one node tells another about a third."""

    node_id: NodeId
    address: Address
    primary: bool
    failing: bool
    pong_received: float


class Update(NamedTuple):
    """News about a slot owner with a newer epoch."""

    node_id: NodeId
    config_epoch: int
    slots: SlotSet


@dataclass(slots=True)
class Packet:
    """One message on the bus: the sender's header and what its kind needs."""

    kind: str
    sender: NodeId
    address: Address
    shard_id: str
    primary: bool
    primary_id: NodeId | None
    current_epoch: int
    config_epoch: int
    slots: SlotSet
    offset: int
    paused: bool
    force_ack: bool = False
    gossip: tuple[Gossip, ...] = ()
    forgotten: tuple[tuple[NodeId, float], ...] = ()
    about: NodeId | None = None
    update: Update | None = None


@dataclass(slots=True, eq=False)
class Link:
    """A TCP connection of the bus, from the node that opened it to the one that accepted it."""

    owner: "Node"
    peer: "Node"
    row: Row
    """The owner's row of the node that it meant to reach."""
    created: float
    peer_row: Row | None = None
    """The acceptor's row of the owner, once a packet has named it."""
    open: bool = True
    arrives: float = 0.0
    """When the last message on its way does: a connection keeps the order."""
