"""What a StatefulSet knows and nobody else does, kept in a ConfigMap while it is deleted and created again.

Above all the slots that its shard has served (S2): killed between the two, the operator must still find them.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.snapshot import Manifest, ObjectKey

FILE: Final = "statefulset.json"
_OURS: Final = f"{names.GROUP}/"


def record_key(statefulset: str) -> ObjectKey:
    """The ConfigMap that belongs to the StatefulSet of this name."""
    return ObjectKey("ConfigMap", f"{statefulset}{names.RECORD_SUFFIX}")


def is_record(key: ObjectKey) -> bool:
    """Whether a child is such a ConfigMap."""
    return key.kind == "ConfigMap" and key.name.endswith(names.RECORD_SUFFIX)


def record_of(live: Manifest, desired: Manifest) -> Manifest:
    """The ConfigMap to write before ``live`` is deleted; labels and owner are those of ``desired``."""
    meta = desired["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": record_key(meta["name"]).name,
            "namespace": meta["namespace"],
            "labels": meta.get("labels", {}),
            "ownerReferences": meta["ownerReferences"],
        },
        "data": {FILE: json.dumps(_worth_keeping(live), sort_keys=True)},
    }


def _worth_keeping(live: Manifest) -> dict[str, Any]:
    """In the form of a StatefulSet, so that whoever reads one can read it."""
    meta, spec = live["metadata"], live["spec"]
    template = spec["template"].get("metadata", {})
    return {
        "metadata": {
            "name": meta["name"],
            "annotations": dict(meta.get("annotations", {})),
            "labels": dict(meta.get("labels", {})),
        },
        "spec": {
            "replicas": spec["replicas"],
            "template": {"metadata": {"annotations": dict(template.get("annotations") or {})}},
        },
    }


def tells_all(record: Manifest | None, live: Manifest) -> bool:
    """Whether nothing would be lost with ``live``."""
    return record is not None and recorded(record) == _worth_keeping(live)


def recorded(record: Manifest) -> Manifest | None:
    """The StatefulSet as recorded; None if somebody has made the record unreadable."""
    try:
        found = json.loads(record.get("data", {})[FILE])
    except (KeyError, ValueError):
        return None
    readable = (
        isinstance(found, dict) and isinstance(found.get("metadata"), dict) and isinstance(found.get("spec"), dict)
    )
    return found if readable else None


def live_or_recorded(children: Mapping[ObjectKey, Manifest], statefulset: str) -> Manifest | None:
    """The StatefulSet; while it is missing, what its record says of it."""
    live = children.get(ObjectKey("StatefulSet", statefulset))
    record = children.get(record_key(statefulset)) if live is None else None
    return recorded(record) if record is not None else live


def formed_slots(children: Mapping[ObjectKey, Manifest], statefulset: str) -> str:
    """The slots that the shard has served, as text: by its StatefulSet, else by its record; empty: none."""
    return _remembered(children, statefulset, names.ANNOTATION_FORMED)


def last_history(children: Mapping[ObjectKey, Manifest], statefulset: str) -> str:
    """The replication id that the shard's primary was last seen with, likewise; empty: none is known."""
    return _remembered(children, statefulset, names.ANNOTATION_HISTORY)


def _remembered(children: Mapping[ObjectKey, Manifest], statefulset: str, annotation: str) -> str:
    record = children.get(record_key(statefulset))
    sources = (children.get(ObjectKey("StatefulSet", statefulset)), recorded(record) if record is not None else None)
    texts = (s["metadata"].get("annotations", {}).get(annotation, "") for s in sources if s is not None)
    return next((text for text in texts if text), "")


def unrestored(record: Manifest, live: Manifest) -> tuple[dict[str, str], dict[str, str]]:
    """Labels and annotations that others had put on the StatefulSet and that it lacks since it was created again."""
    before = recorded(record)
    if before is None:
        return {}, {}
    lost = [
        {k: v for k, v in before["metadata"].get(field, {}).items() if k not in live["metadata"].get(field, {})}
        for field in ("labels", "annotations")
    ]
    return lost[0], {k: v for k, v in lost[1].items() if not k.startswith(_OURS)}
