"""What to do about slots that an interrupted move has left open: engine-facts §1.4, row by row. Pure.

A slot is open while its owner is marked to give it away or another node to take it. Each mark is one node's own memory
(Valkey >= 8.0 shares it with the node's replicas), so the two may disagree after a crash, a failover or a lost reply.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cachecluster.domain.actions import MoveSlots, SettleSlots
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from cachecluster.domain.topology import Member, Topology


@dataclass(frozen=True, slots=True)
class Recovery:
    """What finishes or closes the open slots; empty when none is open."""

    actions: tuple[MoveSlots | SettleSlots, ...] = ()
    waiting: tuple[str, ...] = ()
    """Slots about which nothing can be done yet, and for whom they wait; for people."""

    def __bool__(self) -> bool:
        return bool(self.actions or self.waiting)


@dataclass(frozen=True, slots=True)
class _Move:
    source: NodeId
    destination: NodeId


@dataclass(frozen=True, slots=True)
class _Settle:
    owner: NodeId
    others: frozenset[NodeId]
    """Who may be on the other side."""


@dataclass(frozen=True, slots=True)
class _Wait:
    why: str


_Remedy = _Move | _Settle | _Wait


def recover_open_slots(topology: Topology) -> Recovery:
    """How each open slot comes to an end: always by completing its move where that has begun, never by splitting its
    keys. A slot that is wanted back is moved back afterwards, by an ordinary move.

    New moves are planned only while this finds nothing: a slot may be open to another node than a new plan says.
    """
    seen = _Marks.of(topology)
    slots: dict[_Remedy, list[int]] = {}
    for slot in sorted(seen.exporters.keys() | seen.importers.keys()):
        slots.setdefault(seen.remedy(slot), []).append(slot)
    found = {remedy: SlotSet.of(some) for remedy, some in slots.items()}
    actions = [action for r, some in found.items() if (action := seen.action(r, some)) is not None]
    waiting = [f"slots {some} are half moved: {r.why}" for r, some in found.items() if isinstance(r, _Wait)]
    return Recovery(tuple(actions), tuple(waiting))


def leaders(topology: Topology) -> tuple[Member, ...]:
    """Members that serve as primaries, with slots or without."""
    return tuple(m for m in topology.members if m.serving and m.node is not None and m.node.leads)


def move_between(topology: Topology, slots: SlotSet, source: Member, destination: Member) -> MoveSlots:
    """The action that moves slots from one member to another, both of them primaries that answer."""
    ends = {source.target.node_id, destination.target.node_id}
    return MoveSlots(
        slots=slots,
        source=source.target,
        destination=destination.target,
        replicas=tuple(
            m.target
            for m in topology.members
            if m.node is not None and m.node.myself.primary_id == destination.target.node_id
        ),
        others=tuple(m.target for m in leaders(topology) if m.target.node_id not in ends),
    )


@dataclass(frozen=True)
class _Marks:
    """Every mark of every primary that answers."""

    topology: Topology
    leaders: Mapping[NodeId, Member]
    exporters: Mapping[int, Mapping[NodeId, NodeId]]
    """By slot: who gives it away, and to whom."""
    importers: Mapping[int, frozenset[NodeId]]
    """By slot: who takes it."""

    @classmethod
    def of(cls, topology: Topology) -> "_Marks":
        members = {m.target.node_id: m for m in leaders(topology)}
        exporters: dict[int, dict[NodeId, NodeId]] = {}
        importers: dict[int, frozenset[NodeId]] = {}
        for node_id, member in members.items():
            for mark in member.node.migrating if member.node else ():
                exporters.setdefault(mark.slot, {})[node_id] = mark.peer
            for mark in member.node.importing if member.node else ():
                importers[mark.slot] = importers.get(mark.slot, frozenset()) | {node_id}
        return cls(topology, members, exporters, importers)

    def remedy(self, slot: int) -> _Remedy:
        """What to do about one slot."""
        owner = next((i for i, slots in self.topology.owners.items() if slot in slots), None)
        if owner is None or owner not in self.leaders:
            return _Wait("their owner does not answer")
        exporters = self.exporters.get(slot, {})
        if owner in exporters:
            return self._onward(slot, owner, exporters[owner])
        for source, goal in exporters.items():
            if self._leader_for(goal) == owner:  # handed over already; the former owner has not heard of it
                return _Move(source, owner)
        if any(slot in self._claimed_by(source) for source in exporters):
            return _Wait("their former owner has yet to hear that it has lost them")
        # Only those who take are marked; or former owners, whom Redis leaves their marks when they hear of the loss.
        return _Settle(owner, self.importers.get(slot, frozenset()) | frozenset(exporters))

    def _claimed_by(self, node_id: NodeId) -> SlotSet:
        node = self.leaders[node_id].node
        return node.myself.slots if node is not None else NO_SLOTS

    def _onward(self, slot: int, owner: NodeId, goal: NodeId) -> _Remedy:
        """The owner gives it away; the other side may be marked, or not, or be another node by now."""
        destination = self._leader_for(goal)
        if destination is None and not self.topology.all_known and not self._superseded(goal):
            return _Wait("the node that takes them does not answer")
        strays = self.importers.get(slot, frozenset()) - {destination}
        if destination is None or destination == owner or strays:
            return _Settle(owner, frozenset(self.leaders) - {owner})
        return _Move(owner, destination)

    def _leader_for(self, node_id: NodeId) -> NodeId | None:
        """The node, or the primary that it follows by now: after a failover that one has the keys."""
        member = self.topology.by_id.get(node_id)
        if member is not None and member.node is not None:
            node_id = member.node.myself.primary_id or node_id
        return node_id if node_id in self.leaders else None

    def _superseded(self, node_id: NodeId) -> bool:
        """Another member leads its shard since a failover: that one has its keys, and when it comes back it follows.

        Marks of Valkey >= 8.0 follow a failover; those of Redis go on naming the node that was lost.
        """
        views = [m.node for m in self.topology.members if m.node is not None]
        rows = [row for view in views if (row := view.peer(node_id)) is not None]
        if node_id in self.topology.owners or not all(row.failed for row in rows):
            return False
        if any(row.primary_id == node_id for view in views for row in view.peers):
            return False  # who is to take its place has not done so yet
        addresses = {row.ip for row in rows}
        silent = (s for s in self.topology.shards for m in s.members if m.node is None and m.pod.ip in addresses)
        return any(shard.primary is not None for shard in silent)

    def action(self, remedy: _Remedy, slots: SlotSet) -> MoveSlots | SettleSlots | None:
        """The same for many slots at once."""
        match remedy:
            case _Move(source, destination):
                return move_between(self.topology, slots, self.leaders[source], self.leaders[destination])
            case _Settle(owner, others):
                targets = tuple(m.target for i, m in self.leaders.items() if i in others)
                return SettleSlots(slots, self.leaders[owner].target, targets)
            case _Wait():
                return None
