"""The chain of policies that turns a snapshot into a plan. The order is the design's order of precedence."""

from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.plan import Block, Do, Plan, Wait
from cachecluster.domain.policies import (
    balance,
    configuration,
    coverage,
    failover,
    housekeeping,
    infrastructure,
    membership,
    pods,
    rollout,
    safety,
)
from cachecluster.domain.policies.situation import Policy, Situation
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.topology import observe

CHAIN: Final[tuple[Policy, ...]] = (
    *safety.POLICIES,
    *failover.POLICIES,
    safety.stop_on_invalid_spec,
    *infrastructure.POLICIES,
    *membership.POLICIES,
    *coverage.POLICIES,
    *configuration.POLICIES,
    *pods.POLICIES,
    pods.leave_cordoned_hosts,
    *rollout.POLICIES,
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
    for policy in CHAIN:
        for verdict in policy(now):
            match verdict:
                case Do():
                    steps.append(verdict)
                case Wait():
                    waits.append(verdict)
                case Block():
                    blocks.append(verdict)
        if blocks and blocks[-1].stops_rest:
            break
    return Plan(_one_disruption(steps), tuple(waits), tuple(blocks))


def _one_disruption(steps: list[Do]) -> tuple[Do, ...]:
    """Nothing comes after the first disruptive action: the next pass looks again before it goes on."""
    for i, step in enumerate(steps):
        if step.action.disruptive:
            return tuple(steps[: i + 1])
    return tuple(steps)
