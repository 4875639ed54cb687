"""The chain of policies that turns a snapshot into a plan. The order is the design's order of precedence."""

from itertools import takewhile
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import MoveSlots, Promote
from cachecluster.domain.plan import Block, Do, Plan, Wait
from cachecluster.domain.policies import (
    access,
    balance,
    configuration,
    coverage,
    durability,
    failover,
    fence,
    housekeeping,
    infrastructure,
    lost_hosts,
    membership,
    pods,
    requests,
    resharding,
    resizing,
    rollout,
    safety,
    scale_in,
    storage,
    unwritten,
)
from cachecluster.domain.policies.situation import Policy, Situation
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.topology import observe

CHAIN: Final[tuple[Policy, ...]] = (
    *safety.POLICIES,
    *failover.POLICIES,
    *fence.POLICIES,
    pods.label_roles_meanwhile,
    safety.stop_on_invalid_spec,
    *infrastructure.POLICIES,
    *access.POLICIES,
    coverage.lead_new_shards,
    *membership.POLICIES,
    *coverage.POLICIES,
    *durability.POLICIES,
    *unwritten.POLICIES,
    storage.expand_volumes,
    *configuration.POLICIES,
    *pods.POLICIES,
    *lost_hosts.POLICIES,
    pods.leave_cordoned_hosts,
    *resharding.POLICIES,
    *requests.POLICIES,
    resizing.resize_pods,
    *rollout.POLICIES,
    *scale_in.POLICIES,
    storage.recreate_sets,
    *balance.POLICIES,
    *housekeeping.POLICIES,
)


def plan(snap: Snapshot) -> Plan:
    """What to do now. Pure and total: the same snapshot gives the same plan; empty when converged."""
    if not snap.finalizer_visible:
        return Plan(waits=(Wait(Reason.CREATING_OBJECTS, "waiting for the finalizer on the CacheCluster", 0.5),))
    now = Situation(snap, observe(snap))
    steps: list[Do] = []
    waits: list[Wait] = []
    blocks: list[Block] = []
    stopped = False
    for policy in CHAIN:
        stop = False
        for verdict in policy(now):
            stop |= not isinstance(verdict, Do) and verdict.stops_rest
            match verdict:
                case Do():
                    steps.append(verdict)
                case Wait():
                    waits.append(verdict)
                case Block():
                    blocks.append(verdict)
        if stop:
            stopped = True
            break
    done = _one_disruption(steps)
    return Plan(done if stopped else fence.fenced(now, done), tuple(waits), tuple(blocks))


def _one_disruption(steps: list[Do]) -> tuple[Do, ...]:
    """Nothing comes after the first disruptive action: the next pass looks again before it goes on. Neighbouring moves
    of slots, one from each source, are one disruption; promotions, one in each shard, end disruptions.
    """
    first = next((i for i, step in enumerate(steps) if step.action.disruptive), len(steps))
    if first == len(steps) or not isinstance(steps[first].action, (MoveSlots, Promote)):
        return tuple(steps[: first + 1])
    kind = type(steps[first].action)
    return (*steps[:first], *takewhile(lambda step: type(step.action) is kind, steps[first:]))
