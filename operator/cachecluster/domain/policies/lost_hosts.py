"""Pods that hang on a Kubernetes node that is lost: its kubelet does not end them, and nobody makes them anew.

Without a volume they are given up after a while; two processes on one volume take somebody's word that one is over.
"""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import FreePod
from cachecluster.domain.lost_hosts import holds_nothing, is_cut_off, is_lost, is_silent, keeper_of, word_on
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.pods import pod_problem
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import Member, Shard

STARTING_SECONDS: Final = 600.0
"""A pod that does not run after so long is not waited for before the next one is given up."""


def leave_lost_hosts(now: Situation) -> Iterator[Verdict]:
    """Delete by force what hangs on a lost Kubernetes node, one pod of a shard at a time, once nothing is lost with it;
    else say what is awaited.
    """
    for shard in now.topology.shards:
        for member in shard.members:
            if member.pod.host is not None and member.node is None and is_lost(now.snap, member.pod):
                yield _verdict(now, shard, member, member.pod.host)


def _verdict(now: Situation, shard: Shard, member: Member, host: str) -> Verdict:
    word, pod = word_on(now.snap, host), member.pod.name
    told = f"{pod} hangs on Kubernetes node {host}, which {word or 'does not report'}"
    if not is_silent(now.snap, now.topology, member):
        return Wait(Reason.LEAVING_LOST_NODE, f"{told}; it may still run: it has been heard of lately", 1.0)
    left = 0.0 if word else _grace_left(now, host)
    if left > 0:
        what = "You are asked about it" if member.pod.has_volume else "It is given up"
        message = f"{told}. {what} after {now.spec.node_loss_grace_seconds} s of that (nodeLossGraceSeconds)"
        return Wait(Reason.LEAVING_LOST_NODE, message, min(left, 30.0))
    obstacle = None if word else _obstacle(now, shard, member)
    if obstacle is not None:
        return Block(
            Reason.NODE_LOST, f"{told}. {obstacle}. It is left alone until {host} reports. {_ask_for_word(host)}"
        )
    keeper = keeper_of(shard, now.topology, member.pod)
    if keeper is None and (shard.primary is not None or shard.replicas):
        message = f"{told}. It is given up once another pod serves shard {shard.index}"
        return Wait(Reason.LEAVING_LOST_NODE, message, 1.0)
    if _another_is_on_its_way(now, shard, member):
        message = f"{told}. It is given up once the other pods of shard {shard.index} are in step"
        return Wait(Reason.LEAVING_LOST_NODE, message, 1.0)
    target = keeper.target if keeper is not None else None
    action = FreePod(pod, member.pod.uid, member.pod.ip, host, target, on_word=word is not None)
    has_data = f"; {keeper.pod.name} has its data" if keeper is not None else ""
    return Do(action, Reason.LEAVING_LOST_NODE, f"{told}. It is deleted by force and made anew elsewhere{has_data}")


def _grace_left(now: Situation, host: str) -> float:
    """Seconds of the grace that are left."""
    found = now.snap.hosts[host]
    since = now.snap.now if found.not_ready_since is None else found.not_ready_since
    return since + now.spec.node_loss_grace_seconds - now.snap.now


def _obstacle(now: Situation, shard: Shard, member: Member) -> str | None:
    """What forbids to give the pod up without anybody's word; None: nothing."""
    if member.pod.has_volume:
        return "Its volume must not be written by two"
    keeper = keeper_of(shard, now.topology, member.pod)
    if keeper is None and not holds_nothing(shard, now.topology, member.pod):
        return f"No other pod serves shard {shard.index} with all its data"
    if is_cut_off(now.snap, now.topology):
        return "So many machines do not answer that it may be the operator who is cut off"
    return None


def _ask_for_word(host: str) -> str:
    return (
        "If its machine is off for good, say so: kubectl taint nodes "
        f"{host} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or kubectl delete node {host}"
    )


def _another_is_on_its_way(now: Situation, shard: Shard, member: Member) -> bool:
    """A pod of the shard is missing, starting or not in step yet. One that cannot come up does not count."""
    if len(shard.members) < shard.expected:
        return True
    others = (m for m in shard.members if m is not member and m is not shard.primary)
    return any(_is_on_its_way(now, shard, m) for m in others)


def _is_on_its_way(now: Situation, shard: Shard, member: Member) -> bool:
    if member.node is not None:
        return not (shard.empty or shard.follows(member))
    if is_lost(now.snap, member.pod) or pod_problem(member.pod) is not None:
        return False
    return now.snap.now - member.pod.created_at < STARTING_SECONDS


POLICIES: Final = (leave_lost_hosts,)
