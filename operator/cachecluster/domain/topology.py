"""Who is who: pods, nodes, shards and slot owners put together from a snapshot's many partial views."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from cachecluster.api import names
from cachecluster.domain.actions import Target
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import (
    InvalidSpec,
    NodeId,
    NodeView,
    ObjectKey,
    Peer,
    Pod,
    Role,
    Snapshot,
    Unreachable,
)

NODE_TIMEOUT_SECONDS: Final = 5.0
"""cluster-node-timeout of every cluster that we run."""


@dataclass(frozen=True, slots=True)
class Member:
    """A pod together with the node that answered at its address."""

    pod: Pod
    view: NodeView | Unreachable | None
    zone: str | None

    @property
    def node(self) -> NodeView | None:
        """The node, if it answered."""
        return self.view if isinstance(self.view, NodeView) else None

    @property
    def target(self) -> Target:
        """Identity for an action; raises ValueError for a node that did not answer."""
        if self.node is None or self.pod.ip is None:
            raise ValueError(f"{self.pod.name} has not answered")
        return Target(self.pod.name, self.pod.uid, self.pod.ip, self.node.node_id)

    @property
    def serving(self) -> bool:
        """Answers and has loaded its data; its pod may be on its way out."""
        return self.node is not None and not self.node.loading

    @property
    def usable(self) -> bool:
        """Serving, and its pod is to stay."""
        return self.serving and not self.pod.deleting

    @property
    def synced(self) -> bool:
        """A replica in step with its primary."""
        return self.node is not None and self.node.link is not None and self.node.link.up


@dataclass(frozen=True)
class Shard:
    """The members of one shard, expected and present."""

    index: int
    name: str
    expected: int
    members: tuple[Member, ...]
    slots: SlotSet
    """Slots that this shard is meant to serve."""
    formed: SlotSet
    """Slots that it has served before; empty: it never held data."""
    primary: Member | None
    """The serving member that owns slots."""

    @property
    def replicas(self) -> tuple[Member, ...]:
        """Members that follow some primary."""
        return tuple(m for m in self.members if m.node is not None and m.node.role is Role.REPLICA)

    @property
    def complete(self) -> bool:
        """Every expected member answers and has loaded."""
        return len(self.members) == self.expected and all(m.usable for m in self.members)

    @property
    def void(self) -> bool:
        """Every member answers, and none has a key, slots, or somebody alive to get data from: nothing is left."""
        blank = {m.node.node_id for m in self.members if m.node is not None and m.node.blank}
        return self.complete and all(m.node is not None and _has_nothing(m.node, blank) for m in self.members)

    @property
    def healthy(self) -> bool:
        """Complete, with a primary that every other member follows in step."""
        return (
            self.complete
            and self.primary is not None
            and all(m is self.primary or _follows(m, self.primary) for m in self.members)
        )


def _has_nothing(view: NodeView, blank: Collection[NodeId]) -> bool:
    """Blank; or a replica without keys that has never been in step since it started, or that follows a blank node."""
    if view.blank:
        return True
    if view.role is not Role.REPLICA or view.keys or view.link is None:
        return False
    return not view.link.ever_synced or view.myself.primary_id in blank


def _follows(member: Member, primary: Member) -> bool:
    if member.node is None or primary.node is None:
        return False
    return member.synced and member.node.myself.primary_id == primary.node.node_id


@dataclass(frozen=True)
class Topology:
    """The cluster as a whole."""

    shards: tuple[Shard, ...]
    owners: Mapping[NodeId, SlotSet]
    """Who owns which slots, by the newest configuration epoch that anybody reports."""
    epochs: Mapping[NodeId, int]

    @cached_property
    def members(self) -> tuple[Member, ...]:
        """All members of all shards."""
        return tuple(m for s in self.shards for m in s.members)

    @cached_property
    def by_id(self) -> Mapping[NodeId, Member]:
        """Members that answered, by node id."""
        return {m.node.node_id: m for m in self.members if m.node is not None}

    @cached_property
    def ever_formed(self) -> bool:
        """Some shard has, or had, slots: there may be data."""
        return bool(self.owners) or any(s.formed for s in self.shards)

    @cached_property
    def all_known(self) -> bool:
        """Every expected pod exists and answers, so no id of ours can hide behind silence."""
        return all(len(s.members) == s.expected and all(m.node is not None for m in s.members) for s in self.shards)

    @cached_property
    def uncovered(self) -> SlotSet:
        """Slots that no serving member owns."""
        covered = NO_SLOTS
        for member in self.members:
            if member.serving and member.node is not None:
                covered |= self.owners.get(member.node.node_id, NO_SLOTS)
        everything = NO_SLOTS
        for shard in self.shards:
            everything |= shard.slots
        return everything - covered


@dataclass(frozen=True, slots=True)
class Layout:
    """How many nodes there should be, and which label names their zone."""

    shards: int
    members: int
    zone_key: str


def layout_of(snap: Snapshot) -> Layout:
    """From the spec; if that is invalid, from what runs, so that promotion does not depend on a good spec."""
    if isinstance(snap.spec, InvalidSpec):
        replicas = [o["spec"]["replicas"] for k, o in snap.children.items() if k.kind == "StatefulSet"]
        return Layout(len(replicas), max(replicas, default=0), names.ZONE_LABEL)
    placement, topology = snap.spec.placement, snap.spec.topology
    zone_key = (placement.topology_key if placement else None) or names.ZONE_LABEL
    return Layout(topology.shards, 1 + topology.replicas_per_shard, zone_key)


def observe(snap: Snapshot) -> Topology:
    """Put the views together. Pure; what did not answer stays unknown."""
    owners, epochs = _owners(snap)
    layout = layout_of(snap)
    planned = share(layout.shards) if layout.shards else ()
    shards = []
    for index in range(layout.shards):
        members = tuple(
            Member(pod, snap.views.get(pod.name), _zone(snap, pod, layout.zone_key))
            for pod in sorted(snap.pods, key=lambda p: p.ordinal)
            if pod.shard == index
        )
        owning = [m for m in members if m.serving and m.node is not None and owners.get(m.node.node_id)]
        primary = max(owning, key=lambda m: len(owners[m.target.node_id]), default=None)
        name = names.shard_name(snap.ref.name, index)
        shards.append(Shard(index, name, layout.members, members, planned[index], _formed(snap, name), primary))
    return Topology(tuple(shards), owners, epochs)


def _zone(snap: Snapshot, pod: Pod, key: str) -> str | None:
    host = snap.hosts.get(pod.host) if pod.host else None
    return host.labels.get(key) if host else None


def _formed(snap: Snapshot, shard: str) -> SlotSet:
    live = snap.children.get(ObjectKey("StatefulSet", shard))
    text = live["metadata"].get("annotations", {}).get(names.ANNOTATION_FORMED, "") if live else ""
    return SlotSet.parse(text)


def _owners(snap: Snapshot) -> tuple[dict[NodeId, SlotSet], dict[NodeId, int]]:
    """Each node speaks for itself; for the silent ones the newest report counts. A newer epoch wins a slot."""
    views = [v for v in snap.views.values() if isinstance(v, NodeView)]
    claims: dict[NodeId, Peer] = {}
    for view in views:
        for peer in view.peers:
            known = claims.get(peer.node_id)
            if peer.slots and (known is None or peer.config_epoch > known.config_epoch):
                claims[peer.node_id] = peer
    for view in views:
        if view.peers:
            claims[view.node_id] = view.myself
    owners: dict[NodeId, SlotSet] = {}
    taken = NO_SLOTS
    for peer in sorted(claims.values(), key=lambda p: (-p.config_epoch, p.node_id)):
        owned = peer.slots - taken
        if owned:
            owners[peer.node_id] = owned
            taken |= owned
    return owners, {i: p.config_epoch for i, p in claims.items()}


def crowded_zone(topology: Topology) -> str | None:
    """The zone that holds a majority of three or more primaries, where there are three zones to choose from."""
    zones = {m.zone for m in topology.members if m.zone is not None}
    primaries = [s.primary.zone for s in topology.shards if s.primary is not None]
    if len(zones) < 3 or len(primaries) < 3:
        return None
    return next((z for z in sorted(zones) if primaries.count(z) * 2 > len(primaries)), None)


def weakness(shard: Shard) -> str:
    """What a shard that is not healthy lacks, for people."""
    if shard.primary is None:
        return "no primary that answers"
    absent = [m.pod.name for m in shard.members if not m.usable]
    if absent or len(shard.members) < shard.expected:
        return f"{', '.join(absent) or 'a pod'} does not answer"
    behind = [m.pod.name for m in shard.members if m is not shard.primary and not m.synced]
    return f"{', '.join(behind) or 'a replica'} is not in step with {shard.primary.pod.name}"
