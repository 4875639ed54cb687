"""Slots of which no copy is left: which, since when, and whether they have been given up (S2, ADR 0020).

The status is the memory: an incident is what stands there, until its slots have an owner again or more are lost. What
is done about it is done only once the status says so.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from cachecluster.api.spec import OnDataLoss
from cachecluster.api.status import INCIDENT_LENGTH, DataLoss, DataLossState, ShardLoss
from cachecluster.domain.leaders import choose_leaders
from cachecluster.domain.lost_hosts import hiding_places
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.domain.requests import approved_loss
from cachecluster.domain.slots import NO_SLOTS, SlotSet, union
from cachecluster.domain.snapshot import InvalidSpec, Snapshot
from cachecluster.domain.topology import Member, Shard, Topology

SHOWN: Final = timedelta(days=1)
"""So long an incident is told after its end."""


@dataclass(frozen=True, slots=True)
class LostSlots:
    """What one shard has lost, and the empty node that is to get it."""

    shard: str
    slots: SlotSet
    successor: NodeId | None = None


@dataclass(frozen=True, slots=True)
class Incident:
    """Slots that have no owner because every copy of them is gone."""

    id: str
    since: str
    given_up: bool
    shards: tuple[LostSlots, ...]

    @classmethod
    def read(cls, told: DataLoss) -> Self:
        """As the status has it."""
        shards = (
            LostSlots(s.name, SlotSet.parse(s.slots), NodeId(s.successor) if s.successor else None) for s in told.shards
        )
        return cls(told.incident, told.since, told.state is DataLossState.STARTING_EMPTY, tuple(shards))

    @property
    def successors(self) -> dict[str, NodeId]:
        """Who gets the slots of each shard, as far as that is settled."""
        return {s.shard: s.successor for s in self.shards if s.successor is not None}

    def of(self, shard: str) -> SlotSet:
        """What the shard has lost."""
        return next((s.slots for s in self.shards if s.shard == shard), NO_SLOTS)

    def told(self) -> DataLoss:
        """For the status."""
        state = DataLossState.STARTING_EMPTY if self.given_up else DataLossState.WAITING_FOR_APPROVAL
        shards = [ShardLoss(name=s.shard, slots=str(s.slots), successor=s.successor) for s in self.shards]
        return DataLoss(incident=self.id, state=state, since=self.since, shards=shards)


def incident_in(snap: Snapshot) -> Incident | None:
    """The open incident that the status tells of."""
    told = _told(snap)
    return Incident.read(told) if told is not None and told.state.is_open else None


def open_incident(snap: Snapshot, topology: Topology) -> Incident | None:
    """The incident as it should stand in the status now; None if every slot that held data has an owner."""
    before, lost = incident_in(snap), dict(_lost(snap, topology))
    standing = [s for s in before.shards if s.slots & topology.uncovered] if before is not None else []
    if not standing and not lost:
        return None
    if before is None:
        return _new(snap, topology, (), lost, None)
    anew = _lost_anew(before, topology, lost)
    if anew:
        return _new(snap, topology, [s for s in standing if s.shard not in anew], lost, before)
    given_up = _is_given_up(snap, before)
    # What has come back leaves it, and would have to be lost anew; who has got slots is remembered until the end.
    shards = (s for s in before.shards if s in standing or (given_up and s.successor is not None))
    same = replace(before, given_up=given_up, shards=tuple(shards))
    return _settled(snap, topology, same, lost)


def settled_successors(snap: Snapshot, incident: Incident) -> Mapping[str, NodeId]:
    """Who may get slots now, by shard: as the status names them, while the data is still given up.

    A node that has led and lost its memory comes back under another id: what was decided of one loss is never carried
    out for the next, however often the operator is interrupted.
    """
    noted = incident_in(snap)
    same = noted is not None and noted.id == incident.id and noted.given_up and incident.given_up
    return noted.successors if noted is not None and same else {}


def data_loss_status(snap: Snapshot, topology: Topology, incident: Incident | None) -> DataLoss | None:
    """The open incident; without one the last one, for a day after its end."""
    if incident is not None:
        return incident.told()
    told = _told(snap)
    if told is None:
        return None
    if told.state.is_open:
        return told.model_copy(update={"state": _ending(told, topology), "ended_at": snap.moment})
    ended = datetime.fromisoformat(told.ended_at or told.since)
    return told if datetime.fromtimestamp(snap.now, UTC) - ended < SHOWN else None


def _told(snap: Snapshot) -> DataLoss | None:
    return DataLoss.read(snap.status.get("dataLoss"))


def _ending(told: DataLoss, topology: Topology) -> DataLossState:
    """Whoever was chosen owns the slots, or somebody has come back with the data."""
    empty = any(topology.owners.get(i) for i in Incident.read(told).successors.values())
    return DataLossState.STARTED_EMPTY if empty else DataLossState.RECOVERED


def _lost(snap: Snapshot, topology: Topology) -> Iterator[tuple[str, SlotSet]]:
    """Shards that held data of which nothing is left (S1: as all their members say), with their slots.

    What belongs to a node that does not answer, or that may run on unheard, is not lost.
    """
    departed = {
        f.node_id
        for f in snap.foreign
        if f.alive_since is None and not any(True for _ in hiding_places(snap, topology, f))
    }
    held = union(slots for i, slots in topology.owners.items() if i not in departed)
    for shard in topology.shards:
        slots = shard.slots - held
        if not shard.formed or not shard.members or not slots:
            continue
        lost = slots if shard.bereft else slots - _listed(snap) if shard.primary is not None else NO_SLOTS
        if lost:
            yield shard.name, lost


def _listed(snap: Snapshot) -> SlotSet:
    """Slots of which anybody knows an owner: of one that moves, each end may say that it is the other's."""
    views = (view for view in snap.views.values() if isinstance(view, NodeView))
    return union(peer.slots for view in views for peer in view.peers)


def _lost_anew(before: Incident, topology: Topology, lost: Mapping[str, SlotSet]) -> set[str]:
    """Shards that the incident does not cover: more of them is lost, or whom their slots were settled on has had and
    lost them meanwhile.
    """
    candidates = {s.name: {None, *_candidates(s)} for s in topology.shards if s.name in lost}
    return {
        name
        for name, slots in lost.items()
        if slots - before.of(name) or before.successors.get(name) not in candidates[name]
    }


def _candidates(shard: Shard) -> Collection[NodeId]:
    if shard.primary is not None:
        return {shard.primary.target.node_id}
    return {m.target.node_id for m in shard.members if m.usable and m.node is not None and m.node.blank}


def _new(
    snap: Snapshot,
    topology: Topology,
    standing: Sequence[LostSlots],
    lost: Mapping[str, SlotSet],
    before: Incident | None,
) -> Incident:
    """With what is still ``standing`` of the one before. Its id is one that nobody can have approved yet."""
    slots = {s.shard: s.slots for s in standing}
    slots |= {name: slots.get(name, NO_SLOTS) | more for name, more in lost.items()}
    ordered = [LostSlots(s.name, slots[s.name]) for s in topology.shards if s.name in slots]
    since = before.since if before is not None and standing else snap.moment
    facts = f"{snap.ref.uid} {snap.now!r} {before.id if before else ''} {ordered}"
    incident = Incident(hashlib.sha256(facts.encode()).hexdigest()[:INCIDENT_LENGTH], since, False, tuple(ordered))
    incident = replace(incident, given_up=_is_given_up(snap, incident))
    return _settled(snap, topology, incident, lost)


def _is_given_up(snap: Snapshot, incident: Incident) -> bool:
    """By the spec, or by somebody who names this incident. While the spec is invalid nothing is decided anew."""
    if isinstance(snap.spec, InvalidSpec):
        return incident.given_up
    return snap.spec.on_data_loss is OnDataLoss.RECREATE or approved_loss(snap.annotations) == incident.id


def _settled(snap: Snapshot, topology: Topology, incident: Incident, lost: Mapping[str, SlotSet]) -> Incident:
    """With the nodes that get the slots, once these are given up."""
    if not incident.given_up:
        return incident
    leaders = choose_leaders(snap, topology, incident.successors)
    chosen = {s.name: _successor(s, leaders) for s in topology.shards if s.name in lost}
    shards = (replace(s, successor=s.successor or chosen.get(s.shard)) for s in incident.shards)
    return replace(incident, shards=tuple(shards))


def _successor(shard: Shard, leaders: Mapping[int, Member]) -> NodeId | None:
    leader = shard.primary or leaders.get(shard.index)
    return leader.target.node_id if leader is not None else None
