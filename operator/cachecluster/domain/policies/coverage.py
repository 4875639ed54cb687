"""Every slot has an owner: first formation, and what happens to slots whose data is gone (S2)."""

from collections.abc import Iterator, Mapping
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import PersistenceMode
from cachecluster.domain.actions import AssignSlots, Release, Replicate
from cachecluster.domain.data_loss import Incident, open_incident, settled_successors
from cachecluster.domain.leaders import choose_leaders
from cachecluster.domain.listing import listed
from cachecluster.domain.loss_messages import demand, older_data, outcome
from cachecluster.domain.nodes import NodeId, Peer
from cachecluster.domain.placement import choose_primaries
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.membership import first_epoch
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.slots import NO_SLOTS, SlotSet, union
from cachecluster.domain.snapshot import ObjectKey
from cachecluster.domain.topology import Member, Shard


def lead_new_shards(now: Situation) -> Iterator[Verdict]:
    """In a cluster whose pods all have their places and can hold no data, a shard's leader is known before any process
    runs: it gets its slots with its first answer, before it meets anybody.

    A node that in its third second still knows of no slot owner counts itself to a minority, and then serves no
    request for another node timeout (Valkey cluster_legacy.c, clusterUpdateState).
    """
    for shard, leader in _first_to_answer(now):
        action = AssignSlots(leader.target, shard.slots, first_epoch=first_epoch(now, leader, leads=True))
        message = f"shard {shard.index}: {leader.pod.name} leads slots {shard.slots}"
        yield Do(action, Reason.FORMING, message)


def _first_to_answer(now: Situation) -> list[tuple[Shard, Member]]:
    """New shards whose leader answers and knows nobody yet."""
    owned = union(now.topology.owners.values())
    new = {shard.index for shard in now.topology.shards if shard.empty and not shard.slots & owned}
    if not new:
        return []
    return [
        (shard, leader)
        for shard, leader in _first_leaders(now)
        if shard.index in new
        if leader.usable and leader.node is not None and leader.node.blank and len(leader.node.peers) == 1
    ]


def _first_leaders(now: Situation) -> list[tuple[Shard, Member]]:
    """Every shard with its leader by the zones of its pods alone: whoever asks again, and whoever of them answers by
    then, gets the same (S2). Empty if some pod has no place yet, or may hold data.
    """
    shards = now.topology.shards
    if not all(_new(now, shard) for shard in shards):
        return []
    picks = choose_primaries([[m.zone for m in s.members] for s in shards], {})
    leaders = [(shard, shard.members[picks[i]]) for i, shard in enumerate(shards)]
    return leaders if all(s.head is None or s.head is leader for s, leader in leaders) else []


def _new(now: Situation, shard: Shard) -> bool:
    """All its pods have a place, and none of them brings a volume from an earlier life of the shard."""
    if not shard.slots or len(shard.members) < shard.expected:
        return False
    return all(m.pod.host and not m.pod.deleting and not _may_hold_data(now, shard, m) for m in shard.members)


def _may_hold_data(now: Situation, shard: Shard, member: Member) -> bool:
    """Its volume is older than the StatefulSet. Times of the API server (RFC 3339, UTC) sort as text."""
    if now.spec.persistence_mode is PersistenceMode.NONE:
        return False
    claim = names.volume_claim(now.snap.ref.name, member.pod.shard, member.pod.ordinal)
    volume = now.snap.children.get(ObjectKey("PersistentVolumeClaim", claim))
    statefulset = now.snap.children.get(ObjectKey("StatefulSet", shard.name))
    if volume is None or statefulset is None:
        return True
    return bool(volume["metadata"]["creationTimestamp"] < statefulset["metadata"]["creationTimestamp"])


def cover_slots(now: Situation) -> Iterator[Verdict]:
    """Hand out slots that nobody owns: at first formation freely, later only as the data's loss allows (S2)."""
    owned = union(now.topology.owners.values())
    incident = open_incident(now.snap, now.topology)
    settled = settled_successors(now.snap, incident) if incident is not None else {}
    chosen = choose_leaders(now.snap, now.topology, settled)
    led = {shard.index for shard, _ in _first_to_answer(now)}
    for shard in now.topology.shards:
        missing = NO_SLOTS if shard.index in led else shard.slots - owned
        if shard.formed:
            yield from _after_loss(shard, missing, settled.get(shard.name), incident)
            yield from _older_copies(now, shard)
        elif missing:
            yield from _first_time(shard, missing, chosen.get(shard.index))
    if incident is not None:
        yield _verdict(now, incident, settled)


def open_newcomers(now: Situation) -> Iterator[Verdict]:
    """A shard that is added to a cluster with data gets its slots later, by moves. Until then it needs somebody for its
    replicas to follow: a member that is opened, as every node is with its first task (ADR 0008).
    """
    chosen = choose_leaders(now.snap, now.topology, {})
    for shard in now.topology.shards:
        if shard.head is not None or shard.formed or shard.slots or shard.leaving:
            continue
        leader = chosen.get(shard.index)
        if leader is None:
            yield Wait(Reason.WAITING_FOR_PODS, f"shard {shard.index}: waiting for its pods to answer", 0.2)
            continue
        message = f"{leader.pod.name} is to lead the new shard {shard.index}"
        yield Do(Release(leader.target), Reason.SCALING_OUT, message)


def _first_time(shard: Shard, missing: SlotSet, leader: Member | None) -> Iterator[Verdict]:
    if shard.primary is not None:
        action = AssignSlots(shard.primary.target, missing)
        yield Do(action, Reason.ASSIGNING_SLOTS, f"shard {shard.index}: {shard.primary.pod.name} gets slots {missing}")
    elif leader is not None:
        action = AssignSlots(leader.target, missing)
        yield Do(action, Reason.ASSIGNING_SLOTS, f"shard {shard.index}: {leader.pod.name} leads slots {missing}")
    else:
        yield Wait(Reason.WAITING_FOR_PODS, f"shard {shard.index}: waiting for its pods to answer", 0.2)


def _after_loss(
    shard: Shard, missing: SlotSet, successor: NodeId | None, incident: Incident | None
) -> Iterator[Verdict]:
    """The shard held data. Only when every member answers and has nothing is that data gone for good; and only to whom
    the status names are its slots given then.
    """
    unowned = [m for m in shard.members if m.usable and m.node is not None and m.node.keys and not m.node.myself.slots]
    if shard.primary is None and not shard.replicas and shard.complete and unowned:
        pods = listed([m.pod.name for m in unowned])
        message = f"shard {shard.index} has no primary, and {pods} has keys but does not know of its slots"
        yield Block(Reason.UNOWNED_KEYS, f"{message}. {older_data(unowned)}")
    elif shard.primary is None and not shard.void and not shard.replicas:
        message = f"shard {shard.index} has no primary; waiting for its pods to answer"
        yield Wait(Reason.SLOTS_UNCOVERED, message, 0.5)
    elif shard.bereft and (incident is None or not incident.of(shard.name)):
        message = f"shard {shard.index} has nothing left, and its last primary may still run"
        yield Wait(Reason.SLOTS_UNCOVERED, message, 0.5)
    heir = next((m for m in shard.members if m.usable and m.target.node_id == successor), None)
    if heir is None or incident is None or not (shard.void or shard.primary is heir):
        return
    if shard.primary is None:
        yield from _gather_behind(shard, heir)
    given = missing & incident.of(shard.name)
    if given:  # else the tables still name the lost owner: it is forgotten first, once nobody follows it any more
        action = AssignSlots(heir.target, given)
        message = f"shard {shard.index}: slots {given} start empty on {heir.pod.name} (data loss {incident.id})"
        yield Do(action, Reason.ASSIGNING_SLOTS, message)


def _older_copies(now: Situation, shard: Shard) -> Iterator[Verdict]:
    """Who was cut off while its primary was replaced, and has never followed the successor: if that is lost with all
    that it had, older data is left. To serve it would undo what was acknowledged since: that is not for us to decide.
    """
    followed = {m.node.myself.primary_id for m in shard.replicas if m.node is not None}
    if shard.primary is not None or not shard.replicas or shard.bereft or followed & now.topology.owners.keys():
        return
    copies = listed([m.pod.name for m in shard.replicas])
    message = (
        f"shard {shard.index} has no primary, and {copies} followed an earlier one: what was written since is missing"
    )
    if not shard.complete:
        yield Wait(Reason.SLOTS_UNCOVERED, f"{message}. Waiting for all of its pods to answer", 0.5)
        return
    message = f"{message}, and no pod of the shard has it. {older_data(shard.replicas)}"
    yield Block(Reason.NO_SYNCED_REPLICA, message)


def _verdict(now: Situation, incident: Incident, settled: Mapping[str, NodeId]) -> Verdict:
    """What is said of it: that somebody has to decide, or that it goes on as soon as the status tells how."""
    if not incident.given_up:
        return Block(Reason.DATA_LOSS, demand(now.snap, incident))
    return Wait(Reason.DATA_LOSS, outcome(now.snap, incident), 0.5 if settled == incident.successors else 0.05)


def _gather_behind(shard: Shard, leader: Member) -> Iterator[Verdict]:
    """A replica of a lost owner keeps that owner's id alive in the tables: it follows the shard's new leader."""
    for member in shard.replicas:
        if member.node is not None and member.node.myself.primary_id != leader.target.node_id:
            message = (
                f"shard {shard.index}: {member.pod.name} has nothing left and follows {leader.pod.name} from now on"
            )
            yield Do(Replicate(member.target, leader.target), Reason.ATTACHING_REPLICA, message)


def await_agreement(now: Situation) -> Iterator[Verdict]:
    """The nodes' picture of each other changes without any news from Kubernetes: look until it is as it should be.

    A primary refuses requests while its cluster_state is not ok.
    """
    for shard in now.topology.shards:
        if shard.primary is not None and shard.primary.node is not None and not shard.primary.node.cluster_state_ok:
            yield Wait(Reason.FORMING, f"{shard.primary.pod.name} does not see the whole cluster yet", 0.2)
    if not now.topology.informed:
        yield Wait(Reason.FORMING, "not every node knows yet where all slots are", 0.2)
    for member in now.topology.members:
        failed = next((now.topology.by_id[p.node_id] for p in _suspects(now, member)), None)
        if failed is not None:
            # While this lasts, the replicas of a primary that is back may still elect one of themselves.
            message = f"{member.pod.name} still counts {failed.pod.name} as failed, which answers"
            yield Wait(Reason.NODE_UNREACHABLE, message, 1.0)
            return


def _suspects(now: Situation, member: Member) -> Iterator[Peer]:
    """Rows of the member's table that are marked as failing although their node answers us."""
    peers = member.node.peers if member.node is not None else ()
    return (p for p in peers if p.suspected and p.node_id in now.topology.by_id)


POLICIES: Final = (cover_slots, open_newcomers, await_agreement)
