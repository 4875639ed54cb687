"""Actions on Kubernetes objects."""

from dataclasses import fields

from cachecluster.api import names
from cachecluster.domain.actions import (
    Apply,
    CreateSystemSecret,
    Delete,
    LabelRole,
    RemoveReplicas,
    RollPod,
    SettleShard,
)
from cachecluster.domain.drift import stamped
from cachecluster.domain.snapshot import Manifest
from cachecluster.kube.api import Conflict, NotFound
from cachecluster.manifests import Passwords, system_secret
from cachecluster.reconcile.context import Context, Doubt

API_VERSIONS = {
    "ConfigMap": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}


async def create_system_secret(_: CreateSystemSecret, context: Context) -> None:
    """POST new passwords; one that exists already wins, since a stale read must not overwrite it (design §2)."""
    passwords = Passwords(**{f.name: context.deps.generate_password() for f in fields(Passwords)})
    try:
        await context.deps.kube.create(system_secret(context.ref, passwords))
    except Conflict as e:
        raise Doubt("the Secret exists already") from e


async def apply(action: Apply, context: Context) -> None:
    """Server-side apply; an object that was there is replaced only if it is still the same one."""
    await _apply(action.manifest, action.uid, context, action.resource_version)


async def change_shard(action: RollPod | RemoveReplicas | SettleShard, context: Context) -> None:
    """Apply the StatefulSet with its new partition or number of members."""
    await _apply(action.manifest, action.uid, context)


async def _apply(manifest: Manifest, uid: str | None, context: Context, version: str | None = None) -> None:
    stamp = stamped(manifest)
    if uid is not None:
        stamp["metadata"] = {**stamp["metadata"], "uid": uid}
    if version is None:
        await context.deps.kube.apply(stamp)
        return
    stamp["metadata"]["resourceVersion"] = version
    try:
        await context.deps.kube.apply(stamp)
    except Conflict as e:
        raise Doubt(f"{manifest['kind']} {manifest['metadata']['name']} has changed since it was read") from e


async def delete(action: Delete, context: Context) -> None:
    """Delete exactly the object that was seen; raises Doubt for a ConfigMap that a pod mounts after all (S11)."""
    if action.key.kind == "ConfigMap":
        await _check_unused(action.key.name, context)
    await context.deps.kube.delete(
        API_VERSIONS[action.key.kind],
        action.key.kind,
        context.ref.namespace,
        action.key.name,
        uid=action.uid,
        resource_version=action.resource_version,
    )


async def _check_unused(config_map: str, context: Context) -> None:
    """Pods are read once more, each by itself: a pod that has been replaced since starts with another ConfigMap."""
    kube, namespace = context.deps.kube, context.ref.namespace
    pods = await kube.list("v1", "Pod", namespace, f"{names.LABEL_CLUSTER}={context.ref.name}")
    for name in [pod["metadata"]["name"] for pod in pods]:
        try:
            pod = await kube.get("v1", "Pod", namespace, name)
        except NotFound as e:
            raise Doubt(f"{name} is being replaced") from e
        volumes = pod["spec"].get("volumes", ())
        if any(v.get("configMap", {}).get("name") == config_map for v in volumes):
            raise Doubt(f"{name} mounts ConfigMap {config_map}")


async def label_role(action: LabelRole, context: Context) -> None:
    """Merge the label into the pod, by its uid: a pod of the same name that came later is not touched."""
    patch = {"metadata": {"uid": action.uid, "labels": {names.LABEL_ROLE: action.role.value}}}
    await context.deps.kube.merge_patch("v1", "Pod", context.ref.namespace, action.pod, patch)
