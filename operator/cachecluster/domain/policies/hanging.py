"""Processes that hang: their machine answers, they do not. They may go on at any moment and know nothing of what has
happened meanwhile, so they are ended before anybody takes their place (S10).
"""

from collections.abc import Iterator

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import EndPod, Target
from cachecluster.domain.hanging import HUNG_SECONDS, can_do_without, hears, misses
from cachecluster.domain.heirs import best_heir
from cachecluster.domain.loss import has_fallen_silent
from cachecluster.domain.nodes import NodeId, NodeView, Unreachable
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import Member, Shard


def end_hung_nodes(now: Situation) -> Iterator[Verdict]:
    """Have the kubelet end a process that hangs, once its shard can do without it."""
    for shard in now.topology.shards:
        for member in shard.members:
            node_id = _hangs(now, member)
            if node_id is not None:
                yield _end(now, shard, member, node_id)


def _hangs(now: Situation, member: Member) -> NodeId | None:
    """The node in the pod, if it hangs: its machine keeps the operator's connection alive, it has answered neither the
    operator nor any other node, and at least one of those has waited for it as well (S1).
    """
    view, pod = member.view, member.pod
    node_id = now.snap.connected.get(pod.uid)
    if node_id is None or pod.deleting or not pod.runs:
        return None
    if not isinstance(view, Unreachable) or not view.silent or now.snap.now - view.since < HUNG_SECONDS:
        return None
    others = (m.node for m in now.topology.members if m.node is not None)
    rows = [row for other in others if (row := other.peer(node_id)) is not None]
    return node_id if any(map(misses, rows)) and not any(map(hears, rows)) else None


def _end(now: Situation, shard: Shard, member: Member, node_id: NodeId) -> Verdict:
    told = f"{member.pod.name} hangs: its machine answers, but its process answers nobody"
    owns = bool(now.topology.owners.get(node_id))
    keeper = best_heir(now.topology, shard, node_id, _hears_nothing) if owns else _leader_of(shard, member)
    if keeper is None or keeper.node is None or not can_do_without(keeper.node, node_id):
        if keeper is not None and keeper.synced:  # as far as it knows, until it misses it as well
            return Wait(Reason.NODE_HANGS, f"{told}. Waiting until {keeper.pod.name} has missed it for as long", 1.0)
        message = f"{told}. No other node has its data, so it is left alone; if that may be lost, delete the pod"
        return Block(Reason.NODE_HANGS, message)
    if not owns and not _others_in_step(now, shard, member):
        message = f"{told}. It is ended once the shard's other copies are in step"
        return Wait(Reason.NODE_HANGS, message, 1.0)
    hung = Target(member.pod.name, member.pod.uid, str(member.pod.ip), node_id, member.pod.shard)
    return Do(EndPod(hung, keeper.target), Reason.NODE_HANGS, f"{told}. It is ended; {keeper.pod.name} has its data")


def _hears_nothing(view: NodeView) -> bool:
    return view.link is not None and has_fallen_silent(view.link)


def _leader_of(shard: Shard, member: Member) -> Member | None:
    """Who leads a copy, or has taken its role over. What has never had a role here may hold what nobody else has."""
    return shard.primary if member.pod.role_label is not None else None


def _others_in_step(now: Situation, shard: Shard, member: Member) -> bool:
    """No other copy is on its way; what hangs as well has its turn later (S7)."""
    others = [m for m in shard.members if m is not member and m is not shard.primary and not _hangs(now, m)]
    return len(shard.members) == shard.expected and all(shard.follows(m) for m in others)
