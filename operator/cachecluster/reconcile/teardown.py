"""What a deleted CacheCluster needs beyond garbage collection: pods without an owner, volumes by policy, its system
Secret let go."""

from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import DeletionPolicy
from cachecluster.domain.drift import key_of
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.records import is_record
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.kube.api import NotFound
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.pods import parse_pod

REVISION: Final = ("apps/v1", "ControllerRevision")


async def tear_down(ref: ClusterRef, deps: Dependencies) -> None:
    """Delete the volumes if the user has asked for that (S6), then remove our finalizer from the system Secret.

    Everything else goes by owner references. Safe to repeat; raises KubeError.
    """
    body = await _dying(ref, deps)
    if body is not None:
        await _delete_detached(ref, deps)
        if body["spec"].get("deletionPolicy") == DeletionPolicy.DELETE:
            await _delete_volumes(ref, deps)
    await _release_passwords(ref, deps)


async def _dying(ref: ClusterRef, deps: Dependencies) -> Manifest | None:
    """The cluster that is being deleted; None if it is gone already: in doubt its volumes stay."""
    try:
        body = await deps.kube.get(names.API_VERSION, names.KIND, ref.namespace, ref.name)
    except NotFound:
        return None
    return body if body["metadata"]["uid"] == ref.uid else None


async def _delete_detached(ref: ClusterRef, deps: Dependencies) -> None:
    """While a StatefulSet is being created again, garbage collection finds neither its pods nor its revisions."""
    ours = f"{names.LABEL_CLUSTER}={ref.name}"
    records = await deps.kube.list("v1", "ConfigMap", ref.namespace, ours)
    shards = {key_of(r).name.removesuffix(names.RECORD_SUFFIX) for r in records if is_record(key_of(r))}
    for body in await deps.kube.list("v1", "Pod", ref.namespace, ours):
        pod = parse_pod(body)
        controlled = any(o.get("controller") for o in body["metadata"].get("ownerReferences", ()))
        if pod is not None and (not controlled or names.shard_name(ref.name, pod.shard) in shards):
            await deps.kube.delete("v1", "Pod", ref.namespace, pod.name, uid=pod.uid, resource_version=None)
    for revision in await deps.kube.list(*REVISION, ref.namespace, ours) if shards else ():
        meta = revision["metadata"]
        if meta["name"].rpartition("-")[0] in shards:
            await deps.kube.delete(*REVISION, ref.namespace, meta["name"], uid=meta["uid"], resource_version=None)


async def _delete_volumes(ref: ClusterRef, deps: Dependencies) -> None:
    """First the StatefulSets, which would create the claims again; a claim stays until its pod has ended."""
    ours = f"{names.LABEL_CLUSTER}={ref.name}"
    for found in await deps.kube.list("apps/v1", "StatefulSet", ref.namespace, ours):
        meta = found["metadata"]
        if owner_uid(found) == ref.uid:
            await deps.kube.delete(
                "apps/v1", "StatefulSet", ref.namespace, meta["name"], uid=meta["uid"], resource_version=None
            )
    for claim in await deps.kube.list("v1", "PersistentVolumeClaim", ref.namespace, ours):
        meta = claim["metadata"]
        if meta.get("annotations", {}).get(names.ANNOTATION_CLUSTER_UID) == ref.uid:
            await deps.kube.delete(
                "v1", "PersistentVolumeClaim", ref.namespace, meta["name"], uid=meta["uid"], resource_version=None
            )


async def _release_passwords(ref: ClusterRef, deps: Dependencies) -> None:
    name = names.system_secret(ref.name)
    try:
        secret = await deps.kube.get("v1", "Secret", ref.namespace, name)
    except NotFound:
        return
    if owner_uid(secret) != ref.uid:
        return
    kept = [f for f in secret["metadata"].get("finalizers", ()) if f != names.SYSTEM_SECRET_FINALIZER]
    patch = {"metadata": {"uid": secret["metadata"]["uid"], "finalizers": kept}}
    await deps.kube.merge_patch("v1", "Secret", ref.namespace, name, patch)
