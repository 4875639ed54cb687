"""The end of quarantines: a primary that restarted with data of unknown age is compared with its replicas (S5)."""

from collections.abc import Iterator

from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain.actions import FailoverKind, Promote, Release
from cachecluster.domain.heirs import has_strayed, knows_newest
from cachecluster.domain.loss import READING_SECONDS, Lost, quiet_seconds
from cachecluster.domain.nodes import NodeView, Role
from cachecluster.domain.plan import Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import Member, Shard


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
    newer = [m for m in shard.replicas if m.node is not None and _may_be_newer(now, shard, m.node, member)]
    heir = max(newer, key=lambda m: (m.node.offset if m.node else 0, -m.pod.ordinal), default=None)
    if heir is None or heir.node is None:
        yield Do(
            Release(member.target), Reason.RELEASING_QUARANTINE, f"{pod} has the newest data of shard {shard.index}"
        )
    elif knows_newest(now.topology, heir.node, view.node_id):
        why = f"{pod} has restarted from older data and serves nobody"
        lost = Lost(view.node_id, FailoverCause.OLDER_DATA, why, pod)
        action = Promote(shard.index, heir.target, FailoverKind.TAKEOVER, lost)
        yield Do(action, Reason.PRIMARY_LOST, f"shard {shard.index}: {why}; {heir.pod.name} has newer data")
    else:
        message = f"shard {shard.index}: {heir.pod.name} has newer data than {pod} but does not know its slots yet"
        yield Wait(Reason.RELEASING_QUARANTINE, message, 0.5)


def _may_be_newer(now: Situation, shard: Shard, replica: NodeView, restarted: Member) -> bool:
    """It followed the primary's earlier process to its end, or has restarted with a snapshot of what that had. Within
    one history the offset decides; the shard's last one continues what the primary has loaded (ADR 0017).
    """
    primary = restarted.node
    if primary is None or replica.myself.primary_id != primary.node_id or replica.link is None:
        return False
    if has_strayed(now.topology, shard, replica):
        return False
    if replica.replication_id in (primary.replication_id, primary.previous_replication_id):
        return replica.offset > primary.offset
    if replica.link.ever_synced:
        return not primary.logs or quiet_seconds(replica.link) <= _since_the_end(now, restarted) + READING_SECONDS
    return replica.replication_id == shard.history and replica.offset > primary.offset


def _since_the_end(now: Situation, restarted: Member) -> float:
    """Seconds since the earlier process has ended, at least: its pod or its container was made anew after that.

    An append-only log has all that it accepted, or all but the last second if the machine went with it. A replica whose
    link had ended before lacks more.
    """
    container = restarted.pod.container
    ended_at = container.ended_at if container is not None else None
    return now.snap.now - (restarted.pod.created_at if ended_at is None else ended_at)
