"""What the operator counts about itself. Nothing is labelled by pod or by anything else that grows without bound."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client import Counter as CounterMetric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_PASS_BUCKETS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 15)
_FAILOVER_BUCKETS: Final = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1, 2, 3, 4, 5, 10, 30)
_WRITES: Final = frozenset({"create", "apply", "patch", "status", "update", "delete"})


class Metrics:
    """A registry of its own, so that two operators in one process (tests) do not share numbers."""

    def __init__(self) -> None:
        """All at zero."""
        disable_created_metrics()  # type: ignore[no-untyped-call] # a second series for each counter
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        self._passes = CounterMetric(
            "cachecluster_passes", "Passes over clusters.", ["result"], registry=self._registry
        )
        self._pass_seconds = Histogram(
            "cachecluster_pass_duration_seconds",
            "Time from reading a cluster to writing its status.",
            buckets=_PASS_BUCKETS,
            registry=self._registry,
        )
        self._actions = CounterMetric(
            "cachecluster_actions",
            "Actions carried out, by how they ended and why they were taken.",
            ["action", "outcome", "reason"],
            registry=self._registry,
        )
        self._failovers = CounterMetric(
            "cachecluster_failovers",
            "Replicas that the operator promoted in the place of lost primaries, by how those were known to be lost.",
            ["cause", "kind"],
            registry=self._registry,
        )
        self._detection_seconds = Histogram(
            "cachecluster_failover_detection_seconds",
            "Time from a lost primary's last sign of life until its loss was confirmed.",
            buckets=_FAILOVER_BUCKETS,
            registry=self._registry,
        )
        self._promotion_seconds = Histogram(
            "cachecluster_failover_promotion_seconds",
            "Time from then until a replica led in its place.",
            buckets=_FAILOVER_BUCKETS,
            registry=self._registry,
        )
        self._data_losses = CounterMetric(
            "cachecluster_data_losses",
            "Times that every copy of some slots was found to be gone, by what recovery.onDataLoss says of it.",
            ["on_data_loss"],
            registry=self._registry,
        )
        self._requests = CounterMetric(
            "cachecluster_api_requests",
            "Requests to the Kubernetes API outside of watches.",
            ["verb", "kind", "outcome"],
            registry=self._registry,
        )
        self._writes = CounterMetric(
            "cachecluster_api_writes", "Those of them that write.", ["verb", "kind", "outcome"], registry=self._registry
        )
        self._request_seconds = Histogram(
            "cachecluster_api_request_duration_seconds",
            "Time that the Kubernetes API takes to answer.",
            ["verb"],
            buckets=_CALL_BUCKETS,
            registry=self._registry,
        )
        self._clusters = Gauge(
            "cachecluster_clusters",
            "Clusters by the state of each condition.",
            ["condition", "status"],
            registry=self._registry,
        )
        self._total = Gauge("cachecluster_managed_clusters", "Clusters looked after.", registry=self._registry)
        self._leader = Gauge("cachecluster_leader", "1 while this process leads.", registry=self._registry)
        self._restarts = CounterMetric(
            "cachecluster_watch_restarts", "Times that all watches had to be set up anew.", registry=self._registry
        )
        self._conditions: dict[str, dict[str, str]] = {}
        self._counted: Counter[tuple[str, str]] = Counter()

    def render(self) -> bytes:
        """Prometheus text format."""
        return generate_latest(self._registry)

    def passed(self, result: str, seconds: float) -> None:
        """One pass ended: ok, step_failed, error, timeout, bug, gone or not_leader."""
        self._passes.labels(result).inc()
        self._pass_seconds.observe(seconds)

    def action(self, action: str, outcome: str, reason: str) -> None:
        """One action ended: ok, rejected, doubt (its precondition did not hold any more) or failed."""
        self._actions.labels(action, outcome, reason).inc()

    def failover(self, cause: str, kind: str, detection: float | None, promotion: float) -> None:
        """A replica leads in the place of a lost primary; both times in seconds, the first if it is known."""
        self._failovers.labels(cause, kind).inc()
        if detection is not None:
            self._detection_seconds.observe(detection)
        self._promotion_seconds.observe(promotion)

    def data_loss(self, on_data_loss: str) -> None:
        """Every copy of some slots is gone: Recreate or WaitForApproval."""
        self._data_losses.labels(on_data_loss).inc()

    def requested(self, verb: str, kind: str, outcome: str, seconds: float) -> None:
        """One request was answered, or failed."""
        self._requests.labels(verb, kind, outcome).inc()
        self._request_seconds.labels(verb).observe(seconds)
        if verb in _WRITES:
            self._writes.labels(verb, kind, outcome).inc()

    def cluster(self, uid: str, conditions: Mapping[str, str]) -> None:
        """A cluster's conditions, status by type, as last written."""
        self.cluster_gone(uid)
        self._conditions[uid] = dict(conditions)
        self._counted.update(conditions.items())
        self._show(conditions.items())

    def cluster_gone(self, uid: str) -> None:
        """A cluster was deleted."""
        old = self._conditions.pop(uid, {})
        self._counted.subtract(old.items())
        self._show(old.items())

    def leading(self, is_leader: bool) -> None:
        """Whether this process leads."""
        self._leader.set(int(is_leader))

    def watches_restarted(self) -> None:
        """The watches ended by an error and are set up again."""
        self._restarts.inc()

    def _show(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._total.set(len(self._conditions))
        for condition, status in pairs:
            self._clusters.labels(condition, status).set(self._counted[condition, status])
