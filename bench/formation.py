"""How long from `kubectl apply` to Ready, and how much of it is the operator's own.

Measured from watches, not from condition times, which have a granularity of one second.
"""

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.statistics import Percentiles, percentiles
from e2e.cluster import CLUSTER_LABEL, Cluster, small_spec
from e2e.install import Installation
from e2e.kube import Obj, is_true, wait

WATCH_SECONDS = 180.0
PODS = 6


@dataclass
class Moments:
    """When things were first seen, in seconds of the monotonic clock."""

    applied: float = 0.0
    started: dict[str, float] = field(default_factory=dict)
    """Pod -> its container runs."""
    pods_ready: dict[str, float] = field(default_factory=dict)
    ready: float = 0.0
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def complete(self) -> bool:
        """Everything was seen."""
        return bool(self.ready) and len(self.started) == PODS and len(self.pods_ready) == PODS


@dataclass(frozen=True, slots=True)
class Formation:
    """Milliseconds over all runs."""

    runs: int
    apply_to_ready: Percentiles
    last_container_to_ready: Percentiles
    """From the moment the last engine container runs: probes, forming, syncing and reporting."""
    last_pod_to_ready: Percentiles
    """From the moment the last pod is Ready; negative where the cluster was Ready before the kubelet said so."""


def measure(installation: Installation, namespace: str, runs: int) -> Formation:
    """Create `runs` clusters of 3 x 1, one after another, each removed before the next."""
    seen = [_one(installation, namespace, f"form-{i}") for i in range(runs)]
    return Formation(
        runs=runs,
        apply_to_ready=percentiles((m.ready - m.applied) * 1000 for m in seen),
        last_container_to_ready=percentiles((m.ready - max(m.started.values())) * 1000 for m in seen),
        last_pod_to_ready=percentiles((m.ready - max(m.pods_ready.values())) * 1000 for m in seen),
    )


def _one(installation: Installation, namespace: str, name: str) -> Moments:
    kube = installation.kube
    cluster, moments = Cluster(kube, namespace, name), Moments()
    watchers = [
        threading.Thread(target=_follow, args=(installation, namespace, name, kind, moments), daemon=True)
        for kind in ("Pod", "CacheCluster")
    ]
    for watcher in watchers:
        watcher.start()
    moments.applied = time.monotonic()
    cluster.apply(small_spec())
    if not moments.done.wait(WATCH_SECONDS):
        cluster.until("seen by the watches", lambda: moments.complete, within=1)
    cluster.delete()
    wait(f"pods of {name} are gone", lambda: not cluster.pods(), 120)
    wait(f"{name} is gone", lambda: kube.find("CacheCluster", namespace, name) is None, 60)
    for watcher in watchers:
        watcher.join()
    return moments


def _follow(installation: Installation, namespace: str, name: str, kind: str, moments: Moments) -> None:
    for at, change, obj in installation.kube.watch(kind, namespace, WATCH_SECONDS):
        if change in {"ADDED", "MODIFIED"}:
            if kind == "CacheCluster" and obj["metadata"]["name"] == name and is_true(obj, "Ready"):
                moments.ready = moments.ready or at
            elif kind == "Pod" and obj["metadata"]["labels"].get(CLUSTER_LABEL) == name:
                _note_pod(obj, at, moments)
        if moments.complete:
            moments.done.set()
            return


def _note_pod(pod: Obj, at: float, moments: Moments) -> None:
    name = str(pod["metadata"]["name"])
    statuses: list[Mapping[str, Obj]] = pod["status"].get("containerStatuses", [])
    if statuses and "running" in statuses[0].get("state", {}):
        moments.started.setdefault(name, at)
    if is_true(pod, "Ready"):
        moments.pods_ready.setdefault(name, at)
