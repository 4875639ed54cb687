"""The Kubernetes API as tests see it: plain dicts, every call bounded in time, every wait with a reason to fail by.

Synchronous on purpose: a scenario reads from top to bottom. Knows nothing of caches.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import urllib3
from kubernetes import client, config

Obj = dict[str, Any]
T = TypeVar("T")

REQUEST_SECONDS: Final = 20.0
POLL_SECONDS: Final = 0.25
MANAGER: Final = "e2e"

RESOURCES: Final[Mapping[str, tuple[str, str, bool]]] = {
    # kind: (apiVersion, plural, namespaced)
    "CacheCluster": ("cachecluster.dev/v1alpha1", "cacheclusters", True),
    "ConfigMap": ("v1", "configmaps", True),
    "ControllerRevision": ("apps/v1", "controllerrevisions", True),
    "CustomResourceDefinition": ("apiextensions.k8s.io/v1", "customresourcedefinitions", False),
    "Deployment": ("apps/v1", "deployments", True),
    "EndpointSlice": ("discovery.k8s.io/v1", "endpointslices", True),
    "Event": ("v1", "events", True),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers", True),
    "Lease": ("coordination.k8s.io/v1", "leases", True),
    "LimitRange": ("v1", "limitranges", True),
    "Namespace": ("v1", "namespaces", False),
    "NetworkPolicy": ("networking.k8s.io/v1", "networkpolicies", True),
    "Node": ("v1", "nodes", False),
    "PersistentVolume": ("v1", "persistentvolumes", False),
    "PersistentVolumeClaim": ("v1", "persistentvolumeclaims", True),
    "Pod": ("v1", "pods", True),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets", True),
    "ReplicaSet": ("apps/v1", "replicasets", True),
    "ResourceQuota": ("v1", "resourcequotas", True),
    "Secret": ("v1", "secrets", True),
    "Service": ("v1", "services", True),
    "ServiceAccount": ("v1", "serviceaccounts", True),
    "StorageClass": ("storage.k8s.io/v1", "storageclasses", False),
    "StatefulSet": ("apps/v1", "statefulsets", True),
}


class ApiError(Exception):
    """The API server answered with an error; `status` is HTTP's, 0 if there was no answer at all."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class TimedOut(AssertionError):
    """A condition did not come true in time; the message shows what was there instead."""


@dataclass(frozen=True, slots=True)
class Output:
    """What a command in a container printed, and how it ended."""

    code: int
    stdout: str
    stderr: str


class Kube:
    """One cluster through one kubeconfig. Kinds are those of `RESOURCES`."""

    def __init__(self, kubeconfig: Path, context: str | None, kubectl: Sequence[str]) -> None:
        self.kubectl = tuple(kubectl)
        """Command that runs kubectl against this very cluster."""
        settings = client.Configuration()
        config.load_kube_config(str(kubeconfig), context=context, client_configuration=settings)
        self._settings = settings
        self._http: urllib3.PoolManager = client.ApiClient(settings).rest_client.pool_manager

    def request(
        self, method: str, path: str, body: Any = None, content_type: str = "application/json", **query: str
    ) -> bytes:
        """One HTTP call; raises ApiError."""
        auth = self._settings.auth_settings().get("BearerToken")
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        if auth is not None:
            headers["Authorization"] = auth["value"]
        url = f"{self._settings.host}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            answer = self._http.request(
                method,
                url,
                body=None if body is None else json.dumps(body),
                headers=headers,
                timeout=urllib3.Timeout(total=REQUEST_SECONDS),
                retries=False,
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        if answer.status >= 400:
            raise ApiError(answer.status, _message(answer.data))
        return answer.data

    def get(self, kind: str, namespace: str, name: str) -> Obj:
        """Read one object; raises ApiError 404."""
        return _obj(self.request("GET", _path(kind, namespace, name)))

    def find(self, kind: str, namespace: str, name: str) -> Obj | None:
        """Read one object, None if there is none."""
        try:
            return self.get(kind, namespace, name)
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, namespace: str = "", selector: str = "") -> list[Obj]:
        """Read all objects of a namespace ("": of all) that match a label selector."""
        query = {"labelSelector": selector} if selector else {}
        items = _obj(self.request("GET", _path(kind, namespace), **query))["items"]
        api_version = RESOURCES[kind][0]
        return [{"apiVersion": api_version, "kind": kind, **item} for item in items]

    def create(self, manifest: Mapping[str, Any]) -> Obj:
        """POST; raises ApiError 409 if it exists."""
        return _obj(self.request("POST", _path(manifest["kind"], _namespace(manifest)), dict(manifest)))

    def apply(self, manifest: Mapping[str, Any], manager: str = MANAGER) -> Obj:
        """Server-side apply, forced, as `kubectl apply --server-side` does."""
        path = _path(manifest["kind"], _namespace(manifest), manifest["metadata"]["name"])
        answer = self.request(
            "PATCH",
            path,
            dict(manifest),
            "application/apply-patch+yaml",
            fieldManager=manager,
            force="true",
        )
        return _obj(answer)

    def patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Obj:
        """JSON merge patch, as `kubectl edit` and `kubectl patch --type=merge` send it."""
        path = _path(kind, namespace, name)
        return _obj(self.request("PATCH", path, dict(patch), "application/merge-patch+json", fieldManager=MANAGER))

    def patch_status(self, kind: str, namespace: str, name: str, status: Mapping[str, Any]) -> None:
        """Merge into the status, as a controller of the object does."""
        path = f"{_path(kind, namespace, name)}/status"
        patch = {"status": dict(status)}
        self.request("PATCH", path, patch, "application/merge-patch+json", fieldManager=MANAGER)

    def delete(self, kind: str, namespace: str, name: str, grace_seconds: int | None = None) -> None:
        """Delete in the background; an object that is gone already is fine."""
        options: Obj = {"propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self.request("DELETE", _path(kind, namespace, name), options)
        except ApiError as error:
            if error.status != 404:
                raise

    def evict(self, namespace: str, pod: str) -> None:
        """What `kubectl drain` does to one pod; raises ApiError 429 if a disruption budget forbids it."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": namespace}}
        self.request("POST", _path("Pod", namespace, pod) + "/eviction", eviction)

    def logs(self, namespace: str, pod: str, container: str = "", tail: int | None = None) -> str:
        """A container's output, from its start or the last lines."""
        query = {"container": container} if container else {}
        if tail is not None:
            query["tailLines"] = str(tail)
        return self.request("GET", _path("Pod", namespace, pod) + "/log", **query).decode(errors="replace")

    def raw(self, path: str) -> str:
        """Body of a GET, for example of `/metrics` or of a proxied pod port."""
        return self.request("GET", path).decode(errors="replace")

    def execute(self, namespace: str, pod: str, *command: str, container: str = "", within: float = 60.0) -> Output:
        """Run a command in a container through kubectl; the exit status is reported, not raised."""
        argv = [*self.kubectl, "exec", "-n", namespace, pod, *(["-c", container] if container else []), "--", *command]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=within, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{' '.join(command)} in {namespace}/{pod} did not end within {within:.0f} s") from error
        return Output(done.returncode, done.stdout, done.stderr)

    def watch(self, kind: str, namespace: str, seconds: float, version: str = "") -> Iterator[tuple[float, str, Obj]]:
        """Changes as (monotonic time, ADDED|MODIFIED|DELETED, object), until `seconds` have passed.

        Without `version` the objects that are there come first, as ADDED.
        """
        auth = self._settings.auth_settings().get("BearerToken")
        query = {"watch": "1", "timeoutSeconds": str(int(seconds)), **({"resourceVersion": version} if version else {})}
        answer = self._http.request(
            "GET",
            f"{self._settings.host}{_path(kind, namespace)}?{urlencode(query)}",
            headers={"Authorization": auth["value"]} if auth is not None else {},
            timeout=urllib3.Timeout(connect=REQUEST_SECONDS, read=seconds + REQUEST_SECONDS),
            preload_content=False,
            retries=False,
        )
        rest = b""
        try:
            for piece in answer.stream(amt=None):
                now = time.monotonic()
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield now, event["type"], event["object"]
        finally:
            answer.close()


def wait(what: str, probe: Callable[[], T | None], within: float, explain: Callable[[], str] | None = None) -> T:
    """Ask `probe` until it returns something truthy, and return that.

    An ApiError or AssertionError of the probe counts as "not yet". Raises TimedOut after `within` seconds, with the
    probe's last complaint and whatever `explain` has to say.
    """
    deadline = time.monotonic() + within
    complaint = ""
    while True:
        try:
            found = probe()
            if found:
                return found
            complaint = ""
        except (ApiError, AssertionError) as error:
            complaint = f"\nlast: {error}"
        if time.monotonic() > deadline:
            more = f"\n{explain()}" if explain is not None else ""
            raise TimedOut(f"not within {within:.0f} s: {what}{complaint}{more}")
        time.sleep(POLL_SECONDS)


def condition(obj: Mapping[str, Any], type_: str) -> Obj:
    """A condition of the object's status; an empty dict if it has none of that type."""
    found = [c for c in obj.get("status", {}).get("conditions", []) if c["type"] == type_]
    return found[0] if found else {}


def is_true(obj: Mapping[str, Any], type_: str) -> bool:
    """Whether a condition holds."""
    return condition(obj, type_).get("status") == "True"


def observed(obj: Mapping[str, Any]) -> bool:
    """Whether the status speaks of the latest spec."""
    return bool(obj.get("status", {}).get("observedGeneration") == obj["metadata"]["generation"])


def pod_is_ready(pod: Mapping[str, Any]) -> bool:
    """Ready and not on its way out."""
    return is_true(pod, "Ready") and "deletionTimestamp" not in pod["metadata"]


def _path(kind: str, namespace: str, name: str = "") -> str:
    api_version, plural, namespaced = RESOURCES[kind]
    root = f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"
    where = f"/namespaces/{namespace}" if namespaced and namespace else ""
    return f"{root}{where}/{plural}" + (f"/{name}" if name else "")


def _namespace(manifest: Mapping[str, Any]) -> str:
    return str(manifest["metadata"].get("namespace", ""))


def _obj(data: bytes) -> Obj:
    parsed: Obj = json.loads(data)
    return parsed


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data.decode(errors="replace")[:2000]
