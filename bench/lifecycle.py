"""Changes of a living cluster on Kubernetes, under writers in every zone: how long each takes and who notices."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from e2e import client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation
from e2e.pods import CPU
from e2e.recorder import Recorder

KEYS = 300_000
SHARDS = 3
MORE = SHARDS + 1
CHANGE_SECONDS = 900.0
IDLE_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change, in milliseconds."""

    what: str
    milliseconds: int
    """From the edit until the cluster was whole again."""
    after_last_pod_milliseconds: int | None
    """From the moment when the last new pod ran; None where none was made."""
    failed: int
    """Writes that were refused or left without an answer."""
    acked: int
    longest_gap_milliseconds: int
    """Longest time in which some writer could neither read nor write some shard."""


def measure(installation: Installation, namespace: str) -> list[Change]:
    """Nothing for a while, as the measure of the writers themselves; 3 to 4 shards and back with keys in them; then a
    rolling restart.
    """
    cluster = Cluster(installation.kube, namespace, "living")
    cluster.apply(small_spec(SHARDS, 1, resources={"requests": {"cpu": CPU}, "limits": {"memory": "512Mi"}}))
    cluster.until_whole()
    application = client.start(installation.kube, installation.image, namespace, cluster.name)
    application.load(KEYS)
    recorder = Recorder(installation.kube, namespace, cluster.name, installation.image)
    restart: Mapping[str, object] = {
        "metadata": {"annotations": {"cachecluster.dev/restarted-at": "2026-01-01T00:00:00Z"}}
    }
    changes = [
        _idle(recorder),
        _change(cluster, recorder, f"{SHARDS} → {MORE} shards, {KEYS:,} keys", _scaled(MORE), new_pods=2),
        _change(cluster, recorder, f"{MORE} → {SHARDS} shards, {KEYS:,} keys", _scaled(SHARDS), new_pods=0),
        _change(cluster, recorder, f"rolling restart, {SHARDS} shards of 2 pods", restart, new_pods=2 * SHARDS),
    ]
    assert application.loaded(KEYS) == KEYS, "keys are missing"
    cluster.delete()
    return changes


def _scaled(shards: int) -> Mapping[str, object]:
    return {"spec": {"topology": {"shards": shards}}}


def _idle(recorder: Recorder) -> Change:
    with recorder.writing():
        time.sleep(IDLE_SECONDS)
    recorder.history.assert_nothing_lost()
    return _row("none, for comparison", IDLE_SECONDS, None, recorder)


def _change(cluster: Cluster, recorder: Recorder, what: str, patch: Mapping[str, object], *, new_pods: int) -> Change:
    running: dict[str, float] = {}
    before = {pod["metadata"]["uid"] for pod in cluster.pods()}

    def settled() -> bool:
        for pod in cluster.pods():
            if pod["metadata"]["uid"] not in before and pod["status"].get("phase") == "Running":
                running.setdefault(pod["metadata"]["uid"], time.monotonic())
        return len(running) == new_pods and cluster.is_whole()

    with recorder.writing():
        began = time.monotonic()
        cluster.kube.patch("CacheCluster", cluster.namespace, cluster.name, patch)
        cluster.until("the change is made", settled, CHANGE_SECONDS)
        ended = time.monotonic()
    recorder.history.assert_nothing_lost()
    after_last_pod = ended - max(running.values()) if running else None
    return _row(what, ended - began, after_last_pod, recorder)


def _row(what: str, seconds: float, after_last_pod: float | None, recorder: Recorder) -> Change:
    return Change(
        what,
        round(1000 * seconds),
        None if after_last_pod is None else round(1000 * after_last_pod),
        recorder.history.failed,
        recorder.history.acked,
        recorder.history.longest_gap_milliseconds,
    )
