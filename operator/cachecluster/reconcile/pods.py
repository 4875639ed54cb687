"""Pods as the API server describes them, reduced to what decisions need."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.quantity import same, to_bytes
from cachecluster.domain.snapshot import Container, ContainerState, Pod, PodShape, Resize, ResizeState

_RESIZES: Final = {
    "Deferred": ResizeState.DEFERRED,
    "Infeasible": ResizeState.INFEASIBLE,
    "Error": ResizeState.FAILED,
}
"""By the reason of the pod's condition."""
_UNSEEN: Final = {"Unknown", "ContainerStatusUnknown"}
"""Reasons of containers of which the kubelet knows no exit status."""
LAST_LINE: Final = 300
"""Characters of a process's last line that are worth showing."""


def parse_pod(body: Mapping[str, Any]) -> Pod | None:
    """A Pod object of one of our StatefulSets, which may be between two lives; None for a pod that is no member."""
    meta, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    labels = meta.get("labels", {})
    ordinal, shard = meta["name"].rpartition("-")[2], labels.get(names.LABEL_SHARD, "")
    if not (_is_member(meta) and ordinal.isdecimal() and shard.isdecimal()):
        return None
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    scheduled = conditions.get("PodScheduled", {})
    return Pod(
        name=meta["name"],
        uid=meta["uid"],
        shard=int(shard),
        ordinal=int(ordinal),
        ip=status.get("podIP") or None,
        host=spec.get("nodeName") or None,
        phase=status.get("phase", "Pending"),
        ready=conditions.get("Ready", {}).get("status") == "True" and "deletionTimestamp" not in meta,
        deleting="deletionTimestamp" in meta,
        created_at=_seconds(meta["creationTimestamp"]),
        unschedulable=scheduled.get("message") if scheduled.get("reason") == "Unschedulable" else None,
        revision=labels.get(names.LABEL_REVISION, ""),
        role_label=labels.get(names.LABEL_ROLE),
        container=_container(status),
        shape=_shape(meta, spec),
        memory_limit=_bytes(_actual_memory(status) or _asked_memory(spec)),
        memory_asked=_bytes(_asked_memory(spec)),
        resize=_resize(meta, spec, status),
        fence=meta.get("annotations", {}).get(names.ANNOTATION_FENCE, ""),
        has_volume=any("persistentVolumeClaim" in v for v in spec.get("volumes", ())),
    )


def _engine(listed: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    return next((c for c in listed if c["name"] == names.CONTAINER), {})


def _asked_memory(spec: Mapping[str, Any]) -> str | None:
    found: str | None = _engine(spec.get("containers", ())).get("resources", {}).get("limits", {}).get("memory")
    return found


def _actual_memory(status: Mapping[str, Any]) -> str | None:
    """As the kubelet has it in force; before Kubernetes 1.33 it does not say."""
    resources = _engine(status.get("containerStatuses", ())).get("resources") or {}
    found: str | None = resources.get("limits", {}).get("memory")
    return found


def _bytes(text: str | None) -> int | None:
    return to_bytes(text) if text is not None else None


def _resize(meta: Mapping[str, Any], spec: Mapping[str, Any], status: Mapping[str, Any]) -> Resize | None:
    """What the kubelet says of the resources that the spec asks for (kubernetes.io, "Resize CPU and Memory Resources
    assigned to Containers"); what it has said of an earlier request counts no more.
    """
    generation = meta.get("generation", 0)
    if status.get("observedGeneration", generation) < generation:
        return Resize(ResizeState.UNDER_WAY, "")
    for kind in ("PodResizePending", "PodResizeInProgress"):
        found = next((c for c in status.get("conditions", ()) if c["type"] == kind and c["status"] == "True"), None)
        if found is None:
            continue
        current = found.get("observedGeneration", generation) >= generation
        state = _RESIZES.get(found.get("reason", ""), ResizeState.UNDER_WAY) if current else ResizeState.UNDER_WAY
        return Resize(state, found.get("message", "") if current else "")
    asked, actual = _asked_memory(spec), _actual_memory(status)
    differs = asked is not None and actual is not None and not same(asked, actual)
    return Resize(ResizeState.UNDER_WAY, "") if differs else None


def _is_member(meta: Mapping[str, Any]) -> bool:
    """Controlled by a StatefulSet; or made by one that has let its pods go, which nobody controls just now."""
    controllers = [o for o in meta.get("ownerReferences", ()) if o.get("controller")]
    if controllers:
        return bool(controllers[0].get("kind") == "StatefulSet")
    return bool(meta.get("labels", {}).get(names.LABEL_POD_NAME) == meta["name"])


def _shape(meta: Mapping[str, Any], spec: Mapping[str, Any]) -> PodShape | None:
    engine = next((c for c in spec.get("containers", ()) if c["name"] == names.CONTAINER), None)
    if engine is None:
        return None
    configs = {v["name"]: v["configMap"].get("name", "") for v in spec.get("volumes", ()) if "configMap" in v}
    return PodShape(
        image=engine.get("image", ""),
        resources=engine.get("resources", {}),
        config=configs.get(names.CONFIG_VOLUME, ""),
        live=configs.get(names.LIVE_VOLUME, ""),
        labels=meta.get("labels", {}),
        annotations=meta.get("annotations", {}),
        grace=spec.get("terminationGracePeriodSeconds"),
    )


def _container(status: Mapping[str, Any]) -> Container | None:
    found = next((c for c in status.get("containerStatuses", ()) if c["name"] == names.CONTAINER), None)
    if found is None:
        return None
    state: Mapping[str, Any] = found.get("state", {})
    ended: Mapping[str, Any] | None = state.get("terminated") or found.get("lastState", {}).get("terminated")
    running = state.get("running")
    kind = ContainerState.RUNNING if running is not None else ContainerState.WAITING
    if state.get("terminated") is not None:
        kind = ContainerState.TERMINATED
    current: Mapping[str, Any] = state.get("waiting") or state.get("terminated") or {}
    return Container(
        state=kind,
        reason=current.get("reason", ""),
        message=current.get("message", ""),
        restarts=found.get("restartCount", 0),
        started_at=_seconds(running["startedAt"]) if running and running.get("startedAt") else None,
        last_termination=_termination(ended) if ended else "",
        last_exit_code=ended.get("exitCode") if ended else None,
        ended_at=_end(ended) if ended else None,
    )


def _end(ended: Mapping[str, Any]) -> float | None:
    """What a kubelet finds gone after a boot has ended at that moment, as far as it says."""
    told = ended.get("finishedAt") if ended.get("reason") not in _UNSEEN else None
    return _seconds(told) if told else None


def _termination(ended: Mapping[str, Any]) -> str:
    """For example ``OOMKilled, exit code 137``, with the last line that the process left."""
    lines = (ended.get("message") or "").strip().splitlines()
    how = f"{ended.get('reason') or 'ended'}, exit code {ended.get('exitCode')}"
    return f"{how}: {lines[-1][:LAST_LINE]}" if lines else how


def _seconds(timestamp: str) -> float:
    """RFC 3339, as the API server writes it, to Unix seconds."""
    return datetime.fromisoformat(timestamp).timestamp()
