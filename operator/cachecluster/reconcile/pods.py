"""Pods as the API server describes them, reduced to what decisions need."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.snapshot import Container, ContainerState, Pod, PodShape

LAST_LINE: Final = 300
"""Characters of a process's last line that are worth showing."""


def parse_pod(body: Mapping[str, Any]) -> Pod | None:
    """A Pod object of one of our StatefulSets; None for a pod that is none of its members."""
    meta, spec, status = body["metadata"], body.get("spec", {}), body.get("status", {})
    labels = meta.get("labels", {})
    ordinal, shard = meta["name"].rpartition("-")[2], labels.get(names.LABEL_SHARD, "")
    controlled = any(o.get("kind") == "StatefulSet" and o.get("controller") for o in meta.get("ownerReferences", ()))
    if not (controlled and ordinal.isdecimal() and shard.isdecimal()):
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
        revision=labels.get("controller-revision-hash", ""),
        role_label=labels.get(names.LABEL_ROLE),
        container=_container(status),
        shape=_shape(meta, spec),
    )


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
    )


def _termination(ended: Mapping[str, Any]) -> str:
    """For example ``OOMKilled, exit code 137``, with the last line that the process left."""
    lines = (ended.get("message") or "").strip().splitlines()
    how = f"{ended.get('reason') or 'ended'}, exit code {ended.get('exitCode')}"
    return f"{how}: {lines[-1][:LAST_LINE]}" if lines else how


def _seconds(timestamp: str) -> float:
    """RFC 3339, as the API server writes it, to Unix seconds."""
    return datetime.fromisoformat(timestamp).timestamp()
