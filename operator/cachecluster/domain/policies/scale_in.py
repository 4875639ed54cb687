"""What the spec no longer asks for goes: replicas, the primary's role moved away first, and empty shards (S6, S7)."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Delete, RemoveReplicas, Reset, SwitchOver
from cachecluster.domain.drift import desired_object, with_members
from cachecluster.domain.nodes import Role
from cachecluster.domain.plan import Do, Verdict, Wait
from cachecluster.domain.policies.pods import best_successor
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.snapshot import ObjectKey
from cachecluster.domain.topology import Member, Shard


def remove_replicas(now: Situation) -> Iterator[Verdict]:
    """Only from a cluster that is whole but for the members that are to go."""
    surplus = [s for s in now.topology.shards if 0 < s.wanted < s.expected]
    if not surplus:
        return
    staying = (s for s in now.topology.shards if not s.leaving)
    unsettled = next((f"shard {s.index}" for s in staying if not _kept_are_in_step(s)), None)
    if unsettled is not None:
        message = f"replicas are removed once every node of {unsettled} that stays is in step with its primary"
        yield Wait(Reason.SCALING_IN, message, 0.5)
        return
    yield _remove(now, surplus[0])


def _remove(now: Situation, shard: Shard) -> Verdict:
    leaving = [m for m in shard.members if m.pod.ordinal >= shard.wanted]
    names = ", ".join(m.pod.name for m in leaving)
    key = ObjectKey("StatefulSet", shard.name)
    live = now.snap.children.get(key)
    desired = desired_object(now.snap, key)
    if shard.primary in leaving and shard.primary is not None:
        heir = best_successor(shard, [m for m in shard.replicas if m not in leaving])
        if heir is None:
            return Wait(Reason.SCALING_IN, f"{shard.primary.pod.name} is to go, but no replica is in step with it", 0.5)
        message = f"shard {shard.index}: {heir.pod.name} takes over before {shard.primary.pod.name} is removed"
        return Do(SwitchOver(shard.index, shard.primary.target, heir.target), Reason.SCALING_IN, message)
    if live is None or desired is None or live["spec"]["replicas"] <= shard.wanted:
        return Wait(Reason.SCALING_IN, f"shard {shard.index}: waiting until {names or 'its pods'} are gone", 0.5)
    action = RemoveReplicas(shard.index, with_members(desired, shard.wanted), live["metadata"]["uid"])
    return Do(action, Reason.SCALING_IN, f"shard {shard.index}: {names} is no longer wanted and goes")


def _kept_are_in_step(shard: Shard) -> bool:
    """A primary, and everybody who stays follows it; whoever goes need not answer, unless it is the primary."""
    kept: list[Member] = [m for m in shard.members if m.pod.ordinal < shard.wanted]
    return (
        shard.primary is not None
        and len(kept) == shard.wanted
        and all(m.usable and (m is shard.primary or shard.follows(m)) for m in kept)
    )


def retire_shards(now: Situation) -> Iterator[Verdict]:
    """Shards without slots that the spec no longer asks for: their nodes forget the cluster, are forgotten by everybody
    (membership does that), and only then their pods go (S6). Pods that never came up are not waited for: where there
    was no room for them, there may never be.
    """
    for shard in now.topology.shards:
        live = now.snap.children.get(ObjectKey("StatefulSet", shard.name))
        if not (shard.leaving and shard.empty) or live is None:
            continue
        silent = [m for m in shard.members if not (m.usable or m.pod.never_ran)]
        if now.topology.uncovered or silent:
            message = f"shard {shard.index} has given its slots away; its pods go when each of its nodes has answered"
            yield Wait(Reason.SCALING_IN, message, 0.5)
            continue
        known = [m for m in shard.members if m.node is not None and len(m.node.peers) > 1]
        # Replicas first: one that loses its primary's row could not be told from one that has lost its primary.
        for member in sorted(known, key=lambda m: m.node is not None and m.node.role is Role.PRIMARY):
            message = f"{member.pod.name} has nothing left and leaves the cluster"
            yield Do(Reset(member.target), Reason.SCALING_IN, message)
        if known or now.snap.foreign:
            yield Wait(Reason.SCALING_IN, f"shard {shard.index}: waiting until every node has forgotten it", 0.3)
            continue
        meta = live["metadata"]
        action = Delete(ObjectKey("StatefulSet", shard.name), meta["uid"], meta["resourceVersion"])
        yield Do(action, Reason.SCALING_IN, f"shard {shard.index} is empty and goes")


POLICIES: Final = (remove_replicas, retire_shards)
