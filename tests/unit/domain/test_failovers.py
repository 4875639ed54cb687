"""What is told of a promotion."""

from dataclasses import replace

from cachecluster.domain.actions import Promote
from cachecluster.domain.failovers import promotion_news
from cachecluster.domain.plan import Outcome, Plan
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.status import derive
from tests.unit.domain.building import CLOCK, Cluster
from tests.unit.domain.test_death import killed, silent
from tests.unit.domain.test_planner import lost_primary


def promoted(cluster: Cluster, *, error: str | None = None) -> tuple[Snapshot, Plan, Outcome, Promote]:
    """The first step of the plan, done 20 ms later within 30 ms."""
    snap = cluster.snapshot()
    found = plan(snap)
    action = found.steps[0].action
    assert isinstance(action, Promote)
    outcome = Outcome(found.steps[0], error, began=CLOCK + 0.02, ended=CLOCK + 0.05)
    return snap, found, outcome, action


def test_the_status_keeps_the_last_failover_with_its_times() -> None:
    snap, found, outcome, _ = promoted(killed(seconds=0.1))
    told = derive(snap, found, (outcome,)).to_json()["lastFailover"]
    assert told == {
        "time": "1970-01-12T13:46:40Z",
        "shard": "cart-0",
        "from": "cart-0-0",
        "to": "cart-0-1",
        "cause": "ProcessEnded",
        "writeUnavailableMilliseconds": 150,
    }
    later = derive(replace(snap, status={"lastFailover": told}), Plan())
    assert later.to_json()["lastFailover"] == told


def test_a_promotion_that_did_not_work_is_none() -> None:
    snap, found, outcome, _ = promoted(killed(), error="not elected")
    assert derive(snap, found, (outcome,)).last_failover is None


def test_the_time_before_a_silent_machine_was_noticed_counts() -> None:
    snap, found, outcome, action = promoted(silent(seconds=0.1))
    told = derive(snap, found, (outcome,)).last_failover
    assert told is not None
    assert (told.cause, told.write_unavailable_milliseconds) == ("MachineSilent", 2650)
    assert promotion_news(outcome, action) == (
        "shard 0: cart-0-1 leads in place of cart-0-0, 2650 ms after that one's last sign of life "
        "(its loss was confirmed after 2620 ms; promoted within 30 ms)"
    )


def test_without_a_connection_the_time_is_not_known() -> None:
    snap, found, outcome, action = promoted(lost_primary())
    told = derive(snap, found, (outcome,)).to_json()["lastFailover"]
    assert told["cause"] == "RestartedEmpty"
    assert "writeUnavailableMilliseconds" not in told
    assert promotion_news(outcome, action) == "shard 0: cart-0-1 leads in place of cart-0-0, promoted within 30 ms"
