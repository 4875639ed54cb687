"""Objects of ours that the spec no longer asks for."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import DeletionPolicy
from cachecluster.domain.actions import Delete
from cachecluster.domain.drift import key_of
from cachecluster.domain.plan import Do, Verdict
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.records import is_record
from cachecluster.domain.rolled import template_hash
from cachecluster.domain.snapshot import Manifest

REMOVABLE: Final = frozenset({"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Service"})


def remove_leftovers(now: Situation) -> Iterator[Verdict]:
    """Delete what nothing uses; a ConfigMap stays while a pod may still start with it."""
    wanted = now.snap.desired_by_key
    for key, live in sorted(now.snap.children.items()):
        if key in wanted or key.kind not in REMOVABLE or owner_uid(live) != now.snap.ref.uid or is_record(key):
            continue
        if "deletionTimestamp" in live["metadata"] or (key.kind == "ConfigMap" and not _rolled_out(now)):
            continue
        meta = live["metadata"]
        yield Do(Delete(key, meta["uid"], meta["resourceVersion"]), Reason.CLEANING_UP, f"{key} is not needed any more")


def _rolled_out(now: Situation) -> bool:
    """Every pod runs the wanted template, so that none starts with an earlier ConfigMap any more."""
    sets = [o for k, o in now.snap.children.items() if k.kind == "StatefulSet"]
    wanted = {key_of(m): template_hash(m) for m in now.snap.desired}
    return (
        bool(sets)
        and all(_complete(o) and template_hash(o) == wanted.get(key_of(o)) for o in sets)
        and len(now.snap.pods) == sum(o["spec"]["replicas"] for o in sets)
        and {p.revision for p in now.snap.pods} <= {o["status"]["updateRevision"] for o in sets}
    )


def _complete(statefulset: Manifest) -> bool:
    status = statefulset.get("status", {})
    return bool(
        status.get("observedGeneration") == statefulset["metadata"].get("generation")
        and status.get("currentRevision") == status.get("updateRevision")
    )


def remove_volumes(now: Situation) -> Iterator[Verdict]:
    """Volumes of members that were removed: kept, unless the user wants volumes deleted, and no slot waits for data."""
    if now.spec.deletion_policy is not DeletionPolicy.DELETE or now.topology.uncovered:
        return
    expected = {
        names.volume_claim(now.snap.ref.name, s.index, o) for s in now.topology.shards for o in range(s.expected)
    }
    mounted = {names.volume_claim(now.snap.ref.name, pod.shard, pod.ordinal) for pod in now.snap.pods}
    for key, claim in sorted(now.snap.children.items()):
        meta = claim["metadata"]
        if key.kind != "PersistentVolumeClaim" or key.name in expected | mounted or "deletionTimestamp" in meta:
            continue
        if meta.get("annotations", {}).get(names.ANNOTATION_CLUSTER_UID) == now.snap.ref.uid:
            message = f"{key} of a removed member is deleted, as deletionPolicy says"
            yield Do(Delete(key, meta["uid"], meta["resourceVersion"]), Reason.CLEANING_UP, message)


POLICIES: Final = (remove_leftovers, remove_volumes)
