"""Whether a live object still is what we want: judged on our own fields only, others' fields are theirs."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.snapshot import Manifest, ObjectKey, Snapshot

_CANONICAL: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"))


def key_of(manifest: Manifest) -> ObjectKey:
    """Kind and name of an object."""
    return ObjectKey(manifest["kind"], manifest["metadata"]["name"])


def desired_object(snap: Snapshot, key: ObjectKey) -> Manifest | None:
    """The child as the spec asks for it, None if it does not ask for it."""
    return snap.desired_by_key.get(key)


def fingerprint(value: Any) -> str:
    """SHA-256 of the canonical JSON of ``value``."""
    return hashlib.sha256(_CANONICAL.encode(value).encode()).hexdigest()


def stamped(manifest: Manifest) -> dict[str, Any]:
    """The manifest with the hash of itself, so that a field that we stop sending is noticed later."""
    metadata = dict(manifest["metadata"])
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_APPLIED: fingerprint(manifest)}
    return {**manifest, "metadata": {**metadata, "annotations": annotations}}


def difference(desired: Manifest, live: Manifest) -> str | None:
    """Where ``live`` differs from ``desired``, as a path for people; None if every field that we send is in force."""
    applied = live["metadata"].get("annotations", {}).get(names.ANNOTATION_APPLIED)
    path = _difference(desired, live, "")
    if path is None and applied != fingerprint(desired):
        return "fields that we no longer set"
    return path


def in_force(desired: Any, live: Any) -> bool:
    """Every field of ``desired`` has its value in ``live``."""
    return _difference(desired, live, "") is None


def _difference(desired: Any, live: Any, path: str) -> str | None:
    if desired == live:
        return None
    if isinstance(desired, Mapping):
        if not isinstance(live, Mapping):
            return path
        for key, value in desired.items():
            found = _difference(value, live.get(key), f"{path}.{key}" if path else key)
            if found is not None:
                return found
        return None
    if isinstance(desired, Sequence) and not isinstance(desired, str):
        return _list_difference(desired, live, path)
    return path


def _list_difference(desired: Sequence[Any], live: Any, path: str) -> str | None:
    """Lists of named things may have gained others' entries (sidecars, injected volumes); other lists must be equal."""
    if not isinstance(live, Sequence) or isinstance(live, str):
        return path if desired else None
    if desired and all(isinstance(item, Mapping) and "name" in item for item in desired):
        by_name = {item.get("name"): item for item in live if isinstance(item, Mapping)}
        pairs = [(item, by_name.get(item["name"]), f"{path}[{item['name']}]") for item in desired]
    else:
        if len(desired) != len(live):
            return path
        pairs = [(d, item, f"{path}[{i}]") for i, (d, item) in enumerate(zip(desired, live, strict=True))]
    return next((found for d, item, p in pairs if (found := _difference(d, item, p)) is not None), None)


def partition_of(statefulset: Manifest) -> int:
    """The rolling update partition of a StatefulSet."""
    rolling = statefulset["spec"].get("updateStrategy", {}).get("rollingUpdate", {})
    return int(rolling.get("partition", 0))


def with_members(statefulset: Manifest, count: int) -> dict[str, Any]:
    """The same StatefulSet with another number of members, all of them behind its partition."""
    return with_partition({**statefulset, "spec": {**statefulset["spec"], "replicas": count}}, count)


def with_partition(statefulset: Manifest, partition: int) -> dict[str, Any]:
    """The same StatefulSet with another partition."""
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": partition}}
    return {**statefulset, "spec": {**statefulset["spec"], "updateStrategy": strategy}}
