"""Brings the operator onto a cluster as a user does: images on the nodes, the chart by Helm, then its conditions."""

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.diagnosis import OPERATOR_NAMESPACE, OPERATOR_SELECTOR, explain
from e2e.kube import Kube, Obj, is_true, pod_is_ready, wait
from e2e.platform import Access, Platform, PlatformError

REPOSITORY: Final = Path(__file__).resolve().parents[1]
CHART: Final = REPOSITORY / "helm" / "cachecluster-operator"
RELEASE: Final = "cachecluster-operator"
CRD: Final = "cacheclusters.cachecluster.dev"
TAG: Final = "dev"
HELM_SECONDS: Final = 300.0
READY_SECONDS: Final = 180.0


@dataclass(frozen=True, slots=True)
class Installation:
    """A platform with the operator on it."""

    platform: Platform
    access: Access
    kube: Kube
    image: str
    """The operator's image; client pods run from it too."""

    def upgrade(self, values: Mapping[str, Any] | None = None, image: str | None = None) -> None:
        """`helm upgrade --install` with these values alone, then wait until the new operator is in charge."""
        helm(self.access, image or self.image, values or {})
        until_operator_ready(self.kube)

    def operator_pods(self) -> list[Obj]:
        """The operator's pods."""
        return self.kube.list("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)

    def operator_logs(self) -> str:
        """Everything that the running operator pods have logged."""
        return "\n".join(self.kube.logs(OPERATOR_NAMESPACE, p["metadata"]["name"]) for p in self.operator_pods())

    def kill_operator(self) -> None:
        """Delete the operator's pods without any grace, as when their node is lost."""
        for pod in self.operator_pods():
            self.kube.delete("Pod", OPERATOR_NAMESPACE, pod["metadata"]["name"], grace_seconds=0)

    def metrics(self) -> str:
        """Metrics of the leading operator pod, through the API server's proxy."""
        pages = (
            self.kube.raw(f"/api/v1/namespaces/{OPERATOR_NAMESPACE}/pods/{p['metadata']['name']}:9090/proxy/metrics")
            for p in self.operator_pods()
            if pod_is_ready(p)
        )
        leading = [page for page in pages if "\ncachecluster_leader 1.0" in page]
        assert leading, "no operator pod leads"
        return leading[0]


def install(platform: Platform, families: tuple[str, ...], values: Mapping[str, Any] | None = None) -> Installation:
    """Bring up the platform (or use it) and install the operator; raises PlatformError."""
    access, kube = attach_kube(platform)
    platform.load_engines(families)
    installation = Installation(platform, access, kube, platform.load_operator(TAG))
    installation.upgrade(values)
    return installation


def attach_kube(platform: Platform) -> tuple[Access, Kube]:
    """The way to a platform, with nothing installed; raises PlatformError."""
    access = platform.up()
    return access, Kube(access.kubeconfig, access.context, access.kubectl)


def helm(access: Access, image: str, values: Mapping[str, Any]) -> None:
    """`helm upgrade --install`; the values go through stdin."""
    repository, _, tag = image.rpartition(":")
    chosen = {**values, "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}}
    argv = [
        *(*access.helm, "upgrade", "--install", RELEASE, str(CHART)),
        *("--namespace", OPERATOR_NAMESPACE, "--create-namespace", "--values", "-"),
    ]
    try:
        done = subprocess.run(
            argv, input=json.dumps(chosen), capture_output=True, text=True, timeout=HELM_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"helm did not end within {HELM_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise PlatformError(f"helm upgrade failed: {done.stderr.strip()}")


def uninstall(access: Access) -> None:
    """Remove the release; the CRD and cache clusters stay as the chart says."""
    argv = [*access.helm, "uninstall", RELEASE, "--namespace", OPERATOR_NAMESPACE, "--ignore-not-found", "--wait"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=HELM_SECONDS, check=False)
    if done.returncode != 0:
        raise PlatformError(f"helm uninstall failed: {done.stderr.strip()}")


def until_operator_ready(kube: Kube) -> None:
    """Wait until the CRD is served and every replica of the latest revision is ready, with no older pod left."""

    def probe() -> bool:
        established = is_true(kube.get("CustomResourceDefinition", "", CRD), "Established")
        deployment = kube.get("Deployment", OPERATOR_NAMESPACE, RELEASE)
        status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
        pods = kube.list("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
        return bool(
            established
            and status.get("observedGeneration") == deployment["metadata"]["generation"]
            and status.get("updatedReplicas") == status.get("readyReplicas") == wanted
            and len(pods) == wanted
            and all(pod_is_ready(p) for p in pods)
        )

    wait("the operator is ready", probe, READY_SECONDS, lambda: explain(kube, OPERATOR_NAMESPACE))
