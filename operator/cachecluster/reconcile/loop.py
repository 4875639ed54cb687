"""The life of one cluster inside the operator: pass after pass, woken by events, never ended by a failure."""

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Promote
from cachecluster.domain.plan import Outcome
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.api import KubeError, Throttled
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile.dependencies import Dependencies, Memory
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.executor import NotLeader
from cachecluster.reconcile.gather import Gone
from cachecluster.reconcile.pass_ import PassResult, run_pass
from cachecluster.reconcile.teardown import tear_down
from cachecluster.reconcile.wake import Wake

log = logging.getLogger(__name__)

Pass = Callable[[ClusterRef, Dependencies, Memory, Detector], Awaitable[PassResult]]
TearDown = Callable[[ClusterRef, Dependencies], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Pace:
    """How often to look, in seconds."""

    resync: float = 300.0
    """Longest time without a look, whatever the watches deliver; shortened at random by up to a fifth."""
    timeout: float = 120.0
    """Bound on one pass."""
    first_retry: float = 1.0
    longest_retry: float = 300.0
    """Between passes that could not be carried through."""
    longest_step_retry: float = 60.0
    """Between passes in which a step failed."""
    patience: float = 10.0
    """Something happened during a long back-off: try again, but no sooner than this after the last failure."""
    busy_passes: int = 50
    """So many passes in a row that all acted are no progress any more, but a fight with another writer."""
    busy_pause: float = 5.0


STEADY: Final = Pace()


async def run(
    ref: ClusterRef,
    deps: Dependencies,
    wake: Wake,
    stop: "asyncio.Future[Any]",
    *,
    metrics: Metrics,
    one_pass: Pass = run_pass,
    pace: Pace = STEADY,
) -> None:
    """Look after one cluster until ``stop`` is done. A pass under way is cancelled then: it may be left anywhere."""
    detecting = Detector(deps.watcher, wake=lambda: wake.set(alarm=True), changed=wake.set, clock=deps.clock)
    async with detecting as detector:
        await _look_again_and_again(_Looker(ref, deps, metrics, one_pass, pace, detector), wake, stop)


async def _look_again_and_again(looker: "_Looker", wake: Wake, stop: "asyncio.Future[Any]") -> None:
    pace = looker.pace
    failures = acted = 0
    while not stop.done():
        failures = 0 if wake.new_spec else failures
        wake.clear()
        result = await _unless_stopped(looker.look(), stop)
        if stop.done():
            return
        if isinstance(result, Failed) or (result is not None and result.failed):
            failures += 1
            longest = pace.longest_retry if isinstance(result, Failed) else pace.longest_step_retry
            seconds = _retry_seconds(failures, longest, pace)
            await _back_off(wake, stop, max(seconds, result.at_least if isinstance(result, Failed) else 0.0), pace)
            continue
        failures = 0
        wake.told(result.status if result is not None else None)
        acted = acted + 1 if result is not None and result.plan.steps else 0
        if acted > pace.busy_passes:
            await _back_off(wake, stop, pace.busy_pause, pace)
        else:
            await wake.wait(stop, _pause_seconds(result, pace))


async def finish(
    ref: ClusterRef,
    deps: Dependencies,
    *,
    leaving: asyncio.Event,
    last_act: TearDown = tear_down,
    pace: Pace = STEADY,
) -> bool:
    """Let go of what garbage collection does not. True: it has worked; False: this process was ``leaving`` before."""
    extra = {"cluster": str(ref)}
    failures = 0
    while not leaving.is_set():
        try:
            async with asyncio.timeout(pace.timeout):
                await last_act(ref, deps)
        except (KubeError, TimeoutError) as error:
            log.warning("teardown failed, trying again: %s", error, extra=extra)
        except Exception:
            # Whatever it is: raising would let the object go with its teardown undone.
            log.exception("teardown failed on an error of the operator itself, trying again", extra=extra)
        else:
            return True
        failures += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_retry_seconds(failures, pace.patience, pace)):
                await leaving.wait()
    return False


@dataclass(frozen=True, slots=True)
class Failed:
    """A pass that ended in an exception."""

    at_least: float = 0.0
    """Seconds that the API server asks us to wait."""


@dataclass(frozen=True, slots=True)
class _Looker:
    """What one cluster's passes have in common."""

    ref: ClusterRef
    deps: Dependencies
    metrics: Metrics
    one_pass: Pass
    pace: Pace
    detector: Detector
    memory: Memory = field(default_factory=Memory)

    async def look(self) -> PassResult | Failed | None:
        """One pass; None if there is nothing to look after (any more). Raises nothing but cancellation."""
        extra = {"cluster": str(self.ref)}
        started = time.monotonic()
        outcome = "error"
        try:
            async with asyncio.timeout(self.pace.timeout):
                result = await self.one_pass(self.ref, self.deps, self.memory, self.detector)
        except asyncio.CancelledError:
            outcome = "stopped"
            raise
        except (Gone, NotLeader) as reason:
            outcome = "gone" if isinstance(reason, Gone) else "not_leader"
            return None
        except TimeoutError:
            outcome = "timeout"
            log.warning("the pass was given up after %.0f s", time.monotonic() - started, extra=extra)
            return Failed()
        except KubeError as error:
            log.warning("the pass could not be carried through: %s", error, extra=extra)
            return Failed(error.retry_after if isinstance(error, Throttled) else 0.0)
        except Exception as bug:
            outcome = "bug"
            log.exception("the pass failed on an error of the operator itself", extra=extra)
            await self._report(bug)
            return Failed()
        else:
            outcome = "step_failed" if result.failed else "ok"
            self._count(result)
            return result
        finally:
            self.metrics.passed(outcome, time.monotonic() - started)

    def _count(self, result: PassResult) -> None:
        if result.data_loss is not None:
            self.metrics.data_loss(result.data_loss.value)
        for done in result.outcomes:
            state = _state(done)
            action = done.step.action
            self.metrics.action(type(action).__name__, state, done.step.reason.value)
            if isinstance(action, Promote) and done.error is None:
                since = action.lost.since
                seen = None if since is None else done.began - since
                self.metrics.failover(action.lost.cause.value, action.kind.value, seen, done.ended - done.began)

    async def _report(self, bug: Exception) -> None:
        """Tell the user that it is not their fault. An unknown error's text may quote anything: not for an Event."""
        message = f"The operator failed on an error of its own ({type(bug).__name__}); its log has the details."
        with contextlib.suppress(Exception):
            await self.deps.events.record(self.ref, "Warning", Reason.INTERNAL_ERROR, message)


def _state(done: Outcome) -> str:
    if done.error is None:
        return "ok"
    return "rejected" if done.rejected or done.refused else "doubt" if done.doubt else "failed"


async def _unless_stopped(
    coroutine: Coroutine[None, None, PassResult | Failed | None], stop: "asyncio.Future[Any]"
) -> PassResult | Failed | None:
    """Run it; cancel it, and wait until it has ended, when it is time to stop."""
    task = asyncio.ensure_future(coroutine)
    try:
        await asyncio.wait([stop, task], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return None if task.cancelled() else task.result()


async def _back_off(wake: Wake, stop: "asyncio.Future[Any]", seconds: float, pace: Pace) -> None:
    """Wait; a new spec or an alarm ends it at once, any other event only after ``patience``."""
    deaf = min(seconds, pace.patience)
    await wake.wait(stop, deaf, only_urgent=True)
    if not wake.urgent and seconds > deaf:
        await wake.wait(stop, seconds - deaf)


def _retry_seconds(failures: int, longest: float, pace: Pace) -> float:
    """Doubling, with up to a quarter of jitter."""
    return min(longest, pace.first_retry * 2.0 ** min(failures - 1, 20)) * random.uniform(0.75, 1.0)  # noqa: S311


def _pause_seconds(result: PassResult | None, pace: Pace) -> float:
    resync = pace.resync * random.uniform(0.8, 1.0)  # noqa: S311 - spreads load, guards nothing
    hint = result.requeue_seconds if result is not None else None
    return min(resync, hint) if hint is not None else resync
