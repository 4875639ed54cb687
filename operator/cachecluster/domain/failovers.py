"""What is told of lost primaries and of who took their places: in the status, and in an Event."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType

from cachecluster.api import names
from cachecluster.api.reasons import FailoverCause, Promoter
from cachecluster.api.status import FAILOVERS_KEPT, Failover, LastFailover
from cachecluster.domain.actions import Promote
from cachecluster.domain.loss import Lost
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.domain.plan import Outcome
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.topology import Member, Topology


@dataclass(frozen=True, slots=True)
class Account:
    """One failover. Times in Unix seconds; None: not known."""

    shard: str
    former: str | None
    heir: str
    heir_id: NodeId
    cause: FailoverCause
    why: str
    promoter: Promoter | None
    known: float
    """Since when it is known that another leads."""
    last_sign: float | None = None
    """Of life, from the old primary."""
    seen: float | None = None
    confirmed: float | None = None
    promoted: float | None = None
    writable: float | None = None

    def told(self) -> Failover:
        """As it stands in the status."""
        gap = (
            None if self.last_sign is None or self.writable is None else round(1000 * (self.writable - self.last_sign))
        )
        return Failover.model_validate(
            {
                "shard": self.shard,
                "from": self.former,
                "to": self.heir,
                "cause": self.cause.value,
                "message": self.why,
                "promotedBy": self.promoter.value if self.promoter else None,
                "time": _moment(self.known),
                "seenAt": _moment(self.seen),
                "confirmedAt": _moment(self.confirmed),
                "promotedAt": _moment(self.promoted),
                "writableAt": _moment(self.writable),
                "writeUnavailableMilliseconds": None if gap is None else max(gap, 0),
            }
        )


@dataclass(frozen=True, slots=True)
class Leader:
    """Who was last seen to lead a shard."""

    node_id: NodeId
    pod: str
    attempt: Outcome | None = None
    """To promote another in its place, of which nobody knows what came; it has not been seen to lead since."""


@dataclass(frozen=True, slots=True)
class Chronicle:
    """What one process of the operator has seen of the failovers of a cluster.

    With the process it is gone, and what the status does not have by then stays untold: that a primary is another than
    the status says may as well have come of a switch.
    """

    leaders: Mapping[int, Leader] = field(default_factory=lambda: MappingProxyType({}))
    accounts: tuple[Account, ...] = ()
    """Newest first."""

    def after(self, snap: Snapshot, topology: Topology, outcomes: Sequence[Outcome], epoch: float) -> "Chronicle":
        """With what a pass has seen and done; ``epoch``: Unix time at which the failure detector's clock was zero."""
        found, leaders = self._seen(snap, topology, epoch)
        done: list[Account] = []
        for outcome in outcomes:
            action = outcome.step.action
            if not isinstance(action, Promote):
                continue
            former = leaders.get(action.shard)
            if outcome.error is None:
                done.append(_promoted(snap, outcome, action, former, epoch))
                leaders[action.shard] = Leader(action.node.node_id, action.node.pod)
            elif former is not None and former.node_id == action.lost.node_id:
                leaders[action.shard] = replace(former, attempt=outcome)
        earlier = [_watched(account, snap, topology) for account in self.accounts]
        return Chronicle(leaders, (*reversed([*found, *done]), *earlier)[:FAILOVERS_KEPT])

    def _seen(self, snap: Snapshot, topology: Topology, epoch: float) -> tuple[list[Account], dict[int, Leader]]:
        """Failovers that have come about since the last look, and who leads now, or did last."""
        found, leaders = [], dict(self.leaders)
        for shard in topology.shards:
            if shard.primary is None or shard.primary.node is None:
                continue
            former, view = leaders.get(shard.index), shard.primary.node
            leaders[shard.index] = Leader(view.node_id, shard.primary.pod.name)
            if former is not None and former.node_id != view.node_id and _was_lost(former, view):
                found.append(_found(snap, former, shard.primary, epoch))
        return found, leaders


def failovers(snap: Snapshot, chronicle: Chronicle) -> list[Failover]:
    """Those that the status has already and those that have been seen since, newest first."""
    before = (Failover.read(written) for written in snap.status.get("failovers", ()))
    told = {(f.shard, f.time): f for f in (*before, *(a.told() for a in chronicle.accounts)) if f is not None}
    return sorted(told.values(), key=lambda f: (f.time, f.shard), reverse=True)[:FAILOVERS_KEPT]


def last_failover(snap: Snapshot, told: Sequence[Failover]) -> LastFailover | None:
    """The last one that was the operator's work, which may be longer ago than the list goes back."""
    last = next((f for f in told if f.confirmed_at is not None and f.promoted_at is not None), None)
    if last is None:
        return LastFailover.read(snap.status.get("lastFailover"))
    return LastFailover.model_validate(
        {
            "time": last.time.partition(".")[0] + "Z",
            "shard": last.shard,
            "from": last.from_,
            "to": last.to,
            "cause": last.cause,
            "writeUnavailableMilliseconds": last.write_unavailable_milliseconds,
        }
    )


def _promoted(snap: Snapshot, outcome: Outcome, action: Promote, former: Leader | None, epoch: float) -> Account:
    """A promotion that was carried out. One that the nodes had made meanwhile may have come of an earlier attempt."""
    promoter: Promoter | None = Promoter.OPERATOR
    if outcome.promotion is not None and outcome.promotion.elected:
        promoter = None if former is not None and former.attempt is not None else Promoter.NODES
    done = epoch + outcome.ended
    return Account(
        shard=names.shard_name(snap.ref.name, action.shard),
        former=action.lost.pod,
        heir=action.node.pod,
        heir_id=action.node.node_id,
        cause=action.lost.cause,
        why=action.lost.why,
        promoter=promoter,
        known=done,
        last_sign=_last_sign(action.lost, epoch),
        seen=_ended(snap, action.lost.node_id, action.lost, epoch),
        confirmed=epoch + outcome.began,
        promoted=done,
        writable=done if outcome.promotion is not None and outcome.promotion.takes_writes else None,
    )


def _was_lost(former: Leader, view: NodeView) -> bool:
    """It has not handed over: who has is listed as a replica, or is not listed any more."""
    row = view.peer(former.node_id)
    return row is not None and row.is_primary and (row.failed or former.attempt is not None)


def _found(snap: Snapshot, former: Leader, heir: Member, epoch: float) -> Account:
    """Another leads than before, and this operator does not know since when."""
    attempt, lost = former.attempt, _lost_in(former)
    return Account(
        shard=names.shard_name(snap.ref.name, heir.pod.shard),
        former=former.pod,
        heir=heir.pod.name,
        heir_id=heir.target.node_id,
        cause=lost.cause if lost is not None else FailoverCause.MARKED_FAILED,
        why=lost.why if lost is not None else f"the other nodes have marked {former.pod} as failed",
        promoter=None if attempt is not None else Promoter.NODES,
        known=snap.now,
        last_sign=_last_sign(lost, epoch),
        seen=_ended(snap, former.node_id, lost, epoch),
        confirmed=epoch + attempt.began if attempt is not None else None,
        writable=snap.now if _takes_writes(heir) else None,
    )


def _lost_in(leader: Leader) -> Lost | None:
    """What was known of its loss when the operator tried to replace it."""
    action = leader.attempt.step.action if leader.attempt is not None else None
    return action.lost if isinstance(action, Promote) else None


def _ended(snap: Snapshot, former: NodeId, lost: Lost | None, epoch: float) -> float | None:
    """When the operator's connection to the old primary ended, whether or not that has proven anything."""
    connection = (lost.connection if lost is not None else None) or snap.lost.get(former)
    return None if connection is None else epoch + connection.at


def _last_sign(lost: Lost | None, epoch: float) -> float | None:
    return None if lost is None or lost.since is None else epoch + lost.since


def _watched(account: Account, snap: Snapshot, topology: Topology) -> Account:
    """With the moment at which its new primary is first seen to take writes."""
    heir = topology.by_id.get(account.heir_id)
    if account.writable is None and heir is not None and _takes_writes(heir):
        return replace(account, writable=max(snap.now, account.known))
    return account


def _takes_writes(member: Member) -> bool:
    return member.node is not None and member.node.takes_writes


def _moment(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unavailable_milliseconds(outcome: Outcome, action: Promote) -> int | None:
    """From the last sign of life of the old primary to the first of the new one; None where nobody saw the former."""
    since = action.lost.since
    return None if since is None else round(1000 * (outcome.ended - since))


def promotion_news(outcome: Outcome, action: Promote) -> str:
    """One sentence with the times: seen, confirmed, promoted."""
    former = action.lost.pod or "its lost primary"
    told = f"shard {action.shard}: {action.node.pod} leads in place of {former}"
    took = f"promoted within {round(1000 * (outcome.ended - outcome.began))} ms"
    since = action.lost.since
    if since is None:
        return f"{told}, {took}"
    total = f"{unavailable_milliseconds(outcome, action)} ms after that one's last sign of life"
    return f"{told}, {total} (its loss was confirmed after {round(1000 * (outcome.began - since))} ms; {took})"
