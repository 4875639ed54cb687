"""Changed pod templates reach the pods one at a time, the primary's role moved away first (S7, S8, S11)."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import PersistenceMode
from cachecluster.domain.actions import Delete, RollPod, SettleShard, SwitchOver
from cachecluster.domain.drift import desired_object, partition_of, with_partition
from cachecluster.domain.live_parameters import same_family
from cachecluster.domain.memory import fits, is_told, overfull, shrinks
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.infrastructure import replacing
from cachecluster.domain.policies.pods import best_successor, pod_problem
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.resizing import can_resize
from cachecluster.domain.rolled import template_hash
from cachecluster.domain.snapshot import Manifest, ObjectKey, Pod
from cachecluster.domain.syncing import catching_up, is_catching_up, look_again
from cachecluster.domain.topology import Member, Shard

STALL_SECONDS: Final = 600.0
"""A replaced pod that is not ready after so long has stalled the roll, even if nothing else explains why; one that
loads its data or copies them is waited for, however long that takes."""


def roll_pods(now: Situation) -> Iterator[Verdict]:
    """Shard by shard, highest ordinal first; stops at the first pod that does not come up (S11)."""
    for shard in now.topology.shards:
        key = ObjectKey("StatefulSet", shard.name)
        live, desired = now.snap.children.get(key), desired_object(now.snap, key)
        if live is None or desired is None or "deletionTimestamp" in live["metadata"]:
            continue
        verdicts = list(_roll_shard(now, shard, desired, live))
        yield from verdicts
        if verdicts and now.topology.ever_formed:
            return


def _roll_shard(now: Situation, shard: Shard, desired: Manifest, live: Manifest) -> Iterator[Verdict]:
    status = live.get("status", {})
    if template_hash(desired) != template_hash(live):
        return  # applied first, with every pod behind the partition
    if status.get("observedGeneration", 0) < live["metadata"].get("generation", 0):
        yield Wait(Reason.ROLLING_OUT, f"shard {shard.index}: waiting for the StatefulSet controller", 0.3)
        return
    update, current = status.get("updateRevision", ""), status.get("currentRevision", "")
    outdated = [m for m in shard.members if m.pod.revision != update]
    uid = live["metadata"]["uid"]
    if not now.topology.ever_formed and (outdated or current != update) and partition_of(live) > 0:
        free = replacing(with_partition(desired, 0), live)
        yield Do(free, Reason.ROLLING_OUT, f"shard {shard.index} has never held data: its pods are replaced freely")
    elif outdated and now.topology.ever_formed:
        yield from _next_pod(now, shard, desired, live, outdated)
    elif not outdated and current == update and partition_of(live) != shard.expected:
        action = SettleShard(shard.index, with_partition(desired, shard.expected), uid)
        yield Do(action, Reason.ROLLING_OUT, f"shard {shard.index}: every pod runs the wanted template")
    elif not outdated and current != update:
        yield from _finish(shard, desired, live)


def _finish(shard: Shard, desired: Manifest, live: Manifest) -> Iterator[Verdict]:
    """All pods are new, but the controller calls the template current only at partition 0."""
    if len(shard.members) < shard.expected:
        return
    if partition_of(live) > 0:
        action = SettleShard(shard.index, with_partition(desired, 0), live["metadata"]["uid"])
        yield Do(action, Reason.ROLLING_OUT, f"shard {shard.index}: the new template becomes the current one")
    else:
        yield Wait(Reason.ROLLING_OUT, f"shard {shard.index}: waiting for the StatefulSet controller", 0.5)


def _next_pod(
    now: Situation, shard: Shard, desired: Manifest, live: Manifest, outdated: list[Member]
) -> Iterator[Verdict]:
    current = live.get("status", {}).get("currentRevision", "")
    template = desired["spec"]["template"]
    broken = [
        m
        for m in outdated
        if m.node is None
        and m.pod.revision not in {current, names.no_revision(now.snap.ref.name, shard.index)}
        and not (m.pod.deleting or can_resize(now.snap, shard, m, template))
    ]
    if broken:
        yield from _restore(now, shard, broken[0])
        return
    unsettled = next((m for s in now.topology.shards for m in s.members if not _settled(s, m)), None)
    if unsettled is not None or any(len(s.members) < s.expected for s in now.topology.shards):
        yield _hold(now, unsettled)
        return
    member = max(outdated, key=lambda m: m.pod.ordinal)
    if can_resize(now.snap, shard, member, template) and not is_going(now, shard, member):
        return  # to lower the partition for one below it would let this one be replaced, too
    if overfull(now.spec, now.topology):
        return  # explained where maxmemory is set
    if shrinks(now.spec, member) and not _has_room(now, member):
        message = f"{member.pod.name} is replaced once it uses no more than its new memory limit has room for"
        yield Wait(Reason.ROLLING_OUT, message, 1.0)
        return
    if is_going(now, shard, member):
        yield Wait(Reason.ROLLING_OUT, f"{member.pod.name} is about to be replaced", 0.5)
    elif member is shard.primary:
        yield from _move_primary(now, shard, member, desired, live)
    else:
        yield _replace(shard, member, desired, live)


def _has_room(now: Situation, member: Member) -> bool:
    """Its data fits into the pod that comes after it. Nodes of another release family are told nothing any more."""
    told = is_told(now.spec, member) or (member.node is not None and not same_family(member.node, now.spec.version))
    return told and fits(now.spec, member)


def is_going(now: Situation, shard: Shard, member: Member) -> bool:
    """The StatefulSet controller may replace its pod at any moment: the template is old, the partition lowered."""
    live = now.snap.children.get(ObjectKey("StatefulSet", shard.name))
    if live is None or partition_of(live) > member.pod.ordinal:
        return False
    return bool(member.pod.revision != live.get("status", {}).get("updateRevision", ""))


def _settled(shard: Shard, member: Member) -> bool:
    """Ready, and in step with its shard: nothing of the cluster is down while the next pod goes (S7)."""
    return member.pod.ready and member.usable and (member is shard.primary or member.synced)


def _restore(now: Situation, shard: Shard, member: Member) -> Iterator[Verdict]:
    """It came up on a template that is wanted no more and does not run: deleted, it returns with the proven one."""
    pod = member.pod
    if pod_problem(pod) is None and now.snap.now - pod.created_at < STALL_SECONDS:
        yield Wait(Reason.ROLLING_OUT, f"waiting for {pod.name}", 1.0)
        return
    awaited = _missing_evidence(now, shard, pod)
    if awaited is not None:
        message = (
            f"{pod.name} does not answer, and its template is no longer wanted; it goes back to the last good one as "
            f"soon as {awaited}. If you know that it can go, delete the pod"
        )
        yield Block(Reason.NODE_UNREACHABLE, message)
        return
    action = Delete(ObjectKey("Pod", pod.name), pod.uid, None)
    message = f"{pod.name} does not run, and its template is no longer wanted; it goes back to the last good one"
    yield Do(action, Reason.RESTORING_POD, message)


def _missing_evidence(now: Situation, shard: Shard, pod: Pod) -> str | None:
    """What has to come true before a silent pod counts as one that does not run; None: its kubelet says so (S1)."""
    host = now.snap.hosts.get(pod.host) if pod.host else None
    if pod.host is not None and not (host and host.ready):
        return f"the kubelet of {pod.host} reports how it is"
    if not pod.runs:
        return None
    if pod.ready:
        return "it answers, or its kubelet no longer reports it as ready"
    if shard.primary is None:
        return f"it answers, or ends, or another pod serves shard {shard.index}: it may hold the only copy of the data"
    return None


def _hold(now: Situation, member: Member | None) -> Verdict:
    if member is None:
        return Wait(Reason.ROLLING_OUT, "the roll goes on once every pod exists", 0.5)
    problem = pod_problem(member.pod) if member.node is None else None
    overdue = now.snap.now - member.pod.created_at > STALL_SECONDS and not is_catching_up(member.node)
    if problem is not None or overdue:
        why = problem.message if problem else f"{member.pod.name} is not ready after {STALL_SECONDS:.0f} s"
        message = f"the roll has stopped: {why}. Correct the spec, or set it back"
        return Block(Reason.ROLLOUT_STALLED, message)
    message = f"the roll waits for {member.pod.name} to be ready and in step{catching_up(member.node)}"
    return Wait(Reason.ROLLING_OUT, message, look_again(member.node, 0.5))


def _move_primary(now: Situation, shard: Shard, member: Member, desired: Manifest, live: Manifest) -> Iterator[Verdict]:
    update = live["status"].get("updateRevision", "")
    updated = [m for m in shard.replicas if m.pod.revision == update]
    heir = best_successor(shard, updated) or best_successor(shard, list(shard.replicas))
    if heir is not None:
        message = f"shard {shard.index}: {heir.pod.name} takes over before {member.pod.name} is replaced"
        yield Do(SwitchOver(shard.index, member.target, heir.target), Reason.SWITCHING_OVER, message)
    elif now.spec.persistence_mode is not PersistenceMode.NONE or _loss_accepted(now):
        yield _replace(shard, member, desired, live)
    else:
        message = (
            f"shard {shard.index} has no replica and persistence.mode None: replacing {member.pod.name} would lose its "
            f"data. To accept that, annotate the CacheCluster with {names.ANNOTATION_ACCEPT_LOSS}="
            f'"{_consent(now)}"'
        )
        yield Block(Reason.WOULD_LOSE_DATA, message)


def _loss_accepted(now: Situation) -> bool:
    return now.snap.annotations.get(names.ANNOTATION_ACCEPT_LOSS) == _consent(now)


def _consent(now: Situation) -> str:
    """What to write to accept the loss: worth nothing after the next edit of the spec, or the next restart."""
    restart = now.snap.annotations.get(names.ANNOTATION_RESTARTED)
    return f"{now.snap.generation}@{restart}" if restart else str(now.snap.generation)


def _replace(shard: Shard, member: Member, desired: Manifest, live: Manifest) -> Verdict:
    ordinal = member.pod.ordinal
    action = RollPod(shard.index, ordinal, with_partition(desired, ordinal), live["metadata"]["uid"])
    return Do(action, Reason.ROLLING_OUT, f"{member.pod.name} is replaced to run the new template")


POLICIES: Final = (roll_pods,)
