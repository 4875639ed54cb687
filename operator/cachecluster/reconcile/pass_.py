"""One level-triggered pass over one cluster: gather, plan, execute, report."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import OnDataLoss
from cachecluster.api.status import CacheClusterStatus, DataLoss, says_the_same
from cachecluster.domain.actions import Configure, Promote, ResizePod, SetUsers
from cachecluster.domain.data_loss import incident_in
from cachecluster.domain.drift import fingerprint
from cachecluster.domain.failovers import promotion_news
from cachecluster.domain.loss_messages import news
from cachecluster.domain.plan import Outcome, Plan
from cachecluster.domain.planner import plan as make_plan
from cachecluster.domain.progress import resharding_before, resharding_news
from cachecluster.domain.snapshot import ClusterRef, InvalidSpec, Snapshot
from cachecluster.domain.status import STALLING, derive
from cachecluster.domain.topology import observe
from cachecluster.reconcile.context import Context
from cachecluster.reconcile.dependencies import Dependencies, Memory
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.events import EventType
from cachecluster.reconcile.executor import NotLeader, execute
from cachecluster.reconcile.gather import Reading, gather
from cachecluster.reconcile.together import Interrupted, unless

log = logging.getLogger(__name__)

AGAIN_SECONDS: Final = 0.05
"""After a pass that did something, the next one looks at what came of it."""
DOUBT_SECONDS: Final = 0.2
NEW_LOOKS: Final = 3
"""Where nodes end one after the other, something has to be done for the first ones at last."""
QUIET: Final = frozenset({Reason.FENCING, Reason.MOVING_SLOTS, Reason.RECORDING_HISTORY, Reason.RECORDING_SLOTS})
"""What comes along with moves of slots, a promotion or a lost replica, of which there is other news."""
BLOCKED_SECONDS: Final = 30.0
"""Most of what ends a block comes with a watch event; the rest is found by looking."""


@dataclass(frozen=True, slots=True)
class PassResult:
    """What the loop needs to know."""

    plan: Plan
    outcomes: tuple[Outcome, ...]
    requeue_seconds: float | None
    """Look again after so long; None: only when something happens, or at the next resync."""
    data_loss: OnDataLoss | None = None
    """A data loss has been found, and this is what the spec says of it."""
    status: Mapping[str, Any] | None = None
    """What the CacheCluster's status says by now; None: this pass had none to write."""

    @property
    def failed(self) -> bool:
        """Some step did not work and the loop backs off. A doubt is no failure: things have moved on. What an
        engine refuses to have set is remembered instead.
        """
        return any(o.error is not None and not (o.doubt or o.refused) for o in self.outcomes)


async def run_pass(ref: ClusterRef, deps: Dependencies, memory: Memory, detector: Detector) -> PassResult:
    """Run one pass; raises Gone, KubeError (the API server did not answer a read) or NotLeader."""
    reading = await _look(ref, deps, memory, detector)
    snap = reading.snapshot
    if reading.passwords is not None:
        detector.follow(snap, reading.passwords.operator)
    plan = make_plan(snap)
    outcomes = await execute(plan, Context(ref, deps, reading.passwords), detector.alarm)
    memory.chronicle = memory.chronicle.after(snap, observe(snap), outcomes, deps.now() - deps.clock())
    _remember_refusals(outcomes, memory, deps.now())
    if not deps.leader():  # it may have stood still, and knows what is true no more
        raise NotLeader
    await _announce(snap, plan, outcomes, deps, memory)
    if snap.finalizer_visible:
        memory.keys_moved += sum(o.keys_moved for o in outcomes)
        status = derive(snap, plan, outcomes, keys_moved=memory.keys_moved, chronicle=memory.chronicle)
        _remember_loss(snap, status.data_loss, memory)
        told = await _report(snap, status, deps)
        if status.resharding != resharding_before(snap):
            memory.keys_moved = 0
        found = await _announce_loss(snap, status.data_loss, deps, memory)
        return PassResult(plan, outcomes, _requeue(plan, outcomes), found, told)
    return PassResult(plan, outcomes, _requeue(plan, outcomes))


async def _look(ref: ClusterRef, deps: Dependencies, memory: Memory, detector: Detector) -> Reading:
    """Read the cluster; from the beginning, and in less time, if a connection to a node ends meanwhile."""
    for _ in range(NEW_LOOKS):
        detector.alarm.clear()
        with contextlib.suppress(Interrupted):
            return await unless(detector.alarm, gather(ref, deps, memory, detector))
    return await gather(ref, deps, memory, detector)


def _remember_refusals(outcomes: Sequence[Outcome], memory: Memory, now: float) -> None:
    for outcome in outcomes:
        action = outcome.step.action
        if outcome.refused and outcome.error is not None and isinstance(action, Configure | SetUsers):
            memory.refusals[action.asked] = (outcome.error, now)
        if outcome.rejected and isinstance(action, ResizePod):
            memory.resize_refusals[action.uid, fingerprint(action.resources)] = now


def _remember_loss(snap: Snapshot, lost: DataLoss | None, memory: Memory) -> None:
    """Before the status is written: that may work without an answer to say so."""
    known = incident_in(snap)
    if lost is not None and lost.state.is_open and (known is None or known.id != lost.incident):
        memory.found_loss = lost.incident


def _requeue(plan: Plan, outcomes: Sequence[Outcome]) -> float | None:
    if any(o.error is not None for o in outcomes):
        return DOUBT_SECONDS
    if plan.steps:
        return AGAIN_SECONDS
    if plan.waits:
        return plan.requeue_seconds
    return BLOCKED_SECONDS if plan.blocks else None


async def _announce(
    snap: Snapshot, plan: Plan, outcomes: Sequence[Outcome], deps: Dependencies, memory: Memory
) -> None:
    """Log and post what was done and what is held back; a warning that stays true is posted once."""
    for outcome in outcomes:
        step = outcome.step
        extra = {"cluster": str(snap.ref), "reason": step.reason.value}
        if outcome.error is None and step.reason in QUIET:
            log.debug(step.message, extra=extra)
        elif outcome.error is None:
            log.info(step.message, extra=extra)
            kind: EventType = "Warning" if step.reason in STALLING else "Normal"
            await deps.events.record(snap.ref, kind, step.reason, step.message)
            if isinstance(step.action, Promote):
                news = promotion_news(outcome, step.action)
                log.info(news, extra={**extra, "reason": Reason.REPLICA_PROMOTED.value})
                await deps.events.record(snap.ref, "Normal", Reason.REPLICA_PROMOTED, news)
        else:
            log.warning("%s: %s", step.message, outcome.error, extra=extra)
    warnings = {(b.reason.value, b.message) for b in plan.blocks}
    for block in plan.blocks:
        if block.reason is Reason.DATA_LOSS:
            continue  # one Event for each incident, whatever becomes of it: see _announce_loss
        if (block.reason.value, block.message) not in memory.announced:
            log.warning(block.message, extra={"cluster": str(snap.ref), "reason": block.reason.value})
            await deps.events.record(snap.ref, "Warning", block.reason, block.message)
    memory.announced = warnings


async def _announce_loss(
    snap: Snapshot, lost: DataLoss | None, deps: Dependencies, memory: Memory
) -> OnDataLoss | None:
    """Tell of an incident once the status does. After a crash between the two the next process tells it: the same words
    are the same Event. Returns what the spec says of it when this process has found it.
    """
    if lost is None or not lost.state.is_open or memory.told_loss == lost.incident:
        return None
    memory.told_loss = lost.incident
    log.warning(news(lost), extra={"cluster": str(snap.ref), "reason": Reason.DATA_LOSS.value})
    await deps.events.record(snap.ref, "Warning", Reason.DATA_LOSS, news(lost))
    if memory.found_loss != lost.incident:
        return None
    return OnDataLoss.WAIT_FOR_APPROVAL if isinstance(snap.spec, InvalidSpec) else snap.spec.on_data_loss


async def _report(snap: Snapshot, status: CacheClusterStatus, deps: Dependencies) -> Mapping[str, Any]:
    """Write the status if it differs from what is there; tell how far a resharding has come. Returns what it says."""
    wanted = status.to_json()
    news = resharding_news(resharding_before(snap), status.resharding)
    if news is not None:
        log.info(news, extra={"cluster": str(snap.ref), "reason": Reason.MOVING_SLOTS.value})
        await deps.events.record(snap.ref, "Normal", Reason.MOVING_SLOTS, news)
    if not says_the_same(wanted, snap.status):
        await deps.kube.patch_status(names.API_VERSION, names.KIND, snap.ref.namespace, snap.ref.name, wanted)
    return wanted
