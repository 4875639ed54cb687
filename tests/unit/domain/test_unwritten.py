"""Volumes that take nothing: what is said of it, and logs that may have a gap since."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.api.status import LogGap
from cachecluster.domain.actions import RewriteLog
from cachecluster.domain.nodes import NodeView, Rewrites, Unwritten
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.status import derive
from tests.unit.domain.building import formed
from tests.unit.domain.test_status import condition

LEADER = "cart-0-0"
GAP = LogGap(pod=LEADER, process="run-cart-0-0-0", rewrites=2)
ONE = Rewrites(begun=2)


def seen(mode: str = "AppendOnly", *gaps: LogGap, pod: str = LEADER, spec: Any = None, **view: Any) -> Snapshot:
    """One shard of two, one of whose nodes says this of itself, after a status with these gaps."""
    volume = {} if mode == "None" else {"size": "1Gi"}
    snap = formed(1, 1, persistence={"mode": mode, **volume}, **(spec or {})).snapshot()
    node = snap.views[pod]
    assert isinstance(node, NodeView)
    status = {"logGaps": [g.model_dump(by_alias=True) for g in gaps]}
    return replace(snap, views={**snap.views, pod: replace(node, **view)}, status=status)


def verdicts(snap: Snapshot) -> list[Verdict]:
    """What is done, waited for and held back on account of it."""
    found = plan(snap)
    every: list[Verdict] = [*found.steps, *found.waits, *found.blocks]
    return [v for v in every if v.reason in {Reason.REWRITING_LOG, Reason.VOLUME_NOT_WRITABLE}]


def remembered(snap: Snapshot) -> list[LogGap]:
    """In the status after this pass."""
    return derive(snap, plan(snap)).log_gaps


def test_a_primary_that_cannot_write_its_log_is_reported_as_refusing_writes() -> None:
    snap = seen(unwritten=Unwritten.LOG)
    status = derive(snap, plan(snap))
    assert condition(status, ConditionType.READY) == ("False", Reason.VOLUME_NOT_WRITABLE)
    assert condition(status, ConditionType.DEGRADED) == ("True", Reason.VOLUME_NOT_WRITABLE)
    assert condition(status, ConditionType.STALLED) == ("True", Reason.VOLUME_NOT_WRITABLE)
    assert status.reason == Reason.VOLUME_NOT_WRITABLE
    assert status.message.startswith("cart-0-0 cannot write its log to its volume and refuses writes (MISCONF)")
    assert "raise persistence.size" in status.message


@pytest.mark.parametrize(
    ("mode", "parameters", "ready", "degraded"),
    [
        ("Snapshot", {}, "False", "True"),
        ("Snapshot", {"stop-writes-on-bgsave-error": "no"}, "True", "True"),
        ("AppendOnly", {}, "True", "False"),
        ("None", {}, "True", "False"),
    ],
)
def test_a_snapshot_counts_where_it_is_what_the_spec_asks_for(
    mode: str, parameters: dict[str, Any], ready: str, degraded: str
) -> None:
    snap = seen(mode, unwritten=Unwritten.SNAPSHOT, spec={"parameters": parameters})
    status = derive(snap, plan(snap))
    assert condition(status, ConditionType.READY)[0] == ready
    assert condition(status, ConditionType.DEGRADED)[0] == degraded


def test_a_replica_that_cannot_write_a_snapshot_refuses_nothing() -> None:
    snap = seen("Snapshot", pod="cart-0-1", unwritten=Unwritten.SNAPSHOT)
    status = derive(snap, plan(snap))
    assert condition(status, ConditionType.READY)[0] == "True"
    assert condition(status, ConditionType.DEGRADED) == ("True", Reason.VOLUME_NOT_WRITABLE)
    assert "MISCONF" not in status.message


def test_writes_that_are_refused_count_as_such() -> None:
    node = seen().view(LEADER)
    assert node is not None
    assert node.takes_writes
    assert not replace(node, unwritten=Unwritten.LOG).takes_writes


def test_the_gap_is_remembered_until_the_log_has_been_rewritten() -> None:
    failing = seen(unwritten=Unwritten.LOG, rewrites=ONE)
    assert remembered(failing) == [GAP]
    assert remembered(seen("AppendOnly", GAP, rewrites=ONE)) == [GAP]
    assert remembered(seen("AppendOnly", GAP, rewrites=Rewrites(begun=3, running=True))) == [GAP]
    assert remembered(seen("AppendOnly", GAP, rewrites=Rewrites(begun=3, failed=True))) == [GAP]
    assert remembered(seen("AppendOnly", GAP, rewrites=Rewrites(begun=3))) == []


def test_the_gap_of_another_process_is_none_of_this_one() -> None:
    assert remembered(seen("AppendOnly", GAP, rewrites=ONE, run_id="another")) == []


def test_unknown_is_not_whole() -> None:
    snap = seen("AppendOnly", GAP)
    silent = replace(snap, views={pod: view for pod, view in snap.views.items() if pod != LEADER})
    assert remembered(silent) == [GAP]
    assert verdicts(silent) == []


@pytest.mark.parametrize(
    ("rewrites", "kind"),
    [
        (ONE, Do),
        (Rewrites(begun=2, failed=True), Do),
        (Rewrites(begun=2, running=True), Wait),
        (Rewrites(begun=3, running=True), Wait),
        (Rewrites(begun=3, failed=True), Block),
    ],
)
def test_a_log_with_a_gap_is_rewritten_once(rewrites: Rewrites, kind: type) -> None:
    [verdict] = verdicts(seen("AppendOnly", GAP, rewrites=rewrites))
    assert isinstance(verdict, kind)
    if isinstance(verdict, Do):
        assert isinstance(verdict.action, RewriteLog)
        assert verdict.action.node.pod == LEADER


def test_nothing_is_rewritten_while_the_volume_takes_nothing() -> None:
    [verdict] = verdicts(seen("AppendOnly", GAP, rewrites=ONE, unwritten=Unwritten.LOG))
    assert isinstance(verdict, Block)


def test_nothing_is_rewritten_without_a_gap() -> None:
    assert verdicts(seen(rewrites=ONE)) == []
