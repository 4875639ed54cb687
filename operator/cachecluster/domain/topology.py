"""Who is who: pods, nodes, shards and slot owners put together from a snapshot's many partial views."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from cachecluster.api import names
from cachecluster.domain.actions import Target
from cachecluster.domain.layout import layout_of
from cachecluster.domain.nodes import NodeId, NodeView, Peer, Role, Unreachable
from cachecluster.domain.records import last_history
from cachecluster.domain.served import slots_served_before
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, SlotSet, share, union
from cachecluster.domain.snapshot import Pod, Snapshot

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
        return Target(self.pod.name, self.pod.uid, self.pod.ip, self.node.node_id, self.pod.shard)

    @property
    def serving(self) -> bool:
        """Answers and has loaded its data; its pod may be on its way out."""
        return self.node is not None and not self.node.loading

    @property
    def runs_nothing(self) -> bool:
        """No process of it is there that could be silent: none has ever started, or nobody listens."""
        return self.pod.never_ran or (isinstance(self.view, Unreachable) and self.view.refused)

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
    wanted: int
    """Members that the spec asks for."""
    expected: int
    """Members that there should be just now: more than ``wanted`` until the rest has been let go."""
    members: tuple[Member, ...]
    slots: SlotSet
    """Slots that this shard is meant to serve: those that it has served, and those that nobody ever has and that fall
    to it.
    """
    formed: SlotSet
    """Slots that it has served and that nobody else serves by now; empty: it holds no data."""
    history: str
    """Replication id that its primary was last seen serving with; empty: not known."""
    primary: Member | None
    """The serving member that owns slots."""
    newcomer: Member | None = None
    """In a shard that has not got slots yet: the member that the others follow until it gets some."""

    @property
    def leaving(self) -> bool:
        """The spec no longer asks for it: it goes once its slots have moved."""
        return self.wanted == 0

    @property
    def empty(self) -> bool:
        """It serves nothing, and no data is missing from it."""
        return self.primary is None and not self.formed

    @property
    def head(self) -> Member | None:
        """Whom its other members follow: its primary, or who is to become that with the first slots."""
        return self.primary or self.newcomer

    @property
    def refuses_writes(self) -> bool:
        """Its head answers writes with NOREPLICAS."""
        return self.head is not None and self.head.node is not None and self.head.node.refuses_writes

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
    def bereft(self) -> bool:
        """It held data, has no primary, and nothing is left."""
        return self.primary is None and bool(self.formed) and self.void

    @property
    def healthy(self) -> bool:
        """Complete, with a head that every other member follows in step."""
        return self.complete and self.head is not None and all(m is self.head or self.follows(m) for m in self.members)

    def follows(self, member: Member) -> bool:
        """The member is in step with the shard's head."""
        if self.head is None or self.head.node is None or member.node is None:
            return False
        return member.synced and member.node.myself.primary_id == self.head.node.node_id


def _has_nothing(view: NodeView, blank: Collection[NodeId]) -> bool:
    """Blank; or a replica without keys that has never been in step since it started, or that follows a blank node."""
    if view.blank:
        return True
    if view.role is not Role.REPLICA or view.keys or view.link is None:
        return False
    return not view.link.ever_synced or view.myself.primary_id in blank


@dataclass(frozen=True)
class Topology:
    """The cluster as a whole."""

    shards: tuple[Shard, ...]
    owners: Mapping[NodeId, SlotSet]
    """Who owns which slots, by the newest configuration epoch that anybody reports."""
    epochs: Mapping[NodeId, int]
    outsiders: frozenset[NodeId] = frozenset()
    """Nodes that have come back from before everything was lost, and would take slots away that have started empty."""

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
    def informed(self) -> bool:
        """Whoever has met others knows who serves which slots, and sends clients to the right place."""
        answering = {i: slots for i, slots in self.owners.items() if i in self.by_id}
        views = (m.node for m in self.members if m.node is not None and len(m.node.peers) > 1)
        return all(_lists(view, answering) for view in views)

    @cached_property
    def uncovered(self) -> SlotSet:
        """Slots that no serving member owns."""
        serving = (m.node.node_id for m in self.members if m.serving and m.node is not None)
        return (ALL_SLOTS if self.shards else NO_SLOTS) - union(self.owners.get(i, NO_SLOTS) for i in serving)


def _lists(view: NodeView, owners: Mapping[NodeId, SlotSet]) -> bool:
    listed = {p.node_id: p.slots for p in view.peers}
    return all(listed.get(i) == slots for i, slots in owners.items())


def observe(snap: Snapshot) -> Topology:
    """Put the views together. Pure; what did not answer stays unknown."""
    outsiders = _outsiders(snap)
    owners, epochs = _owners(snap, outsiders)
    layout = layout_of(snap)
    planned = dict(zip(layout.wanted, share(len(layout.wanted)), strict=True)) if layout.wanted else {}
    everybody = _members_by_shard(snap, layout.zone_key)
    serving = {
        index: union(owners.get(m.node.node_id, NO_SLOTS) for m in members if m.node is not None)
        for index, members in everybody.items()
    }
    served, contested = union(serving.values()), _in_several(serving.values())
    before = slots_served_before(snap, layout, planned, serving.values())
    ever_served = union(before.values())
    shards = []
    for index, expected in layout.members.items():
        name = names.shard_name(snap.ref.name, index)
        members = tuple(everybody.get(index, ()))
        owning = [m for m in members if m.serving and m.node is not None and owners.get(m.node.node_id)]
        primary = max(owning, key=lambda m: len(owners[m.target.node_id]), default=None)
        elsewhere = (served - serving.get(index, NO_SLOTS)) | contested
        formed = before[index] - elsewhere
        slots = formed | (planned.get(index, NO_SLOTS) - ever_served)
        shard = Shard(
            index=index,
            name=name,
            wanted=layout.wanted.get(index, 0),
            expected=expected,
            members=members,
            slots=slots,
            formed=formed,
            history=last_history(snap.children, name),
            primary=primary,
            newcomer=_newcomer(members) if index in layout.wanted and not (primary or slots) else None,
        )
        shards.append(shard)
    return Topology(tuple(shards), owners, epochs, outsiders)


def _members_by_shard(snap: Snapshot, zone_key: str) -> dict[int, list[Member]]:
    """The members of each shard, in the order of their ordinals."""
    found: dict[int, list[Member]] = {}
    for pod in sorted(snap.pods, key=lambda p: p.ordinal):
        found.setdefault(pod.shard, []).append(Member(pod, snap.views.get(pod.name), _zone(snap, pod, zone_key)))
    return found


def _in_several(sets: Iterable[SlotSet]) -> SlotSet:
    """Slots that are in more than one of the sets."""
    once, again = NO_SLOTS, NO_SLOTS
    for slots in sets:
        again |= once & slots
        once |= slots
    return again


def _newcomer(members: Sequence[Member]) -> Member | None:
    """Of the empty members that have been opened: the one with the most followers."""
    opened = [m for m in members if m.usable and m.node is not None and m.node.blank and not m.node.quarantined]
    followed = Counter(m.node.myself.primary_id for m in members if m.node is not None)
    return max(opened, key=lambda m: (followed[m.target.node_id], -m.pod.ordinal), default=None)


def _zone(snap: Snapshot, pod: Pod, key: str) -> str | None:
    host = snap.hosts.get(pod.host) if pod.host else None
    return host.labels.get(key) if host else None


def _outsiders(snap: Snapshot) -> frozenset[NodeId]:
    """Nodes whom nobody knows, and whose tables give slots that somebody they do not know serves to others, by an epoch
    that is no older. Introduced, they would have it drop those.

    Epochs of before the whole cluster was lost (S2) tell nothing of those that came after. Who takes over from a node
    that it has met has a newer epoch than that.
    """
    views = [v for v in snap.views.values() if isinstance(v, NodeView) and v.peers]
    listed = {p.node_id for v in views for p in v.peers if p.node_id != v.node_id}
    leading = [v.myself for v in views if v.leads and v.myself.slots and v.node_id in listed]
    unknown = (v for v in views if v.node_id not in listed and len(v.peers) > 1)
    return frozenset(v.node_id for v in unknown if any(_contests(v, new) for new in leading))


def _contests(old: NodeView, new: Peer) -> bool:
    """What the one has in its table would take slots away from the other."""
    if old.peer(new.node_id) is not None:
        return False
    return any(row.slots & new.slots and row.config_epoch >= new.config_epoch for row in old.peers)


def _owners(snap: Snapshot, outsiders: Collection[NodeId]) -> tuple[dict[NodeId, SlotSet], dict[NodeId, int]]:
    """Each node speaks for itself; for the silent ones the newest reports count. A newer epoch wins a slot.

    Reports of one epoch add up: slots come to a node under the epoch that it has by then, so that one who lists fewer
    has heard less. Those that it has given away have an owner with a newer epoch. Of one epoch, who answers comes
    first: a table may give one that is gone the epoch of who has its address now, as the engine compares names later.
    """
    views = [v for v in snap.views.values() if isinstance(v, NodeView) and v.node_id not in outsiders]
    claims: dict[NodeId, Peer] = {}
    for view in views:
        for peer in view.peers:
            if not peer.slots:
                continue
            known = claims.get(peer.node_id)
            if known is None or peer.config_epoch > known.config_epoch:
                claims[peer.node_id] = peer
            elif peer.config_epoch == known.config_epoch and peer.slots != known.slots:
                claims[peer.node_id] = replace(known, slots=known.slots | peer.slots)
    for view in views:
        if view.peers:
            claims[view.node_id] = view.myself
    owners: dict[NodeId, SlotSet] = {}
    taken = NO_SLOTS
    speaking = {v.node_id for v in views}
    for peer in sorted(claims.values(), key=lambda p: (-p.config_epoch, p.node_id not in speaking, p.node_id)):
        owned = peer.slots - taken
        if owned:
            owners[peer.node_id] = owned
            taken |= owned
    return owners, {i: p.config_epoch for i, p in claims.items()}


def crowded_zone(topology: Topology) -> str | None:
    """The zone without which too few primaries are left to elect, where its share of them could be smaller: of three or
    more primaries, and with three zones to choose from.
    """
    zones = {m.zone for m in topology.members if m.zone is not None}
    primaries = [s.primary.zone for s in topology.shards if s.primary is not None]
    if len(zones) < 3 or len(primaries) < 3:
        return None
    led = Counter(primaries)
    share = -(-len(primaries) // len(zones))
    return next((z for z in sorted(zones) if share < led[z] and 2 * led[z] >= len(primaries)), None)


def weakness(shard: Shard) -> str:
    """What a shard that is not healthy lacks, for people."""
    if shard.primary is None:
        return "no primary that answers"
    absent = [m.pod.name for m in shard.members if not m.usable]
    if absent or len(shard.members) < shard.expected:
        return f"{', '.join(absent) or 'a pod'} does not answer"
    behind = [m.pod.name for m in shard.members if m is not shard.primary and not m.synced]
    return f"{', '.join(behind) or 'a replica'} is not in step with {shard.primary.pod.name}"
