"""Carry out a plan: every precondition is checked again right before its action, and the first doubt ends the pass."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, assert_never

from cachecluster.domain.actions import (
    Action,
    AdoptRevision,
    Apply,
    AssignSlots,
    Configure,
    CreateSystemSecret,
    Delete,
    DetachPods,
    EndPod,
    ExpandVolume,
    Forget,
    FreePod,
    LabelRole,
    LowerFence,
    Meet,
    MovePod,
    MoveSlots,
    Promote,
    RaiseFence,
    Release,
    RemoveReplicas,
    Replicate,
    Reset,
    ResizePod,
    RestoreMetadata,
    RewriteLog,
    RollPod,
    SettleShard,
    SettleSlots,
    SetUsers,
    SwitchOver,
)
from cachecluster.domain.plan import Do, Outcome, Plan, Promotion
from cachecluster.engines.client import NodeError, NodeRefused
from cachecluster.kube.api import KubeError, Rejected
from cachecluster.reconcile import fences, lost_hosts, node_actions, object_actions, slot_moves
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.together import Interrupted, together, unless


class NotLeader(Exception):
    """This process may not act any more."""


GIVES_WAY: Final = (MoveSlots, SwitchOver)
"""What may take seconds, can be left anywhere, and must not hold up the replacement of a lost primary."""


async def execute(plan: Plan, context: Context, alarm: asyncio.Event) -> tuple[Outcome, ...]:
    """Carry the steps out in order, neighbours of one kind at once, until the alarm tells of more urgent work.

    A step that the API server rejects, parameters that the engine refuses, or a replica that is not promoted, do not
    keep the others back; any other failure ends the pass, since what follows was planned for another state of things.
    Raises NotLeader.
    """
    outcomes: list[Outcome] = []
    for _, steps in groupby(plan.steps, key=_side_by_side):
        if not context.deps.leader():
            raise NotLeader
        done = await together(*(_carry_out(step, context, alarm) for step in steps))
        outcomes += done
        if any(_changes_everything(outcome) for outcome in done):
            break
    return tuple(outcomes)


def _changes_everything(outcome: Outcome) -> bool:
    """What was planned to come after it must not be done."""
    alone = outcome.rejected or outcome.refused or isinstance(outcome.step.action, Promote)
    return outcome.error is not None and not alone


def _side_by_side(step: Do) -> tuple[type[Action], str]:
    """Neighbours with the same key are independent of each other. Of role labels the order matters, and a StatefulSet
    comes after all that its pods mount: without it they would never start. Promotions come one after the other: of two
    candidates in one epoch each voter elects one.
    """
    match step.action:
        case Promote(shard=shard):
            return Promote, str(shard)
        case LabelRole(role=role):
            return LabelRole, role.value
        case Apply(manifest={"kind": "StatefulSet"}):
            return Apply, "StatefulSet"
        case action:
            return type(action), ""


async def _carry_out(step: Do, context: Context, alarm: asyncio.Event) -> Outcome:
    began = context.deps.clock()
    outcome = await _attempt(step, context, alarm)
    return replace(outcome, began=began, ended=context.deps.clock())


async def _attempt(step: Do, context: Context, alarm: asyncio.Event) -> Outcome:
    work = _dispatch(step.action, context)
    try:
        done = await (unless(alarm, work) if isinstance(step.action, GIVES_WAY) else work)
    except Rejected as e:
        return Outcome(step, str(e), rejected=True)
    except (Doubt, Interrupted) as e:
        return Outcome(step, str(e), doubt=True)
    except NodeRefused as e:
        return Outcome(step, str(e), refused=isinstance(step.action, Configure | SetUsers))
    except (KubeError, NodeError) as e:
        return Outcome(step, str(e))
    except TimeoutError:
        return Outcome(step, "no answer in time")
    promotion = done if isinstance(done, Promotion) else None
    return Outcome(step, None, keys_moved=done if isinstance(done, int) else 0, promotion=promotion)


def _dispatch(  # noqa: C901, PLR0911, PLR0912 - one arm for each action
    action: Action, context: Context
) -> Coroutine[Any, Any, int | Promotion | None]:
    match action:
        case CreateSystemSecret():
            return object_actions.create_system_secret(action, context)
        case Apply():
            return object_actions.apply(action, context)
        case RollPod() | RemoveReplicas() | SettleShard():
            return object_actions.change_shard(action, context)
        case Delete():
            return object_actions.delete(action, context)
        case ExpandVolume():
            return object_actions.expand_volume(action, context)
        case DetachPods():
            return object_actions.detach_pods(action, context)
        case RestoreMetadata():
            return object_actions.restore_metadata(action, context)
        case ResizePod():
            return object_actions.resize_pod(action, context)
        case AdoptRevision():
            return object_actions.adopt_revision(action, context)
        case LabelRole():
            return object_actions.label_role(action, context)
        case Meet():
            return node_actions.meet(action, context)
        case AssignSlots():
            return node_actions.assign_slots(action, context)
        case Replicate():
            return node_actions.replicate(action, context)
        case Forget():
            return node_actions.forget(action, context)
        case Promote():
            return node_actions.promote(action, context)
        case EndPod():
            return object_actions.end_pod(action, context)
        case FreePod():
            return lost_hosts.free_pod(action, context)
        case MovePod():
            return object_actions.move_pod(action, context)
        case Release():
            return node_actions.release(action, context)
        case Reset():
            return node_actions.reset(action, context)
        case Configure():
            return node_actions.configure(action, context)
        case RaiseFence():
            return fences.raise_fence(action, context)
        case LowerFence():
            return fences.lower_fence(action, context)
        case RewriteLog():
            return node_actions.rewrite_log(action, context)
        case SetUsers():
            return node_actions.set_users(action, context)
        case SwitchOver():
            return node_actions.switch_over(action, context)
        case MoveSlots():
            return slot_moves.move_slots(action, context)
        case SettleSlots():
            return slot_moves.settle_slots(action, context)
        case _:
            assert_never(action)
