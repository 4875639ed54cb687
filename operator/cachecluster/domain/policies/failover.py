"""Promotion and the end of quarantines, from the observed topology alone: no bad spec and no quota delays them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import FailoverKind, Promote, Release
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import ContainerState, NodeId, NodeView, Role, Unreachable
from cachecluster.domain.topology import Member, Shard

SILENCE_SECONDS: Final = 10
"""For so long must every replica have lost a primary whose pod has vanished (2 x node timeout)."""
FORCE_PATIENCE_SECONDS: Final = 5
"""FORCE needs votes; engines before Valkey 8.1 refuse a second vote for 2 x node timeout (engine-facts §2)."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A primary that is proven dead, and how we know."""

    node_id: NodeId
    proof: str


def replace_lost_primary(now: Situation) -> Iterator[Verdict]:
    """Promote the best synced replica of every shard whose primary is proven dead (S1, S10)."""
    for shard in now.topology.shards:
        if shard.primary is not None or not shard.replicas:
            continue
        for owner in _departed_owners(now, shard):
            lost = _death_of(now, shard, owner)
            if lost is None:
                message = f"shard {shard.index}: its primary does not answer and is not proven dead"
                yield Wait(Reason.NODE_UNREACHABLE, message, 0.5)
                continue
            heir = best_heir(now, shard, lost.node_id)
            if heir is None:
                message = f"shard {shard.index}: {lost.proof}, and no replica that answers has completed a sync with it"
                yield Block(Reason.NO_SYNCED_REPLICA, message)
                continue
            kind = _kind(now, heir, lost.node_id)
            action = Promote(shard.index, heir.target, lost.node_id, kind, lost.proof)
            yield Do(action, Reason.PRIMARY_LOST, f"shard {shard.index}: {lost.proof}; {heir.pod.name} has its data")


def _departed_owners(now: Situation, shard: Shard) -> list[NodeId]:
    """Owners of slots whom this shard's replicas follow and who do not answer."""
    followed = {m.node.myself.primary_id for m in shard.replicas if m.node is not None}
    return sorted(o for o in now.topology.owners if o in followed and o not in now.topology.by_id)


def _death_of(now: Situation, shard: Shard, owner: NodeId) -> Lost | None:
    """Proof that the process behind ``owner`` has ended, or None while that is merely likely (S1, S10 a)."""
    replicas = [m.node for m in shard.replicas if m.node is not None and m.node.myself.primary_id == owner]
    if any(r.link is None or r.link.up for r in replicas):
        return None
    addresses = {p.ip for v in _views(now) if (p := v.peer(owner)) is not None and p.ip}
    for member in now.topology.members:
        if member.pod.ip not in addresses:
            continue
        if member.node is not None:
            return Lost(owner, f"{member.pod.name} has restarted as another, empty node")
        return Lost(owner, proof) if (proof := _terminated(now, member, replicas)) else None
    return _vanished(now, owner, replicas)


def _terminated(now: Situation, member: Member, replicas: list[NodeView]) -> str | None:
    """The kubelet reports that the container that ran the primary has terminated, and its successor never linked up."""
    container = member.pod.container
    if container is None or not container.last_termination:
        return None
    proof = f"the kubelet reports that the container of {member.pod.name} terminated ({container.last_termination})"
    if container.state is ContainerState.TERMINATED:
        return proof
    if container.started_at is None:
        return None
    running_for = now.snap.now - container.started_at
    links_down = min((r.link.down_seconds or 0 for r in replicas if r.link is not None), default=0)
    # whole seconds on both sides: one second of rounding each; a link that outlived the start proves nothing
    if isinstance(member.view, Unreachable) and links_down >= max(running_for - 2, 1) and container.restarts > 0:
        return proof
    return None


def _vanished(now: Situation, owner: NodeId, replicas: list[NodeView]) -> Lost | None:
    """No pod has the primary's address any more; every kubelet reports, so none runs it unseen."""
    if not now.topology.all_known or not all(h.ready for h in now.snap.hosts.values()):
        return None
    if any(r.link is None or (r.link.down_seconds or 0) < SILENCE_SECONDS for r in replicas):
        return None
    if not all((p := v.peer(owner)) is None or p.suspected or not p.connected for v in _views(now)):
        return None
    return Lost(owner, "its pod is gone, every Kubernetes node reports, and no member has heard of it")


def _views(now: Situation) -> list[NodeView]:
    return [m.node for m in now.topology.members if m.node is not None]


def best_heir(now: Situation, shard: Shard, lost: NodeId) -> Member | None:
    """The replica that completed a sync with ``lost``, saw the link end, and has the highest offset (S10)."""
    candidates = [
        m
        for m in shard.replicas
        if m.usable
        and m.node is not None
        and m.node.myself.primary_id == lost
        and m.node.link is not None
        and m.node.link.ever_synced
        and not m.node.link.up
        and not m.node.link.sync_in_progress
        and not _strayed(now, shard, m.node)
        and _knows_newest(now, m.node, lost)
    ]
    histories = {m.node.replication_id for m in candidates if m.node is not None}
    if len(histories) > 1:  # offsets of different histories say nothing about each other
        return None
    return max(candidates, key=lambda m: (m.node.offset if m.node else 0, -m.pod.ordinal), default=None)


def _strayed(now: Situation, shard: Shard, replica: NodeView) -> bool:
    """It has another shard's data: it looked for its primary at an address that somebody else had by then.

    Replication asks for a password, not for a node id; when all pods go at once they may trade addresses.
    """
    others = (m.node for s in now.topology.shards if s is not shard for m in s.members if m.node is not None)
    return any(replica.replication_id in (o.replication_id, o.previous_replication_id) for o in others)


def _knows_newest(now: Situation, view: NodeView, lost: NodeId) -> bool:
    """A replica with an old view of its primary's slots would steal slots that have moved since (S10)."""
    row = view.peer(lost)
    if row is None:
        return False
    return row.config_epoch == now.topology.epochs.get(lost) and row.slots == now.topology.owners.get(lost, NO_SLOTS)


def _kind(now: Situation, heir: Member, lost: NodeId) -> FailoverKind:
    """FORCE lets the other primaries vote; TAKEOVER where they cannot, which the proof allows."""
    voters = {i for i, m in now.topology.by_id.items() if m.usable and i in now.topology.owners and i != lost}
    quorum = len(now.topology.owners) // 2 + 1
    link = heir.node.link if heir.node else None
    waited = (link.down_seconds or 0) if link else 0
    return FailoverKind.FORCE if len(voters) >= quorum and waited < FORCE_PATIENCE_SECONDS else FailoverKind.TAKEOVER


def end_quarantine(now: Situation) -> Iterator[Verdict]:
    """S5: a restarted primary serves again only once no replica can have newer data; else the replica is promoted."""
    for shard in now.topology.shards:
        for member in shard.members:
            if member.node is None or not member.node.quarantined or member.node.loading:
                continue
            yield from _judge(now, shard, member, member.node)


def _judge(now: Situation, shard: Shard, member: Member, view: NodeView) -> Iterator[Verdict]:
    pod = member.pod.name
    if view.role is Role.REPLICA:
        yield Do(
            Release(member.target), Reason.RELEASING_QUARANTINE, f"{pod} no longer leads: its users are switched on"
        )
        return
    if not now.topology.owners.get(view.node_id):
        # Blank, it is opened with its first task: a replica that looks for its lost primary here must not find nothing.
        # Or its slots have a newer owner, and two would take writes: it stays closed until it has heard and follows.
        return
    silent = [m.pod.name for m in shard.members if m is not member and (m.node is None or m.node.loading)]
    if silent or len(shard.members) < shard.expected:
        who = ", ".join(silent) or "a pod that is not there yet"
        message = f"shard {shard.index}: {pod} has restarted with data of unknown age; waiting to compare it with {who}"
        yield Wait(Reason.RELEASING_QUARANTINE, message, 0.5)
        return
    newer = [m for m in shard.replicas if m.node is not None and _may_be_newer(now, shard, m.node, view)]
    heir = max(newer, key=lambda m: (m.node.offset if m.node else 0, -m.pod.ordinal), default=None)
    if heir is None or heir.node is None:
        yield Do(
            Release(member.target), Reason.RELEASING_QUARANTINE, f"{pod} has the newest data of shard {shard.index}"
        )
    elif _knows_newest(now, heir.node, view.node_id):
        proof = f"{pod} has restarted from older data and serves nobody"
        action = Promote(shard.index, heir.target, view.node_id, FailoverKind.TAKEOVER, proof)
        yield Do(action, Reason.PRIMARY_LOST, f"shard {shard.index}: {proof}; {heir.pod.name} has newer data")
    else:
        message = f"shard {shard.index}: {heir.pod.name} has newer data than {pod} but does not know its slots yet"
        yield Wait(Reason.RELEASING_QUARANTINE, message, 0.5)


def _may_be_newer(now: Situation, shard: Shard, replica: NodeView, primary: NodeView) -> bool:
    """It followed the primary's earlier process to its end; within one history the offset decides."""
    if replica.myself.primary_id != primary.node_id or replica.link is None or not replica.link.ever_synced:
        return False
    if _strayed(now, shard, replica):
        return False
    if replica.replication_id in (primary.replication_id, primary.previous_replication_id):
        return replica.offset > primary.offset
    return True


POLICIES: Final = (end_quarantine, replace_lost_primary)
