"""What is told of a failover."""

from dataclasses import replace
from typing import Any

from cachecluster.domain.actions import Promote
from cachecluster.domain.failovers import Chronicle, failovers, promotion_news
from cachecluster.domain.nodes import Ending, Role
from cachecluster.domain.plan import Outcome, Plan, Promotion
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.status import derive
from cachecluster.domain.topology import observe
from tests.unit.domain.building import CLOCK, NOW, Cluster, formed, gone
from tests.unit.domain.test_death import killed, silent
from tests.unit.domain.test_planner import lost_primary

EPOCH = NOW - CLOCK
LED = Promotion(elected=False, takes_writes=True)


def promoted(
    cluster: Cluster, *, error: str | None = None, said: Promotion | None = LED
) -> tuple[Snapshot, Plan, Outcome, Promote]:
    """The first step of the plan, done 20 ms later within 30 ms."""
    snap = cluster.snapshot()
    found = plan(snap)
    action = found.steps[0].action
    assert isinstance(action, Promote)
    promotion = said if error is None else None
    outcome = Outcome(found.steps[0], error, promotion=promotion, began=CLOCK + 0.02, ended=CLOCK + 0.05)
    return snap, found, outcome, action


def after(snap: Snapshot, *outcomes: Outcome, chronicle: Chronicle | None = None) -> Chronicle:
    """What is known after one more pass."""
    return (chronicle or Chronicle()).after(snap, observe(snap), outcomes, EPOCH)


def written(snap: Snapshot, *outcomes: Outcome, chronicle: Chronicle | None = None) -> dict[str, Any]:
    """The status as it is written after that pass."""
    return derive(snap, Plan(), outcomes, chronicle=after(snap, *outcomes, chronicle=chronicle)).to_json()


def led_by_the_heir(*, failed: bool = True, keys: int = 10) -> Cluster:
    """cart-0-1 leads in the place of cart-0-0, which does not answer and which the others list as failed, or which has
    handed over to it.
    """
    old = formed().nodes[0]
    cluster = formed().with_node(0, 1, role=Role.PRIMARY, slots=old.slots, epoch=9, follows=None, keys=keys)
    if failed:
        cluster = cluster.with_node(0, 0, answers=False, hidden=True, slots=NO_SLOTS)
        return replace(cluster, ghosts=(gone(old.node_id, NO_SLOTS, ip=old.ip),))
    return cluster.with_node(0, 0, role=Role.REPLICA, slots=NO_SLOTS, follows=cluster.nodes[1].node_id)


class TestLast:
    def test_the_status_keeps_the_last_failover_with_its_times(self) -> None:
        snap, _, outcome, _ = promoted(killed(seconds=0.1))
        told = written(snap, outcome)["lastFailover"]
        assert told == {
            "time": "1970-01-12T13:46:40Z",
            "shard": "cart-0",
            "from": "cart-0-0",
            "to": "cart-0-1",
            "cause": "ProcessEnded",
            "writeUnavailableMilliseconds": 150,
        }
        assert written(replace(snap, status={"lastFailover": told}))["lastFailover"] == told

    def test_a_promotion_that_did_not_work_is_none(self) -> None:
        snap, _, outcome, _ = promoted(killed(), error="not elected")
        status = written(snap, outcome)
        assert "lastFailover" not in status
        assert status["failovers"] == []

    def test_the_time_before_a_silent_machine_was_noticed_counts(self) -> None:
        snap, _, outcome, action = promoted(silent(seconds=0.1))
        told = written(snap, outcome)["lastFailover"]
        assert (told["cause"], told["writeUnavailableMilliseconds"]) == ("MachineSilent", 2650)
        assert promotion_news(outcome, action) == (
            "shard 0: cart-0-1 leads in place of cart-0-0, 2650 ms after that one's last sign of life "
            "(its loss was confirmed after 2620 ms; promoted within 30 ms)"
        )

    def test_without_a_connection_the_time_is_not_known(self) -> None:
        snap, _, outcome, action = promoted(lost_primary())
        told = written(snap, outcome)["lastFailover"]
        assert told["cause"] == "RestartedEmpty"
        assert "writeUnavailableMilliseconds" not in told
        assert promotion_news(outcome, action) == "shard 0: cart-0-1 leads in place of cart-0-0, promoted within 30 ms"


class TestList:
    def test_a_failover_is_told_with_its_steps_to_the_millisecond(self) -> None:
        snap, _, outcome, action = promoted(killed(seconds=0.1))
        assert written(snap, outcome)["failovers"] == [
            {
                "shard": "cart-0",
                "from": "cart-0-0",
                "to": "cart-0-1",
                "cause": "ProcessEnded",
                "message": action.lost.why,
                "promotedBy": "Operator",
                "time": "1970-01-12T13:46:40.050Z",
                "seenAt": "1970-01-12T13:46:39.900Z",
                "confirmedAt": "1970-01-12T13:46:40.020Z",
                "promotedAt": "1970-01-12T13:46:40.050Z",
                "writableAt": "1970-01-12T13:46:40.050Z",
                "writeUnavailableMilliseconds": 150,
            }
        ]

    def test_what_the_operator_does_not_know_is_absent(self) -> None:
        snap, _, outcome, _ = promoted(lost_primary(), said=Promotion(elected=False, takes_writes=False))
        [told] = written(snap, outcome)["failovers"]
        assert not {"seenAt", "writableAt", "writeUnavailableMilliseconds"} & told.keys()
        assert {"confirmedAt", "promotedAt"} <= told.keys()

    def test_writes_that_are_taken_later_than_the_promotion_are_awaited(self) -> None:
        snap, _, outcome, _ = promoted(killed(seconds=0.1), said=Promotion(elected=False, takes_writes=False))
        before = after(snap, outcome)
        status = derive(snap, Plan(), (outcome,), chronicle=before).to_json()
        assert "writeUnavailableMilliseconds" not in status["lastFailover"]
        later = replace(led_by_the_heir().snapshot(), now=NOW + 1.5, status=status)
        status = written(later, chronicle=before)
        [told] = status["failovers"]
        assert (told["promotedAt"], told["writableAt"]) == ("1970-01-12T13:46:40.050Z", "1970-01-12T13:46:41.500Z")
        assert told["writeUnavailableMilliseconds"] == status["lastFailover"]["writeUnavailableMilliseconds"] == 1600

    def test_a_failover_is_told_once_although_every_pass_sees_it(self) -> None:
        snap, _, outcome, _ = promoted(killed())
        chronicle = after(snap, outcome)
        status = derive(snap, Plan(), (outcome,), chronicle=chronicle).to_json()
        later = replace(led_by_the_heir().snapshot(), now=NOW + 1, status=status)
        assert written(later, chronicle=chronicle)["failovers"] == status["failovers"]

    def test_one_that_could_not_be_written_is_told_later(self) -> None:
        snap, _, outcome, _ = promoted(killed())
        chronicle = after(snap, outcome)
        assert len(written(replace(led_by_the_heir().snapshot(), now=NOW + 9), chronicle=chronicle)["failovers"]) == 1

    def test_the_list_outlives_the_operator_and_keeps_the_ten_newest_first(self) -> None:
        status: dict[str, Any] = {}
        for number in range(12):
            snap, _, outcome, _ = promoted(killed())
            outcome = replace(outcome, ended=CLOCK + number)
            status = written(replace(snap, status=status), outcome)  # each by another process
        times = [f["time"] for f in status["failovers"]]
        assert len(times) == 10
        assert times == sorted(times, reverse=True)
        assert times[0] == "1970-01-12T13:46:51.000Z"
        assert written(replace(formed().snapshot(), status=status))["failovers"] == status["failovers"]


class TestNodes:
    def test_a_replica_that_the_nodes_elected_by_themselves_is_told_without_invented_times(self) -> None:
        before = after(formed().snapshot())
        cluster = led_by_the_heir().with_end(0, 0, Ending.CLOSED, 6.0)
        assert written(cluster.snapshot(), chronicle=before)["failovers"] == [
            {
                "shard": "cart-0",
                "from": "cart-0-0",
                "to": "cart-0-1",
                "cause": "MarkedFailed",
                "message": "the other nodes have marked cart-0-0 as failed",
                "promotedBy": "Nodes",
                "time": "1970-01-12T13:46:40.000Z",
                "seenAt": "1970-01-12T13:46:34.000Z",
                "writableAt": "1970-01-12T13:46:40.000Z",
            }
        ]

    def test_it_is_not_the_last_one_that_was_the_operators_work(self) -> None:
        before = after(formed().snapshot())
        assert "lastFailover" not in written(led_by_the_heir().snapshot(), chronicle=before)

    def test_a_primary_that_hands_over_is_no_failover(self) -> None:
        before = after(formed().snapshot())
        assert written(led_by_the_heir(failed=False).snapshot(), chronicle=before)["failovers"] == []

    def test_an_operator_that_has_just_started_makes_nothing_of_what_it_finds(self) -> None:
        assert written(led_by_the_heir().snapshot())["failovers"] == []

    def test_one_that_was_elected_right_before_it_was_told_to_take_over(self) -> None:
        snap, _, outcome, _ = promoted(killed(), said=Promotion(elected=True, takes_writes=True))
        assert written(snap, outcome)["failovers"][0]["promotedBy"] == "Nodes"

    def test_where_the_operator_had_tried_nobody_knows_who_it_was(self) -> None:
        snap, _, outcome, action = promoted(killed(), error="no answer in time")
        before = after(snap, outcome, chronicle=after(formed().snapshot()))
        [told] = written(led_by_the_heir().snapshot(), chronicle=before)["failovers"]
        assert "promotedBy" not in told
        assert (told["cause"], told["message"]) == ("ProcessEnded", action.lost.why)
        assert (told["confirmedAt"], told["time"]) == ("1970-01-12T13:46:40.020Z", "1970-01-12T13:46:40.000Z")
        assert "promotedAt" not in told

    def test_who_hands_over_after_all_was_not_lost(self) -> None:
        snap, _, outcome, _ = promoted(killed(), error="answers again")
        before = after(snap, outcome, chronicle=after(formed().snapshot()))
        assert written(led_by_the_heir(failed=False).snapshot(), chronicle=before)["failovers"] == []

    def test_an_attempt_is_forgotten_once_the_old_primary_leads_again(self) -> None:
        snap, _, outcome, _ = promoted(killed(), error="answers again")
        chronicle = after(formed().snapshot(), chronicle=after(snap, outcome, chronicle=after(formed().snapshot())))
        assert written(led_by_the_heir(failed=False).snapshot(), chronicle=chronicle)["failovers"] == []


def test_the_chronicle_is_bounded() -> None:
    snap, _, outcome, _ = promoted(killed())
    chronicle = Chronicle()
    for number in range(30):
        chronicle = after(snap, replace(outcome, ended=CLOCK + number), chronicle=chronicle)
    assert len(chronicle.accounts) == len(failovers(snap, chronicle)) == 10
