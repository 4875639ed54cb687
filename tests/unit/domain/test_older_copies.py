"""A replica that had fallen behind before its primary was lost: who has the rest, and when it may lead all the same."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain.actions import Promote, Release
from cachecluster.domain.nodes import Ending, Unreachable
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Container, ContainerState, Snapshot
from tests.unit.domain.building import NOW, Cluster, formed, gone
from tests.unit.domain.deciding import of_type, reasons
from tests.unit.domain.test_fence import lost

LOG: Mapping[str, Any] = {"persistence": {"mode": "AppendOnly", "size": "1Gi"}}
FILES: Mapping[str, Any] = {"persistence": {"mode": "Snapshot", "size": "1Gi"}}
MEMORY: Mapping[str, Any] = {}
ENDED = Container(ContainerState.TERMINATED, "OOMKilled", "", 0, None, "OOMKilled, exit code 137", 137)
PAUSED = Container(ContainerState.WAITING, "CrashLoopBackOff", "", 5, None, "Error, exit code 1", 1)
STARTED = Container(ContainerState.RUNNING, "", "", 1, NOW - 1, "OOMKilled, exit code 137", 137)
STALE: Mapping[str, Any] = {"up": False, "down_seconds": 300, "offset": 10}


def ended(
    persistence: Mapping[str, Any], replicas: int = 1, container: Container | None = ENDED, **replica: Any
) -> Cluster:
    """The container of shard 0's primary has ended just now, as the kubelet says."""
    cluster = formed(3, replicas, **persistence)
    cluster = cluster.with_node(0, 0, answers=False, refuses=True, container=container, offset=1000)
    return cluster.with_node(0, 1, **{"up": False, "down_seconds": 0, "offset": 1000, **replica})


def waits(cluster: Cluster) -> str:
    return "\n".join(w.message for w in plan(cluster.snapshot()).waits if w.reason is Reason.NO_SYNCED_REPLICA)


def promoted(snap: Snapshot) -> list[str]:
    return [s.action.node.pod for s in plan(snap).steps if isinstance(s.action, Promote)]


class TestVolumes:
    @pytest.mark.parametrize("container", [ENDED, PAUSED, STARTED], ids=["ended", "paused", "started again"])
    @pytest.mark.parametrize("persistence", [LOG, FILES])
    def test_s1_a_stale_replica_does_not_lead_while_the_rest_is_on_a_volume(
        self, persistence: Mapping[str, Any], container: Container
    ) -> None:
        assert of_type(ended(persistence, container=container, down_seconds=1), Promote)
        cluster = ended(persistence, container=container, **STALE)
        assert not of_type(cluster, Promote)
        assert "cart-0-1 had fallen behind before its end. Waiting for cart-0-0" in waits(cluster)
        assert not of_type(cluster.with_end(0, 0, Ending.CLOSED, 1.0), Promote)

    def test_s1_nor_one_that_was_cut_off_from_it_altogether_before(self) -> None:
        """Over the bus it has heard of it no longer than over its link; the operator has."""
        cluster = ended(LOG, **STALE).with_node(0, 0, pong_age=301)
        assert not of_type(cluster.with_end(0, 0, Ending.CLOSED, 1.0), Promote)

    def test_the_volume_that_comes_back_empty_is_no_reason_to_wait(self) -> None:
        old = formed(1, 1).nodes[0]
        cluster = replace(formed(1, 1, **LOG), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
        cluster = cluster.with_node(0, 0, generation=1, slots=type(old.slots)(), keys=0, epoch=0)
        [promote] = of_type(cluster.with_node(0, 1, **{**STALE, "down_seconds": 3000}), Promote)
        assert promote.lost.cause is FailoverCause.RESTARTED_EMPTY

    def test_s1_somebodys_word_that_the_machine_is_off_says_nothing_of_its_volume(self) -> None:
        for persistence, wanted in ((LOG, []), (MEMORY, ["cart-0-1"])):
            cluster = formed(1, 1, **persistence).with_node(0, 0, answers=False, pong_age=12)
            snap = cluster.with_node(0, 1, **STALE).with_end(0, 0, Ending.TIMED_OUT, 10.0).snapshot()
            hosts = {name: host for name, host in snap.hosts.items() if name != "host-a"}
            assert promoted(replace(snap, hosts=hosts)) == wanted


class TestMemory:
    def test_the_newest_copy_that_is_left_leads_and_it_is_said_that_it_is_older(self) -> None:
        [step] = [s for s in plan(ended(MEMORY, **STALE).snapshot()).steps if isinstance(s.action, Promote)]
        assert step.message.endswith("cart-0-1 has the newest copy that is left")

    def test_s1_not_before_a_silent_sibling_has_answered_or_is_known_to_have_ended(self) -> None:
        cluster = ended(MEMORY, 2, **STALE).with_node(0, 2, answers=False)
        assert not of_type(cluster, Promote)
        assert "Waiting for cart-0-2" in waits(cluster)
        assert of_type(cluster.with_node(0, 2, refuses=True), Promote)

    def test_s1_no_votes_for_it_while_a_silent_machine_may_go_on(self) -> None:
        cluster = formed(3, 1).with_node(0, 0, answers=False, pong_age=5.2).with_node(0, 1, **STALE)
        assert not of_type(cluster.with_end(0, 0, Ending.TIMED_OUT, 3.0), Promote)
        in_step = cluster.with_node(0, 1, down_seconds=5).with_end(0, 0, Ending.TIMED_OUT, 3.0)
        assert of_type(in_step, Promote)


class TestTwoReplicas:
    def test_s10_an_older_history_that_ended_long_before_is_not_in_the_way(self) -> None:
        cluster = ended(MEMORY, 2).with_node(0, 2, **STALE, history="h0")
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"]

    def test_s10_nor_in_the_way_of_a_fence(self) -> None:
        older = {"up": False, "down_seconds": 1000, "last_io": None, "offset": 5, "history": "h0"}
        assert [a.node.pod for a in of_type(lost(1, 2).with_node(0, 2, **older), Promote)] == ["cart-0-1"]
        assert not of_type(lost(1, 2).with_node(0, 2, history="h0"), Promote)

    def test_s10_who_has_not_heard_of_the_last_promotion_is_older_whenever_its_link_ended(self) -> None:
        """It had been cut off, and was told to follow the successor only when that had gone."""
        cluster = ended(MEMORY, 2, history="h2", previous_history="h1").with_node(0, 0, pong_age=60)
        cluster = cluster.with_node(0, 1, down_seconds=60).with_node(0, 2, up=False, down_seconds=30, history="h1")
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"]
        old = cluster.with_node(0, 2, down_seconds=0).with_node(0, 1, down_seconds=61)
        assert [a.node.pod for a in of_type(old, Promote)] == ["cart-0-1"]

    def test_s10_of_two_histories_that_ended_together_somebody_has_to_choose(self) -> None:
        cluster = ended(MEMORY, 2).with_node(0, 2, up=False, down_seconds=0, history="h0")
        assert not of_type(cluster, Promote)
        [said] = [b.message for b in plan(cluster.snapshot()).blocks]
        assert "what is left of its data is on cart-0-1, cart-0-2, in histories that cannot be compared" in said

    def test_the_rest_on_a_volume_comes_before_any_choice_between_them(self) -> None:
        cluster = ended(LOG, 2, **STALE).with_node(0, 2, **STALE, history="h0")
        assert "cart-0-1, cart-0-2 had fallen behind before its end. Waiting for cart-0-0" in waits(cluster)
        assert not plan(cluster.snapshot()).blocks

    @pytest.mark.parametrize("persistence", [LOG, MEMORY])
    def test_s10_a_silent_link_that_was_given_up_late_does_not_make_a_copy_newer(
        self, persistence: Mapping[str, Any]
    ) -> None:
        """It was up still, as far as its node knew, when the process ended; nothing had come for long."""
        cluster = ended(persistence, 2, down_seconds=2, offset=10).with_node(0, 0, pong_age=20)
        cluster = cluster.with_node(0, 2, up=False, down_seconds=20, offset=1000)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-2"]
        closed = cluster.with_node(0, 0, container=None).with_end(0, 0, Ending.CLOSED, 20.0)
        assert [a.node.pod for a in of_type(closed, Promote)] == ["cart-0-2"]

    def test_s10_nor_does_one_that_saw_the_end_late(self) -> None:
        cluster = ended(MEMORY, 2, container=None, offset=900).with_node(0, 2, up=False, down_seconds=3, offset=1000)
        assert [a.node.pod for a in of_type(cluster.with_end(0, 0, Ending.CLOSED, 3.0), Promote)] == ["cart-0-2"]

    def test_s10_nor_behind_a_fence(self) -> None:
        late = {"up": False, "down_seconds": 7, "last_io": None, "offset": 10}
        cluster = lost(1, 2).with_node(0, 1, **late).with_node(0, 2, last_io=12, offset=1000)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-2"]


class TestProof:
    def test_s1_a_container_that_waited_when_it_was_last_heard_of_may_run_again(self) -> None:
        cluster = formed(1, 1, **LOG).with_node(0, 0, answers=False, container=PAUSED, pong_age=20)
        cluster = cluster.with_node(0, 1, up=False, down_seconds=20)
        assert not of_type(cluster, Promote)
        assert of_type(cluster.with_node(0, 0, refuses=True), Promote)

    def test_s10_a_closed_connection_and_then_a_silent_machine_leave_the_fence_to_prove_it(self) -> None:
        snap = replace(lost(), lost={}).with_end(0, 0, Ending.CLOSED, 60.0).snapshot()
        silent = replace(snap, views={**snap.views, "cart-0-0": Unreachable("no answer", NOW - 60, silent=True)})
        assert not promoted(silent)
        host = replace(snap.hosts["host-a"], ready=False)
        assert promoted(replace(silent, hosts={**snap.hosts, "host-a": host})) == ["cart-0-1"]


class TestQuarantine:
    def back(self, persistence: Mapping[str, Any], down_seconds: int, ended_at: float | None = NOW - 40) -> Cluster:
        """The primary of shard 0 has restarted in its pod, and is closed until it has been compared."""
        container = replace(STARTED, ended_at=ended_at)
        cluster = formed(3, 1, **persistence).with_node(0, 0, quarantined=True, history="h2", container=container)
        return cluster.with_node(0, 1, up=False, down_seconds=down_seconds)

    def test_s5_a_log_has_more_than_a_replica_that_fell_behind_before_the_end(self) -> None:
        assert [a.node.pod for a in of_type(self.back(LOG, 300), Release)] == ["cart-0-0"]
        assert not of_type(self.back(LOG, 300), Promote)

    def test_s5_one_that_was_in_step_has_all(self) -> None:
        assert [a.node.pod for a in of_type(self.back(LOG, 41), Promote)] == ["cart-0-1"]

    def test_s5_an_end_that_nobody_saw_may_have_been_before(self) -> None:
        cluster = self.back(LOG, 300, None).with_node(0, 0, age=1000)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"]

    def test_s5_a_process_has_ended_before_its_pod_was_made_anew(self) -> None:
        cluster = self.back(LOG, 300).with_node(0, 0, container=None, age=40)
        assert [a.node.pod for a in of_type(cluster, Release)] == ["cart-0-0"]

    def test_s5_a_snapshot_may_be_older_than_any_replica(self) -> None:
        assert [a.node.pod for a in of_type(self.back(FILES, 300), Promote)] == ["cart-0-1"]

    def test_no_reason_is_left_unsaid(self) -> None:
        assert Reason.NO_SYNCED_REPLICA in reasons(ended(LOG, **STALE))
