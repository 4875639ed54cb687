"""What a deleted CacheCluster needs beyond garbage collection: volumes by policy, and its system Secret let go."""

from cachecluster.api import names
from cachecluster.api.spec import DeletionPolicy
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.api import NotFound
from cachecluster.reconcile.dependencies import Dependencies


async def tear_down(ref: ClusterRef, deps: Dependencies) -> None:
    """Delete the volumes if the user has asked for that (S6), then remove our finalizer from the system Secret.

    Everything else goes by owner references. Safe to repeat; raises KubeError.
    """
    if await _volumes_are_to_go(ref, deps):
        await _delete_volumes(ref, deps)
    await _release_passwords(ref, deps)


async def _volumes_are_to_go(ref: ClusterRef, deps: Dependencies) -> bool:
    """Only at the explicit word of the cluster that is being deleted; in doubt they stay."""
    try:
        body = await deps.kube.get(names.API_VERSION, names.KIND, ref.namespace, ref.name)
    except NotFound:
        return False
    return bool(body["metadata"]["uid"] == ref.uid and body["spec"].get("deletionPolicy") == DeletionPolicy.DELETE)


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
