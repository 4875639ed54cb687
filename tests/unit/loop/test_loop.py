"""One cluster's task: what starts a pass, what ends a pause, and that nothing ends the task but being stopped."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest

from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain.actions import CreateSystemSecret, FailoverKind, Promote, Target
from cachecluster.domain.loss import Lost
from cachecluster.domain.nodes import Ending, LostConnection, NodeId
from cachecluster.domain.plan import Do, Outcome, Plan
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.api import Throttled, Unavailable
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile import loop
from cachecluster.reconcile.dependencies import Dependencies, Memory
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.executor import NotLeader
from cachecluster.reconcile.gather import Gone
from cachecluster.reconcile.loop import Pace
from cachecluster.reconcile.pass_ import PassResult
from cachecluster.reconcile.wake import Wake
from tests.dependencies import dependencies

CART = ClusterRef("shop", "cart", "uid-1")
STEP = Do(CreateSystemSecret("cart-system"), Reason.CREATING_OBJECTS, "creating")
IDLE = PassResult(Plan(), (), None)
ACTED = PassResult(Plan(steps=(STEP,)), (Outcome(STEP, None),), 0.0)
STEP_FAILED = PassResult(Plan(steps=(STEP,)), (Outcome(STEP, "no"),), 1.0)

LONG = 3600.0
QUIET = Pace(resync=LONG, timeout=LONG, first_retry=LONG, longest_retry=LONG, longest_step_retry=LONG, patience=LONG)
"""Nothing happens by itself."""


@dataclass
class Recorder:
    events: list[tuple[str, Reason, str]] = field(default_factory=list)

    async def record(self, ref: ClusterRef, type_: Literal["Normal", "Warning"], reason: Reason, message: str) -> None:
        assert ref == CART
        self.events.append((type_, reason, message))


class Cluster:
    """Runs the loop over a scripted pass and tells when passes begin."""

    def __init__(self, *script: PassResult | Exception, pace: Pace = QUIET) -> None:
        self.script = list(script)
        self.pace = pace
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.count = 0
        self.cancelled = 0
        self.block: asyncio.Event | None = None
        self.wake = Wake()
        self.metrics = Metrics()
        self.recorder = Recorder()
        self.stop: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None

    async def one_pass(self, ref: ClusterRef, deps: Dependencies, memory: Memory, detector: Detector) -> PassResult:
        assert ref == CART
        self.count += 1
        self.begun.put_nowait(self.count)
        if self.block is not None:
            try:
                await self.block.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        result = self.script.pop(0) if self.script else IDLE
        if isinstance(result, Exception):
            raise result
        return result

    def counted(self, sample: str) -> bool:
        return sample in self.metrics.render().decode().splitlines()

    async def passes(self, count: int) -> None:
        """Wait until so many have begun."""
        while await self.begun.get() < count:
            pass

    async def rests(self) -> None:
        """No further pass begins, however often the event loop turns."""
        before = self.count
        for _ in range(50):
            await asyncio.sleep(0)
        assert self.count == before


@asynccontextmanager
async def running(cluster: Cluster) -> AsyncIterator[Cluster]:
    cluster.task = asyncio.create_task(
        loop.run(
            CART,
            dependencies(events=cluster.recorder),
            cluster.wake,
            cluster.stop,
            metrics=cluster.metrics,
            one_pass=cluster.one_pass,
            pace=cluster.pace,
        )
    )
    try:
        async with asyncio.timeout(20):
            yield cluster
            if not cluster.stop.done():
                cluster.stop.set_result(None)
            await cluster.task
    finally:
        cluster.task.cancel()


async def test_a_promotion_that_was_done_is_counted_with_how_long_it_took() -> None:
    connection = LostConnection("cart-0-0", "uid", "10.0.0.1", None, Ending.CLOSED, at=100.0, seconds=0.2)
    lost = Lost(NodeId("a"), FailoverCause.PROCESS_ENDED, "ended", "cart-0-0", "10.0.0.1", connection)
    heir = Target("cart-0-1", "uid-1", "10.0.0.2", NodeId("b"), 0)
    step = Do(Promote(0, heir, FailoverKind.FORCE, lost), Reason.PRIMARY_LOST, "promoting")
    done = PassResult(Plan(steps=(step,)), (Outcome(step, None, began=100.2, ended=100.26),), None)
    vain = PassResult(Plan(steps=(step,)), (Outcome(step, "no votes", began=100.2, ended=100.26),), None)
    async with running(Cluster(done, vain)) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.set()
        await cluster.passes(2)
        await cluster.rests()
        assert cluster.counted('cachecluster_failovers_total{cause="ProcessEnded",kind="Force"} 1.0')
        assert cluster.counted('cachecluster_failover_detection_seconds_bucket{le="0.25"} 1.0')
        assert cluster.counted("cachecluster_failover_promotion_seconds_count 1.0")


async def test_the_first_pass_begins_at_once_and_then_it_rests() -> None:
    async with running(Cluster()) as cluster:
        await cluster.passes(1)
        await cluster.rests()


async def test_a_status_that_somebody_else_has_written_begins_a_pass() -> None:
    """As a former leader does that had stood still: what it writes late is corrected at once."""
    ours, late = {"message": "ours"}, {"message": "of before"}
    async with running(Cluster(replace(IDLE, status=ours), replace(IDLE, status=ours))) as cluster:
        cluster.wake.status_changed(late)
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.status_changed(ours)
        await cluster.rests()
        cluster.wake.status_changed(late)
        await cluster.passes(2)
        await cluster.rests()


@pytest.mark.parametrize("result", [IDLE, NotLeader()])
async def test_who_has_written_none_does_not_care_what_it_says(result: PassResult | Exception) -> None:
    async with running(Cluster(result)) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.status_changed({"message": "another's"})
        await cluster.rests()


async def test_a_wake_up_begins_a_pass() -> None:
    async with running(Cluster()) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.set()
        await cluster.passes(2)
        await cluster.rests()


async def test_wake_ups_during_a_pass_are_one_more_pass() -> None:
    cluster = Cluster()
    cluster.block = asyncio.Event()
    async with running(cluster):
        await cluster.passes(1)
        for _ in range(10):
            cluster.wake.set()
        cluster.block.set()
        await cluster.passes(2)
        await cluster.rests()


async def test_a_hint_begins_the_next_pass_in_its_time() -> None:
    async with running(Cluster(replace(IDLE, requeue_seconds=0.01))) as cluster:
        await cluster.passes(2)
        await cluster.rests()


async def test_without_any_event_the_resync_looks_again() -> None:
    async with running(Cluster(pace=replace(QUIET, resync=0.01))) as cluster:
        await cluster.passes(3)


@pytest.mark.parametrize("failure", [Unavailable("away"), RuntimeError("bug"), TimeoutError(), STEP_FAILED])
async def test_a_failed_pass_is_repeated_after_a_pause(failure: PassResult | Exception) -> None:
    pace = replace(QUIET, first_retry=0.01)
    async with running(Cluster(failure, failure, pace=pace)) as cluster:
        await cluster.passes(3)
        await cluster.rests()


async def test_a_throttled_pass_waits_as_long_as_the_api_server_asks() -> None:
    pace = replace(QUIET, first_retry=0.001)
    async with running(Cluster(Throttled("too many requests", retry_after=LONG), pace=pace)) as cluster:
        await cluster.passes(1)
        await asyncio.sleep(0.05)  # far longer than the pause without the server's wish
        await cluster.rests()


@pytest.mark.parametrize("failure", [Unavailable("away"), STEP_FAILED])
async def test_ordinary_events_do_not_cut_a_back_off_short(failure: PassResult | Exception) -> None:
    async with running(Cluster(failure)) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.set()
        await cluster.rests()


async def test_after_some_patience_an_event_ends_a_long_back_off() -> None:
    async with running(Cluster(Unavailable("away"), pace=replace(QUIET, patience=0.01))) as cluster:
        await cluster.passes(1)
        cluster.wake.set()
        await cluster.passes(2)


@pytest.mark.parametrize("cause", [{"new_spec": True}, {"alarm": True}], ids=str)
async def test_a_new_spec_or_an_alarm_ends_a_back_off_at_once(cause: dict[str, bool]) -> None:
    async with running(Cluster(Unavailable("away"))) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.set(**cause)
        await cluster.passes(2)


async def test_an_event_before_the_new_spec_does_not_hide_it() -> None:
    async with running(Cluster(Unavailable("away"))) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.set()
        cluster.wake.set(new_spec=True)
        await cluster.passes(2)


@pytest.mark.parametrize("news", [Gone("cart"), NotLeader()])
async def test_nothing_to_look_after_is_no_failure(news: Exception) -> None:
    async with running(Cluster(news)) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        cluster.wake.set()
        await cluster.passes(2)


async def test_s13_a_wedged_pass_is_given_up() -> None:
    cluster = Cluster(pace=replace(QUIET, timeout=0.02, first_retry=0.01))
    cluster.block = asyncio.Event()
    async with running(cluster):
        await cluster.passes(2)
        assert cluster.counted('cachecluster_passes_total{result="timeout"} 1.0')


async def test_s13_a_wedged_cluster_does_not_hold_up_another() -> None:
    wedged, healthy = Cluster(), Cluster()
    wedged.block = asyncio.Event()
    async with running(wedged), running(healthy):
        await wedged.passes(1)
        for count in range(1, 20):
            await healthy.passes(count)
            healthy.wake.set()
        assert wedged.count == 1


async def test_an_error_of_the_operator_is_told_without_its_text() -> None:
    async with running(Cluster(RuntimeError("password=hunter2"))) as cluster:
        await cluster.passes(1)
        await cluster.rests()
        ((type_, reason, message),) = cluster.recorder.events
        assert (type_, reason) == ("Warning", Reason.INTERNAL_ERROR)
        assert "RuntimeError" in message
        assert "hunter2" not in message
        assert cluster.counted('cachecluster_passes_total{result="bug"} 1.0')


async def test_a_fight_with_another_writer_is_slowed_down() -> None:
    cluster = Cluster(*[ACTED] * 20, pace=replace(QUIET, busy_passes=5, busy_pause=LONG))
    async with running(cluster):
        await cluster.passes(6)
        await cluster.rests()
        assert cluster.counted(
            'cachecluster_actions_total{action="CreateSystemSecret",outcome="ok",reason="CreatingObjects"} 6.0'
        )


async def test_being_stopped_cancels_the_pass_and_ends() -> None:
    cluster = Cluster()
    cluster.block = asyncio.Event()
    async with running(cluster):
        await cluster.passes(1)
        cluster.stop.set_result(None)
        assert cluster.task is not None
        await cluster.task
        assert cluster.cancelled == 1


async def test_being_stopped_ends_a_pause() -> None:
    async with running(Cluster(Unavailable("away"))) as cluster:
        await cluster.passes(1)
        await cluster.rests()


def test_back_off_doubles_up_to_its_bound() -> None:
    pace = Pace()
    spans = [loop._retry_seconds(n, 300.0, pace) for n in range(1, 40)]
    assert 0.75 <= spans[0] <= 1.0
    assert 1.5 <= spans[1] <= 2.0
    assert max(spans) <= 300.0
    assert min(spans[9:]) >= 225.0


class LastAct:
    """Fails so often, then works."""

    def __init__(self, failures: int, error: Exception | None = None) -> None:
        self.left = failures
        self.error = error or Unavailable("away")
        self.done = asyncio.Event()
        self.tried = asyncio.Event()

    async def __call__(self, ref: ClusterRef, deps: Dependencies) -> None:
        self.tried.set()
        if self.left:
            self.left -= 1
            raise self.error
        self.done.set()


@pytest.mark.parametrize("error", [Unavailable("away"), TimeoutError(), RuntimeError("bug")])
async def test_teardown_is_repeated_until_it_works(error: Exception) -> None:
    act = LastAct(3, error)
    pace = Pace(first_retry=0.001, patience=0.01)
    assert await loop.finish(CART, dependencies(events=Recorder()), leaving=asyncio.Event(), last_act=act, pace=pace)
    assert act.done.is_set()


async def test_a_process_that_leaves_does_not_wait_for_teardown() -> None:
    act, leaving = LastAct(10**6), asyncio.Event()
    pace = Pace(first_retry=LONG, patience=LONG)
    task = asyncio.ensure_future(
        loop.finish(CART, dependencies(events=Recorder()), leaving=leaving, last_act=act, pace=pace)
    )
    await act.tried.wait()
    leaving.set()
    assert not await asyncio.wait_for(task, 20)
    assert not act.done.is_set()
