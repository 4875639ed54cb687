"""What is told of a promotion: to whoever reads the status, and in an Event."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cachecluster.api import names
from cachecluster.api.status import LastFailover
from cachecluster.domain.actions import Promote
from cachecluster.domain.plan import Outcome
from cachecluster.domain.snapshot import Snapshot


def last_failover(snap: Snapshot, outcomes: Sequence[Outcome]) -> LastFailover | None:
    """The last promotion of this pass, else the one that is known already."""
    done = [(o, a) for o in outcomes if isinstance(a := o.step.action, Promote) and o.error is None]
    if not done:
        before = snap.status.get("lastFailover")
        return LastFailover.model_validate(before) if before else None
    outcome, action = done[-1]
    return LastFailover.model_validate(
        {
            "time": datetime.fromtimestamp(snap.now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "shard": names.shard_name(snap.ref.name, action.shard),
            "from": action.lost.pod,
            "to": action.node.pod,
            "cause": action.lost.cause.value,
            "writeUnavailableMilliseconds": unavailable_milliseconds(outcome, action),
        }
    )


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
