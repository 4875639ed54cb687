"""StatefulSet of one shard. Its pod template is byte-stable: what does not change a pod must not change a byte (S9)."""

from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, PersistenceMode, ResourceList
from cachecluster.domain.drift import fingerprint
from cachecluster.domain.resizing import fixed_hash
from cachecluster.domain.snapshot import Manifest
from cachecluster.manifests import amounts
from cachecluster.manifests.facts import Facts
from cachecluster.manifests.metadata import cluster_selector, metadata, recommended_labels, shard_selector
from cachecluster.manifests.scheduling import scheduling
from cachecluster.manifests.valkey_conf import ACL_DIRECTORY, CONFIG_DIRECTORY, DATA_DIRECTORY, LIVE_DIRECTORY

ENGINE_UID: Final = 999
"""User ``valkey`` of the upstream images; numeric, because the kubelet can prove only that not to be root."""
_READ_ONLY: Final = 0o444
_GROUP_READ_ONLY: Final = 0o440


def shard_statefulset(spec: CacheClusterSpec, facts: Facts, shard: int, members: int, config_name: str) -> Manifest:
    """StatefulSet of ``shard``; its partition is the number of members, so that no pod moves to a new template
    before the operator lowers it.
    """
    ref = facts.ref
    template = _marked(_template(spec, facts, shard, config_name))
    annotations = {names.ANNOTATION_TEMPLATE: fingerprint(template)}
    if formed := facts.formed.get(shard):
        annotations[names.ANNOTATION_FORMED] = str(formed)
    if history := facts.histories.get(shard):
        annotations[names.ANNOTATION_HISTORY] = history
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(ref, names.shard_name(ref.name, shard), shard=shard, annotations=annotations),
        "spec": {
            "replicas": members,
            "serviceName": names.nodes_service(ref.name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": members}},
            "selector": {"matchLabels": shard_selector(ref, shard)},
            "template": template,
            **_volume_claims(spec, facts, shard),
        },
    }


def image(spec: CacheClusterSpec) -> str:
    """The image to run: the user's own, or upstream's for the version."""
    return spec.image or f"valkey/valkey:{spec.version}"


def _marked(template: dict[str, Any]) -> dict[str, Any]:
    """With the hash by which a pod tells later whether it can become like another template while it runs."""
    metadata = template["metadata"]
    annotations = {**metadata.get("annotations", {}), names.ANNOTATION_FIXED: fixed_hash(template)}
    return {**template, "metadata": {**metadata, "annotations": dict(sorted(annotations.items()))}}


def _template(spec: CacheClusterSpec, facts: Facts, shard: int, config_name: str) -> dict[str, Any]:
    ref, overlay = facts.ref, spec.pod
    labels = dict((overlay.labels if overlay else None) or {})
    labels |= recommended_labels(ref) | shard_selector(ref, shard)
    annotations = dict((overlay.annotations if overlay else None) or {})
    if restart := facts.restarts.get(shard):
        annotations[names.ANNOTATION_RESTARTED] = restart
    priority = overlay.priority_class_name if overlay else None
    pull_secrets = sorted({secret.name for secret in spec.image_pull_secrets or []})
    return {
        "metadata": {
            "labels": dict(sorted(labels.items())),
            **({"annotations": dict(sorted(annotations.items()))} if annotations else {}),
        },
        "spec": {
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": amounts.grace_seconds(spec),
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": ENGINE_UID,
                "runAsGroup": ENGINE_UID,
                "fsGroup": ENGINE_UID,
                "fsGroupChangePolicy": "OnRootMismatch",
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            **({"priorityClassName": priority} if priority else {}),
            **({"imagePullSecrets": [{"name": name} for name in pull_secrets]} if pull_secrets else {}),
            **scheduling(spec.placement, cluster_selector(ref), shard_selector(ref, shard)),
            "containers": [_container(spec, facts, shard)],
            "volumes": _volumes(spec, facts, config_name),
        },
    }


def _container(spec: CacheClusterSpec, facts: Facts, shard: int) -> dict[str, Any]:
    listening = {"tcpSocket": {"port": "cache"}}
    return {
        "name": names.CONTAINER,
        "image": image(spec),
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", f"{CONFIG_DIRECTORY}/start.sh"],
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}},
            {"name": "SHARD", "value": str(shard)},
        ],
        "ports": [
            {"name": "cache", "containerPort": names.CACHE_PORT, "protocol": "TCP"},
            {
                "name": "bus",
                "containerPort": names.bus_port(facts.ref.namespace, facts.ref.name),
                "protocol": "TCP",
            },
        ],
        "resources": _resources(spec),
        "startupProbe": {**listening, "periodSeconds": 1, "failureThreshold": amounts.startup_seconds(spec)},
        # Only a dead listener: a busy, loading or slow node is alive, and killing it costs its data.
        "livenessProbe": {**listening, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "readinessProbe": {
            "exec": {"command": ["sh", f"{CONFIG_DIRECTORY}/ready.sh"]},
            "periodSeconds": 2,
            "timeoutSeconds": 5,
            "failureThreshold": 3,
        },
        "lifecycle": {"preStop": {"exec": {"command": ["sh", f"{CONFIG_DIRECTORY}/handover.sh"]}}},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "volumeMounts": [
            {"name": names.CONFIG_VOLUME, "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": names.LIVE_VOLUME, "mountPath": LIVE_DIRECTORY, "readOnly": True},
            {"name": "acl", "mountPath": ACL_DIRECTORY, "readOnly": True},
            {"name": names.DATA_VOLUME, "mountPath": DATA_DIRECTORY},
        ],
    }


def _resources(spec: CacheClusterSpec) -> dict[str, Any]:
    requests = _amounts(spec.resources.requests)
    return {"limits": _amounts(spec.resources.limits), **({"requests": requests} if requests else {})}


def _amounts(listed: ResourceList | None) -> dict[str, str]:
    if listed is None:
        return {}
    return {
        **({"cpu": amounts.cpu(listed.cpu)} if listed.cpu is not None else {}),
        **({"memory": amounts.memory(listed.memory)} if listed.memory is not None else {}),
    }


def _volumes(spec: CacheClusterSpec, facts: Facts, config_name: str) -> list[dict[str, Any]]:
    live_name = names.live_config_map(facts.ref.name, spec.version)
    volumes: list[dict[str, Any]] = [
        {"name": names.CONFIG_VOLUME, "configMap": {"name": config_name, "defaultMode": _READ_ONLY}},
        {"name": names.LIVE_VOLUME, "configMap": {"name": live_name, "defaultMode": _READ_ONLY}},
        {"name": "acl", "secret": {"secretName": names.acl_secret(facts.ref.name), "defaultMode": _GROUP_READ_ONLY}},
    ]
    if spec.persistence_mode is PersistenceMode.NONE:
        volumes.append({"name": names.DATA_VOLUME, "emptyDir": {}})
    return volumes


def _volume_claims(spec: CacheClusterSpec, facts: Facts, shard: int) -> dict[str, Any]:
    persistence = spec.persistence
    if persistence is None or persistence.mode is PersistenceMode.NONE or persistence.size is None:
        return {}
    storage_class = persistence.storage_class_name
    claim = {
        "metadata": {
            "name": names.DATA_VOLUME,
            "labels": recommended_labels(facts.ref) | shard_selector(facts.ref, shard),
            "annotations": {names.ANNOTATION_CLUSTER_UID: facts.ref.uid},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "volumeMode": "Filesystem",
            **({"storageClassName": storage_class} if storage_class is not None else {}),
            "resources": {"requests": {"storage": facts.volume_sizes.get(shard) or amounts.memory(persistence.size)}},
        },
    }
    return {
        "volumeClaimTemplates": [claim],
        # A StatefulSet that somebody deletes comes back and finds its volumes; they go with the CacheCluster (S6).
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }
