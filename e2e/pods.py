"""Client pods: the operator's image (Python and redis-py) under the restricted Pod Security Standard."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from e2e.kube import Obj

CPU: Final = "100m"
"""What caches and their clients ask for, as in the examples: with less they wait for seconds on a busy machine."""


def client_pod(
    *,
    namespace: str,
    name: str,
    image: str,
    command: Sequence[str],
    connection: str | None = None,
    scripts: str | None = None,
    where: Mapping[str, str] | None = None,
    env: Mapping[str, str] | None = None,
) -> Obj:
    """A pod that runs `command` once, with the connection Secret as its environment and a ConfigMap at /scripts."""
    container: dict[str, Any] = {
        "name": "client",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "env": [{"name": key, "value": value} for key, value in (env or {}).items()],
        "resources": {"requests": {"cpu": CPU, "memory": "48Mi"}, "limits": {"memory": "256Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
    }
    if connection is not None:
        container["envFrom"] = [{"secretRef": {"name": connection}}]
    if scripts is not None:
        container["volumeMounts"] = [{"name": "scripts", "mountPath": "/scripts", "readOnly": True}]
        spec["volumes"] = [{"name": "scripts", "configMap": {"name": scripts}}]
    if where is not None:
        spec["nodeSelector"] = dict(where)
    metadata = {"name": name, "namespace": namespace, "labels": {"app.kubernetes.io/name": "cache-client"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
