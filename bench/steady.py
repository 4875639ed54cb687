"""What the operator costs while nothing happens: writes to the API server, and memory."""

import time
from dataclasses import dataclass
from functools import partial

from e2e.cluster import Cluster, small_spec
from e2e.install import Installation, until_operator_ready
from e2e.kube import Obj, wait

PASSES = 20
PASS_SECONDS = 120.0
QUIET_SECONDS = 5.0
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Steady:
    """Counts and MiB."""

    passes: int
    """Passes over a converged cluster that were counted."""
    writes: int
    """Requests that write, in those passes, the leader's Lease apart."""
    changed_objects: int
    """Objects of the cluster whose resourceVersion moved meanwhile."""
    clusters: int
    rss_with_one_mebibytes: int
    rss_with_many_mebibytes: int


def measure(installation: Installation, namespace: str, clusters: int) -> Steady:
    """One cluster of 3 x 1 first; then so many of 1 x 0 beside it that there are `clusters`."""
    installation.kill_operator()  # memory of a process that has seen no other cluster
    until_operator_ready(installation.kube)
    first = Cluster(installation.kube, namespace, "steady")
    first.apply(small_spec())
    first.until_whole()
    _until_quiet(installation)
    passes, writes, changed = _provoke(installation, first)
    alone = _resident(installation)
    others = [Cluster(installation.kube, namespace, f"many-{i}") for i in range(1, clusters)]
    for other in others:
        other.apply(small_spec(shards=1, replicas=0))
    for other in others:
        other.until_whole()
    many = _resident(installation)
    for cluster in (first, *others):
        cluster.delete()
    return Steady(passes, writes, changed, clusters, alone, many)


def _provoke(installation: Installation, cluster: Cluster) -> tuple[int, int, int]:
    """Wake the operator by edits that ask for nothing, and count what it writes."""
    before = _counter(installation, "cachecluster_passes_total")
    writes = _writes(installation)
    versions = _versions(installation, cluster)
    for _ in range(PASSES):
        so_far = _counter(installation, "cachecluster_passes_total")
        service = f"{cluster.name}-nodes"
        note = {"metadata": {"annotations": {"bench": str(so_far)}}}
        installation.kube.patch("Service", cluster.namespace, service, note)
        wait(
            "another pass",
            partial(_passed, installation, so_far),
            PASS_SECONDS,
        )
    after = _versions(installation, cluster)
    changed = sum(after.get(name) != version for name, version in versions.items())
    return (
        int(_counter(installation, "cachecluster_passes_total") - before),
        int(_writes(installation) - writes),
        changed,
    )


def _until_quiet(installation: Installation) -> None:
    """Wait until the Events about the formation, which are posted in the background, are all out."""
    seen, since = _writes(installation), time.monotonic()

    def probe() -> bool:
        nonlocal seen, since
        now = _writes(installation)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since > QUIET_SECONDS

    wait("the operator has nothing more to write", probe, PASS_SECONDS)


def _passed(installation: Installation, before: float) -> bool:
    return _counter(installation, "cachecluster_passes_total") > before


def _versions(installation: Installation, cluster: Cluster) -> dict[str, str]:
    kinds = ("CacheCluster", "StatefulSet", "Secret", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy", "Pod")
    found: list[Obj] = [item for kind in kinds for item in installation.kube.list(kind, cluster.namespace)]
    mine = [item for item in found if item["metadata"]["name"].startswith(cluster.name)]
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"] for item in mine}


def _resident(installation: Installation) -> int:
    return round(_counter(installation, "process_resident_memory_bytes") / MEBIBYTE)


def _writes(installation: Installation) -> float:
    return _counter(installation, "cachecluster_api_writes_total", without='kind="Lease"')


def _counter(installation: Installation, name: str, without: str = "\0") -> float:
    """Sum of a metric over its labels."""
    lines = [
        line
        for line in installation.metrics().splitlines()
        if line.startswith((f"{name} ", f"{name}{{")) and without not in line
    ]
    return sum(float(line.rpartition(" ")[2]) for line in lines)
