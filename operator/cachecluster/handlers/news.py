"""What the handlers read from watch events: a few facts of each object, never kept whole."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.reconcile.wake import ClusterKey


def ref_of(body: Mapping[str, Any]) -> ClusterRef:
    """Reference to a CacheCluster."""
    metadata = body["metadata"]
    return ClusterRef(metadata["namespace"], metadata["name"], metadata["uid"])


def deleting(body: Mapping[str, Any]) -> bool:
    """The object is marked for deletion."""
    return "deletionTimestamp" in body["metadata"]


def cluster_of(child: Mapping[str, Any]) -> ClusterKey | None:
    """The cluster that a child belongs to, by its owner if that is one, else by its label."""
    metadata = child["metadata"]
    owner = _owner(metadata)
    name = owner["name"] if owner else (metadata.get("labels") or {}).get(names.LABEL_CLUSTER)
    return ClusterKey(metadata["namespace"], name) if name else None


def orphaned_system_secret(secret: Mapping[str, Any]) -> ClusterRef | None:
    """The owner of a system Secret that is being deleted and waits for our finalizer."""
    metadata = secret["metadata"]
    if names.SYSTEM_SECRET_FINALIZER not in (metadata.get("finalizers") or ()) or not deleting(secret):
        return None
    owner = _owner(metadata)
    return ClusterRef(metadata["namespace"], owner["name"], owner["uid"]) if owner else None


def _owner(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    owners = metadata.get("ownerReferences") or ()
    return next((o for o in owners if o["kind"] == names.KIND and o["apiVersion"].startswith(f"{names.GROUP}/")), None)


class ClusterNews:
    """Tells news about a CacheCluster from the echo of our own status writes."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._seen: dict[str, tuple[int, str]] = {}

    def observe(self, ref: ClusterRef, body: Mapping[str, Any]) -> tuple[bool, bool]:
        """Whether anything but the status changed, and whether the spec did."""
        metadata = body["metadata"]
        generation = int(metadata.get("generation") or 0)
        facts = {k: metadata.get(k) for k in ("annotations", "labels", "finalizers", "deletionTimestamp")}
        digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
        old = self._seen.get(ref.uid)
        self._seen[ref.uid] = (generation, digest)
        return old != (generation, digest), old is None or old[0] != generation

    def forget(self, ref: ClusterRef) -> None:
        """The cluster was deleted."""
        self._seen.pop(ref.uid, None)

    @staticmethod
    def conditions(body: Mapping[str, Any]) -> dict[str, str]:
        """Status of each condition, by type."""
        found = (body.get("status") or {}).get("conditions") or ()
        return {c["type"]: c["status"] for c in found}
