"""How far a cluster is on its way, and whether it has arrived. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.cli.kubectl_cache.body import annotations_of, condition_of, formed, headline_of, status_of, up_to_date
from cachecluster.domain.requests import open_failover
from cachecluster.reconcile.pods import parse_pod

BAR: Final = 20
"""Characters."""
_ARRIVED: Final = (ConditionType.READY, ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.ROLLED_OUT)


@dataclass(frozen=True, slots=True)
class Progress:
    """One look at a cluster."""

    done: int
    total: int
    unit: str
    settled: bool
    """Ready, and nothing is left to do: not for the spec, and not for a request."""
    headline: str

    def line(self) -> str:
        """For people, with a bar."""
        filled = BAR * self.done // max(self.total, 1)
        return f"[{'#' * filled}{'-' * (BAR - filled)}] {self.done}/{self.total} {self.unit}  {self.headline}"

    def document(self) -> dict[str, Any]:
        """For programs."""
        return {
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "settled": self.settled,
            "state": self.headline,
        }


def measure(
    body: Mapping[str, Any], statefulsets: Sequence[Mapping[str, Any]], pods: Sequence[Mapping[str, Any]]
) -> Progress:
    """Pods replaced while a complete cluster is rolled, else nodes ready.

    A restart is not in the spec: that it is under way shows only on the pods until the operator has seen it.
    """
    topology, status = body["spec"].get("topology", {}), status_of(body)
    total = status.get("nodes") or topology.get("shards", 0) * (1 + topology.get("replicasPerShard", 0))
    wanted = {s["metadata"]["name"]: s.get("status", {}).get("updateRevision") for s in statefulsets}
    restart = annotations_of(body).get(names.ANNOTATION_RESTARTED)
    ready = replaced = done = 0
    for raw in pods:
        pod = parse_pod(raw)
        if pod is None:
            continue
        current = pod.revision == wanted.get(names.shard_name(body["metadata"]["name"], pod.shard)) and (
            not restart or annotations_of(raw).get(names.ANNOTATION_RESTARTED) == restart
        )
        ready += pod.ready
        replaced += current
        done += current and pod.ready
    rolled = replaced >= total and condition_of(body, ConditionType.ROLLED_OUT) == "True"
    settled = (
        rolled
        and up_to_date(body)
        and all(condition_of(body, kind) == kind.wanted for kind in _ARRIVED)
        and open_failover(annotations_of(body), status) is None
    )
    if formed(body) and not rolled:
        return Progress(done, total, "pods replaced", settled, headline_of(body))
    return Progress(ready, total, "nodes ready", settled, headline_of(body))
