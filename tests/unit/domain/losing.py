"""Clusters that have lost every copy of some slots, and an operator that looks at them (S2, ADR 0020)."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.status import CacheClusterStatus
from cachecluster.domain.actions import AssignSlots
from cachecluster.domain.plan import Plan
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS, share
from cachecluster.domain.status import derive
from tests.unit.domain.building import NOW, Cluster, formed
from tests.unit.domain.test_status import condition

WAIT: Final[dict[str, Any]] = {"recovery": {"onDataLoss": "WaitForApproval"}}
RECREATE: Final[dict[str, Any]] = {"recovery": {"onDataLoss": "Recreate"}}
STORED: Final[dict[str, Any]] = {"persistence": {"mode": "AppendOnly", "size": "1Gi"}}
FIRST = str(share(3)[0])


@dataclass
class Operator:
    """Looks at one state after the other, each time with the status that it wrote before."""

    status: Mapping[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    now: float = NOW

    def look(self, cluster: Cluster) -> Plan:
        snap = replace(cluster.snapshot(), status=self.status, annotations=self.annotations, now=self.now)
        self.now += 1
        made = plan(snap)
        self.status = derive(snap, made).to_json()
        return made

    def approve(self, incident: str | None = None) -> None:
        self.annotations[names.ANNOTATION_APPROVE_LOSS] = incident or self.incident

    @property
    def loss(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status["dataLoss"]
        return found

    @property
    def incident(self) -> str:
        return str(self.loss["incident"])

    def condition(self, kind: ConditionType) -> tuple[str, str]:
        return condition(CacheClusterStatus.model_validate(_stored(self.status)), kind)

    def message(self) -> str:
        return next(str(c["message"]) for c in self.status["conditions"] if c["type"] == "DataLoss")


def _stored(status: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in status.items() if k != "ready"}


def without(cluster: Cluster, *shards: int, generation: int = 1) -> Cluster:
    """Every member of the shards has come back with nothing."""
    for node in cluster.nodes:
        if node.shard in shards:
            empty: dict[str, Any] = {"slots": NO_SLOTS, "keys": 0, "epoch": 0, "follows": None}
            empty |= {"quarantined": True, "ready": False}
            role = cluster.nodes[0].role
            cluster = cluster.with_node(node.shard, node.ordinal, role=role, generation=generation, **empty)
    return cluster


def led(cluster: Cluster, shard: int, generation: int = 1) -> Cluster:
    """The first member of a shard that was empty has got its slots."""
    whole = formed(3, 1)
    leader = next(n for n in cluster.nodes if (n.shard, n.ordinal) == (shard, 0))
    slots = next(n.slots for n in whole.nodes if (n.shard, n.ordinal) == (shard, 0))
    return cluster.with_node(shard, 0, slots=slots, epoch=9, quarantined=False, generation=generation).with_node(
        shard, 1, role=whole.nodes[1].role, follows=leader.node_id, quarantined=False
    )


def given(made: Plan) -> list[tuple[str, str]]:
    """Who gets which slots."""
    return [(s.action.node.pod, str(s.action.slots)) for s in made.steps if isinstance(s.action, AssignSlots)]
