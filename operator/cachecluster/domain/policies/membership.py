"""Who belongs to the cluster: nodes meet, replicas attach to their primary, ids of dead processes are forgotten."""

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Forget, Meet, Replicate
from cachecluster.domain.listing import listed
from cachecluster.domain.lost_hosts import hiding_places, is_succeeded
from cachecluster.domain.nodes import NodeId, NodeView, Role
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import ForeignId
from cachecluster.domain.syncing import catching_up, look_again
from cachecluster.domain.topology import Member, Shard

FULL_MESH_LIMIT: Final = 24
"""Up to so many nodes everybody meets everybody (0.3-0.5 s, engine-facts §3); beyond, gossip does the rest."""

JUST_HEARD_SECONDS: Final = 3.0
"""No list of pods is older."""


def introduce_nodes(now: Situation) -> Iterator[Verdict]:
    """Members that do not know each other, or only at an old address, meet (S4: only pods of this cluster)."""
    present = [m for s in now.topology.shards for m in s.members if m.usable and not _has_left(s, m)]
    present = [m for m in present if m.target.node_id not in now.topology.outsiders]
    if len(present) < 2:
        return
    pairs = tuple((a.target.node_id, b.target.node_id) for a, b in _acquaintances(present) if _strangers(a, b))
    if not pairs:
        return
    if all(_handshake(a, b) for a, b in _acquaintances(present) if _strangers(a, b)):
        yield Wait(Reason.JOINING_NODE, "nodes are shaking hands", 0.1)
        return
    involved = {i for pair in pairs for i in pair}
    nodes = tuple(m.target for m in present if m.target.node_id in involved)
    new = [m for m in present if m.node is not None and len(m.node.peers) == 1]
    reason = Reason.JOINING_NODE if new else Reason.HEALING_ADDRESSES
    if not now.topology.ever_formed:
        reason = Reason.FORMING
    message = f"introducing {', '.join(n.pod for n in nodes)} to each other"
    yield Do(Meet(nodes, pairs, _first_epochs(now, present)), reason, message)


def leave_outsiders(now: Situation) -> Iterator[Verdict]:
    """A node that would take slots away from what was written since they have started empty is not let in (S2)."""
    for node_id in sorted(now.topology.outsiders):
        member = now.topology.by_id[node_id]
        if member.node is not None:
            message = (
                f"{member.pod.name} has come back with {member.node.keys} keys from before all data was lost: what it "
                "knows would take slots away that have started empty since. It stays as it is. Look at its data, then "
                "delete its pod and volume to let it join again"
            )
            yield Block(Reason.UNOWNED_KEYS, message)


def _has_left(shard: Shard, member: Member) -> bool:
    """Its shard is to go, and has given all its slots away; before that, one that has restarted joins it as ever."""
    return shard.leaving and shard.empty and member.node is not None and member.node.blank


def _acquaintances(present: Sequence[Member]) -> Iterator[tuple[Member, Member]]:
    """Pairs that should know each other: all of them, in large clusters neighbours at distances 1, 2, 4, ..."""
    count = len(present)
    if count <= FULL_MESH_LIMIT:
        yield from combinations(present, 2)
        return
    for i, member in enumerate(present):
        for distance in (1 << k for k in range((count - 1).bit_length())):
            yield member, present[(i + distance) % count]


def _strangers(a: Member, b: Member) -> bool:
    return not (_knows(a, b) and _knows(b, a))


def _knows(a: Member, b: Member) -> bool:
    """``a`` lists ``b`` by its id at its present address."""
    if a.node is None or b.node is None:
        return False
    row = a.node.peer(b.node.node_id)
    return row is not None and row.ip == b.pod.ip and not row.flags & {"handshake", "noaddr"}


def _handshake(a: Member, b: Member) -> bool:
    """One of them has already begun to meet the other; the id in such a row is random until it ends."""
    rows_a = a.node.peers if a.node else ()
    rows_b = b.node.peers if b.node else ()
    return any("handshake" in r.flags and r.ip == b.pod.ip for r in rows_a) or any(
        "handshake" in r.flags and r.ip == a.pod.ip for r in rows_b
    )


def _first_epochs(now: Situation, present: Sequence[Member]) -> tuple[tuple[NodeId, int], ...]:
    """Who knows nobody gets an epoch of its own. Two that have none when they meet would get one from the engine, the
    newest of all (Valkey cluster_legacy.c, clusterHandleConfigEpochCollision).
    """
    alone = (m for m in present if m.node is not None and len(m.node.peers) == 1 and m.node.myself.config_epoch == 0)
    return tuple((m.target.node_id, first_epoch(now, m)) for m in alone)


def first_epoch(now: Situation, member: Member, *, leads: bool = False) -> int:
    """One of its own for every expected pod, the same in every pass. Leaders have the newest: a takeover keeps an epoch
    that is the newest already, and then the old primary, back from a restart, takes no other node's word for it.
    """
    shards = now.topology.shards
    members = max((s.expected for s in shards), default=1)
    older = members * (1 + max((s.index for s in shards), default=0)) if leads else 0
    return 1 + older + member.pod.shard * members + member.pod.ordinal


def attach_replicas(now: Situation) -> Iterator[Verdict]:
    """Every member of a shard but its head follows that (S3: never at the cost of keys nobody else has)."""
    for shard in now.topology.shards:
        primary = shard.head
        if primary is None or primary.node is None:
            continue
        for member in shard.members:
            if member is not primary and member.usable and member.node is not None:
                yield from _attach(now, shard, primary, member, member.node)


def _attach(now: Situation, shard: Shard, primary: Member, member: Member, view: NodeView) -> Iterator[Verdict]:
    if primary.node is None or view.myself.primary_id == primary.node.node_id:
        if view.link is not None and not view.link.up:
            message = f"shard {shard.index}: {member.pod.name} is syncing from {primary.pod.name}{catching_up(view)}"
            yield Wait(Reason.SYNCING_REPLICA, message, look_again(view, 0.2))
        return
    if not (_knows(member, primary) and _knows(primary, member)):
        return  # introduced first
    if view.role is Role.PRIMARY and not view.blank:
        if not view.myself.slots:
            message = (
                f"{member.pod.name} holds {view.keys} keys but serves no slots; it stays as it is. Look at its data, "
                "then delete its pod and volume to let it join again"
            )
            yield Block(Reason.UNOWNED_KEYS, message)
        return
    if view.role is Role.REPLICA and _follows_sole_copy(now, view):
        return  # its primary is lost: promotion decides
    message = f"shard {shard.index}: {member.pod.name} becomes a replica of {primary.pod.name}"
    yield Do(Replicate(member.target, primary.target), Reason.ATTACHING_REPLICA, message)


def _follows_sole_copy(now: Situation, view: NodeView) -> bool:
    """What it follows owns slots that nobody who answers serves."""
    followed = view.myself.primary_id
    return followed is not None and followed in now.topology.owners and followed not in now.topology.by_id


def forget_departed(now: Situation) -> Iterator[Verdict]:
    """Ids that no pod of ours has any more leave every table, once all pods answer under other ids and their process
    cannot go on unseen on a lost Kubernetes node (S1).
    """
    for foreign in now.snap.foreign:
        if foreign.alive_since is not None or not now.topology.all_known:
            continue
        members = tuple(m.target for m in now.topology.members if _lists(now, m, foreign.node_id))
        if not members or _still_needed(now, foreign):
            continue
        if _just_heard(now, foreign):
            message = f"node {foreign.node_id} was heard of a moment ago; it is forgotten if nobody hears of it again"
            yield Wait(Reason.FORGETTING_NODE, message, 0.5)
            continue
        places = list(hiding_places(now.snap, now.topology, foreign))
        if places:
            message = (
                f"node {foreign.node_id}, last at {foreign.ip or 'an unknown address'}, may still run on Kubernetes "
                f"node {listed(places)}. It is forgotten once that reports again, is deleted, or is tainted "
                f"{names.TAINT_OUT_OF_SERVICE}"
            )
            yield Wait(Reason.FORGETTING_NODE, message, 30.0)
            continue
        message = (
            f"forgetting node {foreign.node_id}, last at {foreign.ip or 'an unknown address'}: its process is gone"
        )
        yield Do(Forget(foreign.node_id, members), Reason.FORGETTING_NODE, message)


def _just_heard(now: Situation, foreign: ForeignId) -> bool:
    """It may be in a pod that the list of pods did not have yet, unless another node has its address."""
    if foreign.heard_at is None or is_succeeded(now.topology, foreign):
        return False
    return now.snap.now - foreign.heard_at < JUST_HEARD_SECONDS


def _lists(now: Situation, member: Member, node_id: NodeId) -> bool:
    """It has the id in its table, and is one of ours."""
    view = member.node
    return view is not None and view.node_id not in now.topology.outsiders and view.peer(node_id) is not None


def _still_needed(now: Situation, foreign: ForeignId) -> bool:
    """Somebody follows it (a promotion is due), or it owns slots of a shard whose data is not proven lost."""
    if any(m.node is not None and m.node.myself.primary_id == foreign.node_id for m in now.topology.members):
        return True
    owned = now.topology.owners.get(foreign.node_id, NO_SLOTS)
    affected = [s for s in now.topology.shards if s.slots & owned]
    return not all(s.void for s in affected)


POLICIES: Final = (leave_outsiders, introduce_nodes, attach_replicas, forget_departed)
