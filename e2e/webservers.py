"""Web servers in Pods of the local cluster, and Pods that call them: by these its own tests see whether it works."""

import json
from collections.abc import Callable
from typing import Any, Final

from e2e.localcluster.cluster import LocalCluster
from e2e.localcluster.commands import wait_until
from e2e.localcluster.instance import LocalClusterError
from e2e.localcluster.pause import PAUSE_REF

SECONDS: Final = 120.0
"""Upper bound of every wait."""
ZONE_LABEL: Final = "topology.kubernetes.io/zone"
USER: Final = 4711
"""Uid of the web servers and their callers."""

Manifest = dict[str, Any]


def kubectl(cluster: LocalCluster, *args: str, stdin: str | None = None) -> str:
    """What kubectl prints; fails if it fails."""
    done = cluster.kubectl(*args, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def apply(cluster: LocalCluster, *objects: Manifest) -> None:
    """kubectl apply, all at once."""
    kubectl(cluster, "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}))


def get(cluster: LocalCluster, *args: str) -> Manifest:
    """kubectl get, parsed."""
    found: Manifest = json.loads(kubectl(cluster, "get", *args, "-o", "json"))
    return found


def inside(cluster: LocalCluster, name: str, *command: str) -> str:
    """What a command in a Pod prints."""
    return kubectl(cluster, "exec", name, "--", *command).strip()


def fetch(cluster: LocalCluster, source: str, host: str) -> str:
    """What a web server answers to a Pod; empty if it does not."""
    call = ("exec", source, "--", "timeout", "3", "wget", "-qO-", f"http://{host}:8080/")
    return cluster.kubectl(*call).stdout


def until_ready(cluster: LocalCluster, *names: str) -> None:
    """Wait for Pods."""
    wait_for(f"{', '.join(names)} ready", lambda: all(is_ready(cluster, name) for name in names), cluster)


def is_ready(cluster: LocalCluster, name: str) -> bool:
    """It is ready, and to stay."""
    found = cluster.kubectl("get", "pod", name, "-o", "json")
    if found.returncode != 0:
        return False
    facts: Manifest = json.loads(found.stdout)
    conditions = {c["type"]: c["status"] for c in facts["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in facts["metadata"]


def wait_for(what: str, probe: Callable[[], bool], cluster: LocalCluster) -> None:
    """Wait; a failure shows the Events."""
    try:
        wait_until(what, probe, SECONDS)
    except LocalClusterError as error:
        events = cluster.kubectl("get", "events", "--sort-by=.lastTimestamp").stdout
        raise AssertionError(f"{error}\n{events}") from error


def node_of(cluster: LocalCluster, name: str) -> str:
    """Where a Pod runs."""
    return str(get(cluster, "pod", name)["spec"]["nodeName"])


def started(cluster: LocalCluster, name: str) -> str | None:
    """When the container that runs now was started; None while none does."""
    statuses = get(cluster, "pod", name)["status"].get("containerStatuses", [])
    return next((s["state"]["running"]["startedAt"] for s in statuses if "running" in s["state"]), None)


def pod(name: str) -> Manifest:
    """A Pod that does nothing."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": USER, "runAsNonRoot": True},
            "containers": [{"name": "main", "image": PAUSE_REF}],
        },
    }


def web_service(name: str = "web", *, headless: bool = True) -> Manifest:
    """A Service of the web servers."""
    spec: Manifest = {"selector": {"app": "web"}, "ports": [{"port": 8080}]}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {**spec, "clusterIP": "None"} if headless else spec,
    }


def web_statefulset(replicas: int) -> Manifest:
    """A web server with a volume in each zone, as a user that is not root."""
    serve = "hostname >> /data/index.html; exec httpd -f -p 8080 -h /data"
    template: Manifest = {
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": USER, "runAsNonRoot": True, "fsGroup": USER},
            "topologySpreadConstraints": [
                {
                    "maxSkew": 1,
                    "topologyKey": ZONE_LABEL,
                    "whenUnsatisfiable": "DoNotSchedule",
                    "labelSelector": {"matchLabels": {"app": "web"}},
                }
            ],
            "containers": [
                {
                    "name": "web",
                    "image": PAUSE_REF,
                    "command": ["sh", "-c", serve],
                    "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                }
            ],
        },
    }
    claim: Manifest = {
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {"name": "web"},
        "spec": {
            "replicas": replicas,
            "serviceName": "web",
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            "volumeClaimTemplates": [claim],
        },
    }


def allow_only(app: str) -> Manifest:
    """Only the Pod of this name may call the web servers."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {
            "podSelector": {"matchLabels": {"app": "web"}},
            "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": app}}}]}],
        },
    }
