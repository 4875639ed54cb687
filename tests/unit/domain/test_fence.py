"""When primaries of few shards ask for a replica, when they must not, and what follows from it once one is lost."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.durability import DurabilityMode
from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain import durability, fence
from cachecluster.domain.actions import (
    Configure,
    FailoverKind,
    LowerFence,
    Promote,
    RaiseFence,
    RollPod,
    SwitchOver,
)
from cachecluster.domain.drift import key_of
from cachecluster.domain.loss import EXPIRY_SECONDS
from cachecluster.domain.nodes import Ending, Role, Unreachable
from cachecluster.domain.plan import Plan
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import ALL_SLOTS, share
from cachecluster.domain.snapshot import InvalidSpec
from cachecluster.manifests.config import live_config_map
from tests.unit.domain.building import REF, Cluster, as_live, formed
from tests.unit.domain.deciding import of_type

UP = {**dict(fence.RAISED), fence.TIMEOUT: "15000"}
DOWN = {**dict(fence.LOWERED), fence.TIMEOUT: "15000"}
RECORD = "0-h1 3 Default"
SHAPES = [(1, 1), (2, 1), (1, 2)]
ON: Mapping[str, Any] = {"durability": {"mode": "AtLeastOneReplica"}}


def few(shards: int = 1, replicas: int = 1, *, up: bool = True, **more: Any) -> Cluster:
    """A healthy cluster; ``up``: with its fences raised."""
    cluster = formed(shards, replicas, **more)
    for shard in range(shards):
        for ordinal in range(replicas + 1):
            cluster = cluster.with_node(shard, ordinal, parameters=DOWN)
        mode = "AtLeastOneReplica" if "durability" in more else "Default"
        cluster = raised(cluster, shard, mode) if up else cluster.with_node(shard, 0, replica_lag=0)
    return cluster


def raised(cluster: Cluster, shard: int, mode: str = "Default") -> Cluster:
    """With the fence of one shard up: a replica reports, and it is written down."""
    return cluster.with_node(shard, 0, replica_lag=0, parameters=UP, fence=f"{shard}-h1 3 {mode}")


def lost(shards: int = 1, replicas: int = 1, *, last_io: int = EXPIRY_SECONDS, **more: Any) -> Cluster:
    """The machine of shard 0's primary has been silent for a while."""
    cluster = few(shards, replicas, **more).with_node(0, 0, answers=False, pong_age=8)
    for ordinal in range(1, replicas + 1):
        cluster = cluster.with_node(0, ordinal, last_io=last_io)
    return cluster.with_end(0, 0, Ending.TIMED_OUT, 5.0)


def pods(p: Plan, kind: type[RaiseFence | LowerFence]) -> list[str]:
    """Whose fence is raised, or lowered."""
    return [s.action.node.pod for s in p.steps if isinstance(s.action, kind)]


class TestRaising:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_primaries_of_few_shards_ask_for_a_replica_once_it_reports(self, shape: tuple[int, int]) -> None:
        p = plan(few(*shape, up=False).snapshot())
        assert pods(p, RaiseFence) == [f"cart-{shard}-0" for shard in range(shape[0])]
        [action, *_] = [s.action for s in p.steps if isinstance(s.action, RaiseFence)]
        assert (action.history, action.record) == ("0-h1", RECORD)
        assert plan(few(*shape).snapshot()).converged

    @pytest.mark.parametrize("lag", [None, 2])
    def test_not_while_none_reports_which_is_looked_at_again(self, lag: int | None) -> None:
        p = plan(few(up=False).with_node(0, 0, replica_lag=lag).snapshot())
        assert not pods(p, RaiseFence)
        assert [w.reason for w in p.waits] == [Reason.FENCING]

    @pytest.mark.parametrize(
        "changes", [{"up": False, "down_seconds": 1}, {"answers": False}, {"deleting": True}, {"host": "cordoned"}]
    )
    def test_not_for_the_sake_of_a_replica_that_is_about_to_go(self, changes: dict[str, Any]) -> None:
        cluster = replace(few(up=False), cordoned=frozenset({"cordoned"})).with_node(0, 1, **changes)
        assert not pods(plan(cluster.snapshot()), RaiseFence)

    def test_not_where_the_others_can_elect(self) -> None:
        p = plan(few(3, up=False).snapshot())
        assert not pods(p, RaiseFence)
        [action] = [s.action for s in p.steps if isinstance(s.action, Configure)]
        assert (len(action.nodes), action.parameters) == (6, ((fence.TIMEOUT, "5000"),))

    def test_it_is_lowered_again_where_there_are_enough_shards(self) -> None:
        assert pods(plan(few(3).snapshot()), LowerFence) == ["cart-0-0", "cart-1-0", "cart-2-0"]

    def test_what_is_written_down_is_of_this_very_process(self) -> None:
        other = few().with_node(0, 0, fence="0-earlier 3 Default")
        assert pods(plan(other.snapshot()), RaiseFence) == ["cart-0-0"]
        assert pods(plan(few().with_node(0, 0, parameters=DOWN).snapshot()), RaiseFence) == ["cart-0-0"]

    def test_nodes_give_each_other_more_time(self) -> None:
        cluster = few().with_node(0, 1, parameters={**DOWN, fence.TIMEOUT: "5000"})
        [action] = [s.action for s in plan(cluster.snapshot()).steps if isinstance(s.action, Configure)]
        assert ([t.pod for t in action.nodes], action.parameters) == (["cart-0-1"], ((fence.TIMEOUT, "15000"),))

    def test_a_shard_that_never_had_replicas_is_left_as_it_is(self) -> None:
        cluster = few(1, 0, up=False).with_node(0, 0, replica_lag=None, parameters={**DOWN, fence.TIMEOUT: "5000"})
        assert plan(cluster.snapshot()).converged


class TestLowering:
    @pytest.mark.parametrize("changes", [{"replica_lag": None}, {"replica_lag": 3}, {"good_replicas": 0}])
    def test_a_primary_that_can_be_reached_goes_on_without_a_replica(self, changes: dict[str, Any]) -> None:
        assert pods(plan(few().with_node(0, 0, **changes).snapshot()), LowerFence) == ["cart-0-0"]

    def test_the_other_replica_is_enough(self) -> None:
        assert not pods(plan(few(1, 2).with_node(0, 1, answers=False).snapshot()), LowerFence)

    def test_also_while_the_spec_is_invalid(self) -> None:
        alone = few().with_node(0, 0, replica_lag=None)
        snap = replace(alone.snapshot(), spec=InvalidSpec("no"))
        assert pods(plan(snap), LowerFence) == ["cart-0-0"]
        users = alone.with_node(0, 0, fence="0-h1 3 AtLeastOneReplica").snapshot()
        assert not pods(plan(replace(users, spec=InvalidSpec("no"))), LowerFence)

    def test_not_while_paused(self) -> None:
        snap = few().with_node(0, 0, replica_lag=None).snapshot()
        assert not plan(replace(snap, spec=snap.spec.model_copy(update={"paused": True}))).steps  # type: ignore[union-attr]

    def test_before_the_only_replica_is_replaced(self) -> None:
        cluster = replace(few(), update="rev-t2", template="t2")
        [lower, roll] = plan(cluster.snapshot()).steps
        assert isinstance(lower.action, LowerFence)
        assert isinstance(roll.action, RollPod)
        one_of_two = replace(few(1, 2), update="rev-t2", template="t2")
        assert not pods(plan(one_of_two.snapshot()), LowerFence)

    def test_before_the_role_is_handed_over(self) -> None:
        cluster = replace(few(), update="rev-t2", template="t2").with_node(0, 1, revision="rev-t2")
        [lower, switch] = plan(cluster.snapshot()).steps
        assert isinstance(lower.action, LowerFence)
        assert isinstance(switch.action, SwitchOver)

    def test_a_former_primary_asks_for_nobody(self) -> None:
        cluster = few().with_node(0, 1, parameters=UP, fence="0-earlier 3 Default")
        assert pods(plan(cluster.snapshot()), LowerFence) == ["cart-0-1"]


class TestReplaced:
    """A replica has been told to lead in its place."""

    NOTE = fence.replaced(RECORD)

    def test_s10_a_primary_that_has_not_heard_of_its_successor_goes_on_refusing_writes(self) -> None:
        leading = {"role": Role.PRIMARY, "follows": None, "slots": ALL_SLOTS, "epoch": 5, "replica_lag": 0}
        both = few().with_node(0, 1, **leading)
        assert pods(plan(both.snapshot()), LowerFence) == []
        assert pods(plan(both.with_node(0, 0, fence=self.NOTE).snapshot()), LowerFence) == []

    def test_s10_one_that_has_come_back_and_has_not_heard_of_it_is_told_to_ask_for_a_replica(self) -> None:
        leading = {"role": Role.PRIMARY, "follows": None, "slots": ALL_SLOTS, "epoch": 5, "replica_lag": None}
        both = few().with_node(0, 1, **leading).with_node(0, 0, parameters=DOWN)
        assert [a.parameters for a in of_type(both, Configure) if a.nodes[0].pod == "cart-0-0"] == [fence.OUTDATED]
        outdated = {**DOWN, **dict(fence.OUTDATED)}
        assert not of_type(both.with_node(0, 0, parameters=outdated), Configure)

    def test_s10_an_edit_of_the_spec_does_not_take_that_back(self) -> None:
        leading = {"role": Role.PRIMARY, "follows": None, "slots": ALL_SLOTS, "epoch": 5, "replica_lag": None}
        outdated = {**DOWN, **dict(fence.OUTDATED)}
        both = few(1, 2, **ON).with_node(0, 1, **leading).with_node(0, 0, parameters=outdated)
        snap = both.snapshot()
        live = live_config_map(both.spec, REF, durability.NAMES)
        annotations = {names.ANNOTATION_LIVE_NAMES: " ".join(sorted(durability.NAMES))}
        stored = as_live({**live, "metadata": {**live["metadata"], "annotations": annotations}})
        snap = replace(snap, desired=(live, *snap.desired), children={**snap.children, key_of(stored): stored})
        told = [s.action for s in plan(snap).steps if isinstance(s.action, Configure)]
        assert all(node.pod != "cart-0-0" for action in told for node in action.nodes), told

    def test_s10_so_is_one_whose_successor_does_not_answer_but_is_known_to_others(self) -> None:
        leading = {"role": Role.PRIMARY, "follows": None, "epoch": 9, "answers": False}
        both = few(2).with_node(0, 1, **leading, slots=share(2)[0]).with_node(0, 0, parameters=DOWN)
        assert [a.parameters for a in of_type(both, Configure) if a.nodes[0].pod == "cart-0-0"] == [fence.OUTDATED]

    def test_s10_one_that_was_replaced_when_it_started_stays_so_while_the_successor_cannot_be_asked(self) -> None:
        outdated = {"parameters": {**DOWN, **dict(fence.OUTDATED)}, "replica_lag": None, "good_replicas": 0}
        both = few().with_node(0, 0, **outdated, fence="")
        alone = both.with_node(0, 1, answers=False)
        assert not pods(plan(alone.snapshot()), LowerFence)
        [said] = [b.message for b in plan(alone.snapshot()).blocks if b.reason is Reason.WRITES_REFUSED]
        assert "cart-0-1 may come back with it" in said
        lost_too = both.with_node(0, 1, role=Role.PRIMARY, follows=None, keys=0)
        assert pods(plan(lost_too.snapshot()), LowerFence) == ["cart-0-0"], "there is nobody left with newer data"
        assert pods(plan(both.snapshot()), LowerFence) == ["cart-0-0"], "the other one follows it"

    def test_s10_nor_is_it_lowered_while_the_successor_cannot_be_asked(self) -> None:
        alone = few().with_node(0, 0, fence=self.NOTE, replica_lag=None).with_node(0, 1, answers=False)
        assert not pods(plan(alone.snapshot()), LowerFence)
        assert not pods(plan(alone.with_node(0, 0, replica_lag=0).snapshot()), RaiseFence)
        assert not pods(plan(alone.with_node(0, 1, refuses=True).snapshot()), LowerFence), "it may have a volume"

    def test_s10_who_was_not_promoted_after_all_follows_it(self) -> None:
        back = few().with_node(0, 0, fence=self.NOTE)
        assert pods(plan(back.snapshot()), RaiseFence) == ["cart-0-0"]
        assert pods(plan(back.with_node(0, 0, replica_lag=None).snapshot()), LowerFence) == ["cart-0-0"]

    def test_s10_its_fence_is_still_proof(self) -> None:
        [promote] = of_type(lost().with_node(0, 0, fence=self.NOTE), Promote)
        assert promote.lost.fence == self.NOTE


class TestMode:
    def test_what_the_user_asked_for_is_written_down_and_never_lowered(self) -> None:
        raised = {fence.TIMEOUT: "15000", **dict(fence.RAISED)}
        cluster = few(1, 2, **ON)
        for ordinal in (1, 2):
            cluster = cluster.with_node(0, ordinal, parameters=raised)
        assert plan(cluster.snapshot()).converged
        assert pods(plan(cluster.with_node(0, 0, fence=RECORD).snapshot()), RaiseFence) == ["cart-0-0"]
        alone = cluster.with_node(0, 0, replica_lag=None, good_replicas=0)
        for ordinal in (1, 2):
            alone = alone.with_node(0, ordinal, answers=False)
        assert not pods(plan(alone.snapshot()), LowerFence)

    def test_a_replica_of_it_is_only_crossed_out(self) -> None:
        cluster = few(1, 2, **ON).with_node(0, 1, parameters=UP, fence="0-earlier 3 AtLeastOneReplica")
        [action] = [s.action for s in plan(cluster.snapshot()).steps if isinstance(s.action, LowerFence)]
        assert (action.node.pod, action.parameters) == ("cart-0-1", ())


class TestExpiry:
    NEVER: Mapping[str, Any] = MappingProxyType({"up": False, "down_seconds": -1, "last_io": None})

    @pytest.mark.parametrize("shape", SHAPES)
    def test_s10_a_silent_primary_whose_fence_has_expired_is_taken_over(self, shape: tuple[int, int]) -> None:
        [promote] = of_type(lost(*shape), Promote)
        assert (promote.kind, promote.lost.cause) == (FailoverKind.TAKEOVER, FailoverCause.FENCE_EXPIRED)
        assert (promote.lost.pod, promote.lost.fence) == ("cart-0-0", RECORD)

    def test_s10_both_of_two(self) -> None:
        cluster = lost(2).with_node(1, 0, answers=False).with_node(1, 1, last_io=EXPIRY_SECONDS)
        assert len(of_type(cluster.with_end(1, 0, Ending.TIMED_OUT, 5.0), Promote)) == 2

    def test_s10_not_before_it_has_expired(self) -> None:
        cluster = lost(last_io=EXPIRY_SECONDS - 1)
        assert not of_type(cluster, Promote)
        assert min(w.seconds for w in plan(cluster.snapshot()).waits) <= 0.2

    @pytest.mark.parametrize("text", ["", "raising " + RECORD, "0-h0 3 Default", "0-h1 10 Default", "0-h1 x Default"])
    def test_s10_not_if_it_was_never_up_or_of_another_process(self, text: str) -> None:
        assert not of_type(lost().with_node(0, 0, fence=text), Promote)

    def test_s10_every_replica_must_have_lost_it(self) -> None:
        assert not of_type(lost(1, 2).with_node(0, 2, last_io=EXPIRY_SECONDS - 1), Promote)
        assert not of_type(lost(1, 2).with_node(0, 2, answers=False), Promote)
        assert of_type(lost(1, 2).with_node(0, 2, up=False, down_seconds=EXPIRY_SECONDS), Promote)

    def test_s10_nor_if_one_that_nobody_knows_yet_as_its_replica_does_not_answer(self) -> None:
        cluster = lost(1, 2).with_node(0, 2, answers=False, hidden=True)
        assert not of_type(cluster, Promote)
        assert of_type(cluster.with_node(0, 2, refuses=True), Promote)

    def test_s10_nor_if_one_that_it_has_replaced_may_hear_so_any_moment_and_report_to_it(self) -> None:
        former = {"role": Role.PRIMARY, "follows": None, "slots": ALL_SLOTS, "epoch": 0}
        assert not of_type(lost(1, 2).with_node(0, 2, **former), Promote)

    def test_s10_an_heir_must_be_heard_by_those_that_would_follow_it(self) -> None:
        """They would go on reporting to the old primary, should that come back."""
        assert not of_type(lost(1, 2).with_node(0, 1, pong_age=3), Promote)
        assert of_type(lost(1, 2).with_node(0, 1, pong_age=1), Promote)

    def test_s10_a_replica_that_has_never_been_in_step_has_never_reported(self) -> None:
        [promote] = of_type(lost(1, 2).with_node(0, 1, **self.NEVER), Promote)
        assert promote.node.pod == "cart-0-2"

    def test_s10_but_may_begin_to_if_it_is_syncing_or_has_heard_the_primary_of_late(self) -> None:
        cluster = lost(1, 2).with_node(0, 1, **self.NEVER)
        assert not of_type(cluster.with_node(0, 1, syncing=True), Promote)
        assert not of_type(cluster.with_node(0, 0, pong_age=EXPIRY_SECONDS - 0.1), Promote)

    def test_s1_an_operator_that_is_cut_off_itself_promotes_nobody(self) -> None:
        cluster = lost(2).with_node(1, 0, answers=False).with_node(1, 1, answers=False)
        assert not of_type(cluster, Promote)

    @pytest.mark.parametrize("ending", [None, Ending.CLOSED])
    def test_s10_a_process_that_is_busy_or_hangs_would_not_know_of_the_time(self, ending: Ending | None) -> None:
        cluster = replace(lost(), lost={})
        if ending is not None:
            cluster = cluster.with_end(0, 0, ending, 5.0)
        assert not of_type(cluster, Promote)

    def test_s1_not_if_its_machine_says_that_nobody_listens(self) -> None:
        assert not of_type(lost().with_node(0, 0, refuses=True), Promote)

    def test_s10_an_operator_that_comes_later_hears_of_the_silence_from_the_api_server(self) -> None:
        snap = replace(lost(), lost={}).snapshot()
        view = Unreachable("no answer", 0.0, silent=True)
        hosts = {name: replace(h, ready=name != "host-a") for name, h in snap.hosts.items()}
        later = replace(snap, views={**snap.views, "cart-0-0": view})
        assert not any(isinstance(s.action, Promote) for s in plan(later).steps)
        assert any(isinstance(s.action, Promote) for s in plan(replace(later, hosts=hosts)).steps)


def test_what_is_written_down_reads_as_it_was() -> None:
    record = fence.Record("abc", 3, DurabilityMode.DEFAULT)
    assert fence.Record.parse(str(record)) == record
    assert fence.Record.parse(fence.intention(str(record))) is None
    assert fence.Record.parse(fence.replaced(str(record))) == replace(record, replaced=True)
    assert not fence.is_replaced(str(record))
    assert fence.Record.parse(f"{record} else") is None


def test_it_has_a_reason_of_its_own() -> None:
    assert {s.reason for s in plan(few(up=False).snapshot()).steps} == {Reason.FENCING}
