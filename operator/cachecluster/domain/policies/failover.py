"""Promotion, from the observed topology alone: no bad spec and no quota delays it."""

from collections.abc import Iterator, Sequence
from typing import Final

from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain.actions import FailoverKind, Promote
from cachecluster.domain.death import loss_of
from cachecluster.domain.heirs import best_heir, copies_of, strangers
from cachecluster.domain.listing import listed
from cachecluster.domain.loss import Lost, newest, quiet_seconds
from cachecluster.domain.loss_messages import older_data
from cachecluster.domain.nodes import Ending, NodeId, NodeView
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.hanging import end_hung_nodes
from cachecluster.domain.policies.quarantine import end_quarantine
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import Member, Shard

FORCE_PATIENCE_SECONDS: Final = 2
"""FORCE needs votes; engines before Valkey 8.1 refuse a second vote for 2 x node timeout (engine-facts §2)."""
EXPECTED_SECONDS: Final = 15.0
"""By then a fence has expired, if there is one."""
FRESH_SECONDS: Final = 3.0
"""So long after a connection has ended, what is still missing is looked for at short intervals."""


def replace_lost_primary(now: Situation) -> Iterator[Verdict]:
    """Promote the best synced replica of every shard whose primary is dead, or lost to everybody (S1, S10)."""
    for shard in now.topology.shards:
        if shard.primary is not None or not shard.replicas or shard.bereft:
            continue  # of nothing there is nobody to promote: see coverage
        for owner in _departed_owners(now, shard):
            lost = loss_of(now.snap, now.topology, shard, owner)
            if lost is None:
                message = f"shard {shard.index}: its primary does not answer and is not proven dead"
                yield Wait(Reason.NODE_UNREACHABLE, message, _pause(now, owner))
            else:
                yield _replacement(now, shard, lost)


def _replacement(now: Situation, shard: Shard, lost: Lost) -> Verdict:
    heir = best_heir(now.topology, shard, lost.node_id, lost.left_in_step)
    data = "has its data"
    if heir is None:
        copies = newest(copies_of(now.topology, shard, lost.node_id))
        whole = [view for view in copies if lost.left_in_step(view)]
        better = _where_more_may_be(shard, lost) if copies and not whole else []
        if better:
            return _older_copy(shard, lost, _pods(now, copies), better)
        heir = None if whole else best_heir(now.topology, shard, lost.node_id, lost.is_over)
        if heir is None:
            return _nobody(now, shard, lost, whole or copies)
        data = "has the newest copy that is left"
    deaf = strangers(shard, heir.target.node_id, lost.node_id) if lost.fence else []
    if deaf:
        cut = f"{listed([m.pod.name for m in deaf])} and {heir.pod.name} do not hear each other"
        message = f"shard {shard.index}: {lost.why}, but {cut}: who does not follow would report to it if it comes back"
        return Wait(Reason.NODE_UNREACHABLE, message, 0.5)
    kind = _kind(now, heir, lost)
    if kind is None:
        message = (
            f"shard {shard.index}: {lost.why}, but may go on unheard, and too few primaries answer to elect "
            f"{heir.pod.name}. It is promoted once that process is proven to have ended, or accepts no writes any more"
        )
        age = lost.connection.seconds if lost.connection is not None else EXPECTED_SECONDS
        return Wait(Reason.NODE_UNREACHABLE, message, 0.2 if age < EXPECTED_SECONDS else 0.5)
    action = Promote(shard.index, heir.target, kind, lost)
    return Do(action, Reason.PRIMARY_LOST, f"shard {shard.index}: {lost.why}; {heir.pod.name} {data}")


def _nobody(now: Situation, shard: Shard, lost: Lost, copies: Sequence[NodeView]) -> Verdict:
    if not copies:
        message = f"shard {shard.index}: {lost.why}, and no replica that answers has completed a sync with it"
        left = [m for m in shard.members if m.node is not None and m.node.keys]
        if lost.proven and shard.complete and left:
            return Block(Reason.NO_SYNCED_REPLICA, f"{message}. {older_data(left)}")
        return Wait(Reason.NO_SYNCED_REPLICA, message, 0.5)
    message = f"shard {shard.index}: {lost.why}; what is left of its data is on {_pods(now, copies)}"
    if len({view.replication_id for view in copies}) > 1:
        advice = "Delete the pod (and its volume) whose data you can do without"
        return Block(Reason.NO_SYNCED_REPLICA, f"{message}, in histories that cannot be compared. {advice}")
    return Wait(Reason.NO_SYNCED_REPLICA, f"{message}, which can lead once it serves and knows the newest slots", 0.5)


def _pods(now: Situation, views: Sequence[NodeView]) -> str:
    return listed([now.topology.by_id[view.node_id].pod.name for view in views])


def _where_more_may_be(shard: Shard, lost: Lost) -> list[str]:
    """Pods that may have what a replica lacks that was not in step to the end: the lost one, with its memory or on its
    volume, and whoever does not answer.
    """
    others = [m for m in shard.members if m.pod.name != lost.pod]
    found = [m.pod.name for m in others if not m.serving and not m.runs_nothing]
    volumes = any(m.pod.has_volume for m in shard.members)
    if not lost.proven or (volumes and lost.cause is not FailoverCause.RESTARTED_EMPTY):
        found.insert(0, lost.pod or "its pod")
    return found


def _older_copy(shard: Shard, lost: Lost, copies: str, better: Sequence[str]) -> Verdict:
    """To let it lead would undo what was acknowledged since, and take it from whoever has it."""
    message = (
        f"shard {shard.index}: {lost.why}, but {copies} had fallen behind before its end. Waiting for "
        f"{listed(better)}, where the rest may be. If that is gone for good, delete the pod (and its volume)"
    )
    return Wait(Reason.NO_SYNCED_REPLICA, message, 0.5)


def _departed_owners(now: Situation, shard: Shard) -> list[NodeId]:
    """Owners of slots whom this shard's replicas follow and who do not answer."""
    followed = {m.node.myself.primary_id for m in shard.replicas if m.node is not None}
    return sorted(o for o in now.topology.owners if o in followed and o not in now.topology.by_id)


def _pause(now: Situation, owner: NodeId) -> float:
    """Seconds until what is missing may be there: a replica sees an end within milliseconds, silence by the second."""
    connection = now.snap.lost.get(owner)
    if connection is None or connection.seconds >= FRESH_SECONDS:
        return 0.5
    return 0.05 if connection.ending is Ending.CLOSED else 0.2


def _kind(now: Situation, heir: Member, lost: Lost) -> FailoverKind | None:
    """FORCE lets the other primaries vote; TAKEOVER where they cannot or do not, if there is proof; else None."""
    voters = {i for i, m in now.topology.by_id.items() if m.usable and i in now.topology.owners and i != lost.node_id}
    quorum = len(voters) >= len(now.topology.owners) // 2 + 1
    waited = quiet_seconds(heir.node.link) if heir.node is not None and heir.node.link is not None else 0
    if quorum and not (lost.proven and waited >= FORCE_PATIENCE_SECONDS):
        return FailoverKind.FORCE
    return FailoverKind.TAKEOVER if lost.proven else None


POLICIES: Final = (end_quarantine, replace_lost_primary, end_hung_nodes)
