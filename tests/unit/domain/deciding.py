"""What the planner makes of a cluster, as tests ask for it."""

from typing import Any

from cachecluster.api.reasons import Reason
from cachecluster.domain.planner import plan
from tests.unit.domain.building import Cluster


def actions(cluster: Cluster) -> list[Any]:
    """Actions of the plan, in order."""
    return [s.action for s in plan(cluster.snapshot()).steps]


def reasons(cluster: Cluster) -> set[Reason]:
    """Why it waits or holds back."""
    p = plan(cluster.snapshot())
    return {b.reason for b in p.blocks} | {w.reason for w in p.waits}


def of_type(cluster: Cluster, kind: type) -> list[Any]:
    """Actions of one kind."""
    return [a for a in actions(cluster) if isinstance(a, kind)]
