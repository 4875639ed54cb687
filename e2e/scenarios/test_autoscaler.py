"""Kubernetes' own autoscaler adds a shard when the primaries are busy and takes it away when they are not."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

import pytest
import yaml
from kubernetes.utils import parse_quantity

from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.install import REPOSITORY, Installation
from e2e.kube import ApiError, Kube, Obj
from e2e.load import Load
from e2e.recorder import Recorder

pytestmark = pytest.mark.alone

EXAMPLE: Final = REPOSITORY / "examples" / "autoscaled.yaml"
METRICS: Final = "/apis/metrics.k8s.io/v1beta1"
REQUEST: Final = Decimal("0.1")
"""What each node asks for, in cores: utilization is a percentage of it."""
LOAD: Final = 0.45
"""Cores of load on all primaries together."""
TARGET: Final = Decimal("0.8")
"""Of what a third of the load is measured as: 3 shards are a quarter above the target, and 4 close to it."""
FEW: Final = Decimal("0.003")
SCALE_SECONDS: Final = 180.0
"""Generous: elsewhere metrics may be a minute old and the autoscaler look every 15 seconds."""


@pytest.fixture(scope="module")
def shared_cluster(installation: Installation, kube: Kube, shared_namespace: str) -> Cluster:
    """A 3 x 1 cluster whose nodes ask for CPU; its version moves slots without sending clients back and forth."""
    try:
        kube.raw(METRICS)
    except ApiError:
        if installation.platform.name == "local":
            raise
        pytest.skip("this cluster has no metrics-server")
    cluster = Cluster(kube, shared_namespace, "cart")
    resources = {"requests": {"cpu": str(REQUEST), "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    cluster.apply({**small_spec(), "version": "9.1", "resources": resources})
    cluster.until_whole()
    return cluster


class Autoscaler:
    """A HorizontalPodAutoscaler that scales a cluster by the CPU time of the pods that its scale subresource names."""

    def __init__(self, cart: Cluster) -> None:
        self._cart = cart

    def start(self, utilization: int) -> None:
        """That of the example, with another target, and in no hurry to be slow."""
        documents = yaml.safe_load_all(EXAMPLE.read_text())
        manifest: Obj = next(d for d in documents if d["kind"] == "HorizontalPodAutoscaler")
        manifest["metadata"] = {"name": self._cart.name, "namespace": self._cart.namespace}
        spec = manifest["spec"]
        spec["scaleTargetRef"]["name"] = self._cart.name
        spec["metrics"][0]["resource"]["target"]["averageUtilization"] = utilization
        spec["behavior"]["scaleUp"]["stabilizationWindowSeconds"] = 0
        spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] = 15
        self._cart.kube.apply(manifest)

    def status(self) -> Obj:
        """As it was last written; empty before the first time."""
        found = self._cart.kube.get("HorizontalPodAutoscaler", self._cart.namespace, self._cart.name)
        return dict(found.get("status", {}))

    def measured(self) -> Decimal | None:
        """The average that it last saw, in cores; None before it saw any."""
        current = self.status().get("currentMetrics") or [{}]
        average = current[0].get("resource", {}).get("current", {}).get("averageValue")
        return None if average is None else parse_quantity(average)

    def sizes(self) -> list[str]:
        """What it did, in order."""
        events = [
            e
            for e in self._cart.kube.list("Event", self._cart.namespace)
            if e["involvedObject"]["kind"] == "HorizontalPodAutoscaler" and e["reason"] == "SuccessfulRescale"
        ]
        return [str(e["message"]).partition(";")[0] for e in sorted(events, key=lambda e: str(e["firstTimestamp"]))]


def selector(cart: Cluster) -> str:
    """The pods that an autoscaler is to look at, as the scale subresource tells."""
    return str(scale(cart)["status"]["selector"])


def scale(cart: Cluster) -> Obj:
    """The scale subresource."""
    group = "/apis/cachecluster.dev/v1alpha1"
    found: Obj = json.loads(cart.kube.raw(f"{group}/namespaces/{cart.namespace}/cacheclusters/{cart.name}/scale"))
    return found


def usage(cart: Cluster, labels: str, since: datetime | None = None) -> Decimal | None:
    """Average CPU time in cores of the pods with these labels; None if one was not measured, all of it `since` then."""
    answer = cart.kube.request("GET", f"{METRICS}/namespaces/{cart.namespace}/pods", labelSelector=labels)
    items = json.loads(answer)["items"]
    pods = cart.kube.list("Pod", cart.namespace, labels)
    if {i["metadata"]["name"] for i in items} != {p["metadata"]["name"] for p in pods}:
        return None
    if since is not None and any(began(item) < since.timestamp() for item in items):
        return None
    used = [parse_quantity(c["usage"]["cpu"]) for item in items for c in item["containers"]]
    return sum(used, Decimal(0)) / len(items)


def began(item: Obj) -> float:
    """When the window of a measurement began, in seconds of Unix time."""
    return datetime.fromisoformat(item["timestamp"]).timestamp() - float(item["window"].removesuffix("s"))


def test_autoscaler_follows_the_load_of_the_primaries(
    installation: Installation, cart: Cluster, shopper: Client, recorder: Recorder
) -> None:
    shopper.write(2000, "autoscaled")
    before = cart.uids()
    autoscaler = Autoscaler(cart)
    load = Load(installation.kube, cart.namespace, cart.name, installation.image)
    with recorder.writing():
        with load.burning(LOAD):
            started = datetime.now(UTC)
            busy = cart.until("the load is measured", lambda: usage(cart, selector(cart), started), SCALE_SECONDS)
            autoscaler.start(round(TARGET * busy / REQUEST * 100))
            cart.until("it has seen the primaries alone", lambda: sees_primaries_alone(cart, autoscaler), SCALE_SECONDS)

            cart.until("it adds a shard", lambda: scale(cart)["spec"]["replicas"] == 4, SCALE_SECONDS)
            cart.until_whole()
            cart.assert_even(4)
            assert scale(cart)["status"]["replicas"] == 4
            assert len(cart.kube.list("Pod", cart.namespace, selector(cart))) == 4, "one primary for each shard"
            cart.until("it has seen all four", lambda: sees_primaries_alone(cart, autoscaler), SCALE_SECONDS)
            assert autoscaler.status()["currentReplicas"] == 4

        cart.until("it takes the shard away", lambda: scale(cart)["spec"]["replicas"] == 3, SCALE_SECONDS)
        cart.until_whole()
        cart.assert_even(3)
    assert cart.uids() == before
    assert autoscaler.sizes() == ["New size: 4", "New size: 3"]
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == 0, str(recorder.history)
    assert shopper.count(2000, "autoscaled") == 2000


def sees_primaries_alone(cart: Cluster, autoscaler: Autoscaler) -> bool:
    """Its average is that of the primaries, and not that of all pods: replicas have next to no load."""
    measured = autoscaler.measured()
    primaries, everybody = usage(cart, selector(cart)), usage(cart, f"cachecluster.dev/cluster={cart.name}")
    if measured is None or primaries is None or everybody is None:
        return False
    return abs(measured - primaries) <= FEW and abs(measured - everybody) > 5 * FEW
