"""What a pass has to know of resizes of running pods: whether they are possible, and since when they are under way."""

from dataclasses import replace
from typing import Final

from cachecluster.domain.snapshot import Snapshot
from cachecluster.kube.api import Rejected
from cachecluster.reconcile.dependencies import Memory, Senses

REFUSAL_SECONDS: Final = 600.0
"""So long is what the API server has refused not tried again; the pod is replaced meanwhile."""


async def with_resizes(snapshot: Snapshot, deps: Senses, memory: Memory) -> Snapshot:
    """The snapshot with what is known of resizes; raises KubeError when the API server does not answer."""
    memory.resize_refusals = {k: t for k, t in memory.resize_refusals.items() if snapshot.now - t < REFUSAL_SECONDS}
    waiting = {pod.uid for pod in snapshot.pods if pod.resize is not None}
    memory.resizing_since = {uid: memory.resizing_since.get(uid, snapshot.now) for uid in sorted(waiting)}
    return replace(
        snapshot,
        resizable=_some_pod_is_old(snapshot) and await _served(deps),
        resize_refusals=frozenset(memory.resize_refusals),
        resizing_since=dict(memory.resizing_since),
    )


def _some_pod_is_old(snapshot: Snapshot) -> bool:
    """Only then it matters."""
    newest = {
        key.name: live.get("status", {}).get("updateRevision")
        for key, live in snapshot.children.items()
        if key.kind == "StatefulSet"
    }
    names = ((pod.name.rpartition("-")[0], pod.revision) for pod in snapshot.pods)
    return any(newest.get(statefulset) != revision for statefulset, revision in names)


async def _served(deps: Senses) -> bool:
    """Kubernetes 1.33 or newer; where we may not even ask, pods are replaced as before."""
    try:
        return await deps.kube.serves("v1", "pods/resize")
    except Rejected:
        return False
