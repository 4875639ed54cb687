"""Actions on Kubernetes objects."""

import asyncio
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.actions import (
    AdoptRevision,
    Apply,
    CreateSystemSecret,
    Delete,
    DetachPods,
    EndPod,
    ExpandVolume,
    LabelRole,
    MovePod,
    RemoveReplicas,
    ResizePod,
    RestoreMetadata,
    RollPod,
    SettleShard,
)
from cachecluster.domain.drift import in_force, partition_of, stamped
from cachecluster.domain.hanging import can_do_without
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.quantity import to_bytes
from cachecluster.domain.records import tells_all
from cachecluster.domain.snapshot import Manifest, ObjectKey, Pod
from cachecluster.engines.client import NoAnswer, NodeError
from cachecluster.kube.api import Conflict, NotFound
from cachecluster.manifests import Passwords, system_secret
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.pods import parse_pod

API_VERSIONS = {
    "ConfigMap": "v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
    "PodDisruptionBudget": "policy/v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}

HUNG_GRACE_SECONDS: Final = 1
LAST_LOOK_SECONDS: Final = 2.0
LAST_WORD_SECONDS: Final = 1.0
"""So long a process that hangs is given to say something before it is ended."""


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
    """Apply the StatefulSet with its new partition or number of members.

    Raises Doubt if the StatefulSet controller would then replace a pod that is being resized, beside the one that it is
    to replace, or if somebody has just deleted another one of the shard (S7).
    """
    if isinstance(action, RollPod):
        for ordinal in range(action.manifest["spec"]["replicas"]):
            if ordinal != action.ordinal:
                await _check_stays(action.shard, ordinal, context)
    first = action.ordinal + 1 if isinstance(action, RollPod) else partition_of(action.manifest)
    for ordinal in range(first, action.manifest["spec"]["replicas"]):
        await _check_has_revision(action.shard, ordinal, context)
    await _apply(action.manifest, action.uid, context)


async def _check_stays(shard: int, ordinal: int, context: Context) -> None:
    name = names.pod_name(context.ref.name, shard, ordinal)
    if "deletionTimestamp" in await _pod_metadata(name, context):
        raise Doubt(f"{name} is being deleted")


async def _check_has_revision(shard: int, ordinal: int, context: Context) -> None:
    name = names.pod_name(context.ref.name, shard, ordinal)
    labels = (await _pod_metadata(name, context)).get("labels", {})
    if labels.get(names.LABEL_REVISION) == names.no_revision(context.ref.name, shard):
        raise Doubt(f"{name} is being resized")


async def _pod_metadata(name: str, context: Context) -> Mapping[str, Any]:
    """Empty: there is no such pod."""
    try:
        pod = await context.deps.kube.get("v1", "Pod", context.ref.namespace, name)
    except NotFound:
        return {}
    metadata: Mapping[str, Any] = pod["metadata"]
    return metadata


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
    """Delete exactly the object that was seen; raises Doubt for a ConfigMap that a pod mounts after all (S11), and for
    a pod that is ready after all (S1).
    """
    match action.key.kind:
        case "ConfigMap":
            await _check_unused(action.key.name, context)
        case "Pod":
            pod = parse_pod(await _live("v1", action.key, action.uid, context))
            if pod is None or pod.ready:
                raise Doubt(f"{action.key.name} is ready by now")
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


async def end_pod(action: EndPod, context: Context) -> None:
    """Delete the pod with next to no grace: its hook and its signal would be for a process that does not listen."""
    body = await _live("v1", ObjectKey("Pod", action.node.pod), action.node.uid, context)
    await asyncio.gather(_check_is_kept(action, context), _check_says_nothing(action, context))
    await context.delete_pod(body, HUNG_GRACE_SECONDS)


async def _check_is_kept(action: EndPod, context: Context) -> None:
    """Raises Doubt if the node that has the data, and does not hear of the process either, is not what it was."""
    async with asyncio.timeout(LAST_WORD_SECONDS), context.node(action.keeper, stays=True) as keeper:
        if not can_do_without(await keeper.view(), action.node.node_id):
            raise Doubt(f"{action.keeper.pod} has heard of {action.node.pod}, or does not have all of its data")


async def _check_says_nothing(action: EndPod, context: Context) -> None:
    """Raises Doubt if the process says anything at all, or is not there any more."""
    nodes, password = context.deps.nodes, context.known_passwords().operator
    try:
        async with asyncio.timeout(LAST_WORD_SECONDS), nodes.connect(action.node.ip, password) as node:
            await node.node_id()
    except (NoAnswer, TimeoutError):
        return
    except NodeError as e:
        raise Doubt(f"{action.node.pod} does not hang any more: {e}") from e
    raise Doubt(f"{action.node.pod} answers again")


async def move_pod(action: MovePod, context: Context) -> None:
    """Delete the pod of a replica that is in step with a primary that serves (S7)."""
    body = await _live("v1", ObjectKey("Pod", action.node.pod), action.node.uid, context)
    async with (
        asyncio.timeout(LAST_LOOK_SECONDS),
        context.node(action.primary, stays=True) as primary,
        context.node(action.node) as replica,
    ):
        leader, follower = await asyncio.gather(primary.view(), replica.view())
    if not (leader.leads and leader.myself.slots and leader.cluster_state_ok):
        raise Doubt(f"{action.primary.pod} does not serve any more")
    if not follower.keeps_up_with(leader.node_id):
        raise Doubt(f"{action.node.pod} is not in step with {action.primary.pod}")
    await context.delete_pod(body)


async def label_role(action: LabelRole, context: Context) -> None:
    """Merge the label into the pod, by its uid: a pod of the same name that came later is not touched."""
    patch = {"metadata": {"uid": action.uid, "labels": {names.LABEL_ROLE: action.role.value}}}
    await context.deps.kube.merge_patch("v1", "Pod", context.ref.namespace, action.pod, patch)


async def expand_volume(action: ExpandVolume, context: Context) -> None:
    """Raise what the claim asks for; it is never lowered, whatever was read before."""
    live = await _live("v1", ObjectKey("PersistentVolumeClaim", action.claim), action.uid, context)
    if to_bytes(live["spec"]["resources"]["requests"]["storage"]) >= to_bytes(action.size):
        return
    meta = {"uid": action.uid, "resourceVersion": live["metadata"]["resourceVersion"]}
    patch = {"metadata": meta, "spec": {"resources": {"requests": {"storage": action.size}}}}
    await context.deps.kube.merge_patch("v1", "PersistentVolumeClaim", context.ref.namespace, action.claim, patch)


async def detach_pods(action: DetachPods, context: Context) -> None:
    """Delete the StatefulSet alone, in the very version of which the record says everything (S2)."""
    live = await _live("apps/v1", action.key, action.uid, context)
    try:
        record = await context.deps.kube.get("v1", "ConfigMap", context.ref.namespace, action.record.name)
    except NotFound as e:
        raise Doubt(f"{action.record} is gone") from e
    if owner_uid(record) != context.ref.uid or not tells_all(record, live):
        raise Doubt(f"{action.key} knows more by now than {action.record}")
    try:
        await context.deps.kube.delete(
            "apps/v1",
            action.key.kind,
            context.ref.namespace,
            action.key.name,
            uid=action.uid,
            resource_version=live["metadata"]["resourceVersion"],
            orphan=True,
        )
    except Conflict as e:
        raise Doubt(f"{action.key} has changed since it was read") from e


async def restore_metadata(action: RestoreMetadata, context: Context) -> None:
    """Merge what others had put there, by a manager of its own kind: our next apply does not take it away."""
    patch = {"metadata": {"uid": action.uid, "labels": action.labels, "annotations": action.annotations}}
    key = action.key
    await context.deps.kube.merge_patch(API_VERSIONS[key.kind], key.kind, context.ref.namespace, key.name, patch)


async def resize_pod(action: ResizePod, context: Context) -> None:
    """Ask the kubelet for other resources; a pod of the same name that came later is not touched."""
    kube, namespace = context.deps.kube, context.ref.namespace
    body = await _live("v1", ObjectKey("Pod", action.pod), action.uid, context)
    pod = parse_pod(body)
    if pod is None:
        raise Doubt(f"{action.pod} is none of our pods any more")
    none = names.no_revision(context.ref.name, pod.shard)
    if pod.revision != none:
        await _check_is_left_alone(pod, context)
        meta = {"uid": action.uid, "resourceVersion": body["metadata"]["resourceVersion"]}
        patch = {"metadata": {**meta, "labels": {names.LABEL_REVISION: none}}}
        await kube.merge_patch("v1", "Pod", namespace, action.pod, patch)
    context.require_leadership()
    await kube.resize_pod(namespace, action.pod, action.uid, names.CONTAINER, action.resources)


async def _check_is_left_alone(pod: Pod, context: Context) -> None:
    """Without a revision, a pod that is not below the partition would be replaced at once."""
    name = names.shard_name(context.ref.name, pod.shard)
    try:
        owner = await context.deps.kube.get("apps/v1", "StatefulSet", context.ref.namespace, name)
    except NotFound:
        return
    if pod.ordinal >= partition_of(owner):
        raise Doubt(f"StatefulSet {name} may replace {pod.name} just now")


async def adopt_revision(action: AdoptRevision, context: Context) -> None:
    """Label the pod, if it still has those resources and they still are what the newest revision asks for."""
    kube, namespace = context.deps.kube, context.ref.namespace
    body = await _live("v1", ObjectKey("Pod", action.pod), action.uid, context)
    pod = parse_pod(body)
    if pod is None or pod.shape is None or not in_force(action.resources, pod.shape.resources):
        raise Doubt(f"{action.pod} has other resources by now")
    try:
        owner = await kube.get("apps/v1", "StatefulSet", namespace, names.shard_name(context.ref.name, pod.shard))
    except NotFound as e:
        raise Doubt(f"the StatefulSet of {action.pod} is gone") from e
    status = owner.get("status", {})
    current = status.get("observedGeneration", 0) >= owner["metadata"].get("generation", 0)
    if not current or status.get("updateRevision") != action.revision:
        raise Doubt(f"{action.pod} is to run another template by now")
    meta = {"uid": action.uid, "resourceVersion": body["metadata"]["resourceVersion"]}
    patch = {"metadata": {**meta, "labels": {names.LABEL_REVISION: action.revision}}}
    await kube.merge_patch("v1", "Pod", namespace, action.pod, patch)


async def _live(api_version: str, key: ObjectKey, uid: str, context: Context) -> Manifest:
    """The object that was seen, as it is now; raises Doubt if it is gone or another one."""
    try:
        live = await context.deps.kube.get(api_version, key.kind, context.ref.namespace, key.name)
    except NotFound as e:
        raise Doubt(f"{key} is gone") from e
    if live["metadata"]["uid"] != uid or "deletionTimestamp" in live["metadata"]:
        raise Doubt(f"{key} is another object by now")
    return live
