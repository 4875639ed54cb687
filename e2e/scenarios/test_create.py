"""From `kubectl apply` to a cluster that serves, in every shape, and away again without a rest."""

from typing import Any

import pytest

from e2e import client
from e2e.cluster import Cluster, leftovers, small_spec
from e2e.install import Installation
from e2e.kube import Kube


def test_cluster_is_spread_over_zones_and_serves(installation: Installation, here: str) -> None:
    cart = Cluster(installation.kube, here, "cart")
    cart.apply(small_spec(shards=3, replicas=1, placement={"zones": ["a", "b", "c"], "spread": "Required"}))
    cart.until_whole()
    cart.assert_spread()
    cart.assert_balanced()
    application = client.start(installation.kube, installation.image, here, "cart")
    application.write(300, "first")
    assert application.count(300, "first") == 300
    assert_every_node_agrees(application, nodes=6, primaries=3)
    assert_status_tells_the_truth(cart)


@pytest.mark.parametrize(("shards", "replicas"), [(1, 0), (1, 2), (6, 1)])
def test_other_shapes(installation: Installation, here: str, shards: int, replicas: int) -> None:
    cart = Cluster(installation.kube, here, "cart")
    cart.apply(small_spec(shards=shards, replicas=replicas))
    cart.until_whole()
    cart.assert_spread()
    cart.assert_balanced()
    application = client.start(installation.kube, installation.image, here, "cart")
    application.write(100, "first")
    assert application.count(100, "first") == 100
    assert_every_node_agrees(application, nodes=shards * (1 + replicas), primaries=shards)


@pytest.mark.parametrize("version", ["8.0", "9.1"])
def test_other_engine_versions(installation: Installation, here: str, version: str) -> None:
    cart = Cluster(installation.kube, here, "cart")
    cart.apply({**small_spec(shards=2, replicas=1), "version": version})
    cart.until_whole()
    assert cart.read()["status"]["effective"]["version"].startswith(version)
    application = client.start(installation.kube, installation.image, here, "cart")
    application.write(100, "first")
    assert application.count(100, "first") == 100


@pytest.mark.parametrize("mode", ["AppendOnly", "Snapshot"])
def test_data_on_volumes_outlives_every_pod(installation: Installation, here: str, mode: str) -> None:
    kube = installation.kube
    cart = Cluster(kube, here, "cart")
    storage = {"mode": mode, "size": "256Mi"}
    cart.apply(small_spec(shards=3, replicas=1, persistence=storage, deletionPolicy="Delete"))
    cart.until_whole()
    application = client.start(kube, installation.image, here, "cart")
    application.write(200, "kept")

    before = cart.uids()
    for pod in before:
        kube.delete("Pod", here, pod)
    cart.until("all pods are new", lambda: not (before.items() & cart.uids().items()) and len(cart.uids()) == 6)
    cart.until_whole()

    assert application.count(200, "kept") == 200
    cart.delete()
    cart.until("nothing is left, volumes included", lambda: leftovers_but_client(kube, here) == [])


def test_deletion_leaves_nothing_behind(kube: Kube, here: str) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=3, replicas=0))
    cart.until_whole()
    cart.delete()
    cart.until("the resource is gone", lambda: kube.find("CacheCluster", here, "cart") is None, within=120)
    cart.until("nothing is left", lambda: leftovers(kube, here, "cart") == [], within=120)


def test_deletion_in_the_middle_of_formation_leaves_nothing_behind(kube: Kube, here: str) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=3, replicas=1))
    cart.until("the first pod is there", lambda: bool(cart.pods()))
    cart.delete()
    cart.until("nothing is left", lambda: leftovers(kube, here, "cart") == [], within=120)


def test_volumes_are_kept_by_default(kube: Kube, here: str) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=1, replicas=0, persistence={"mode": "AppendOnly", "size": "256Mi"}))
    cart.until_whole()
    cart.delete()
    cart.until("the pods are gone", lambda: not cart.pods() and kube.find("CacheCluster", here, "cart") is None)
    assert [c["metadata"]["name"] for c in kube.list("PersistentVolumeClaim", here)] == ["data-cart-0-0"]


def leftovers_but_client(kube: Kube, namespace: str) -> list[str]:
    """What is left of the cluster beside the scenario's own client."""
    return [found for found in leftovers(kube, namespace, "cart") if not found.endswith("/cart-client")]


def assert_every_node_agrees(application: client.Client, nodes: int, primaries: int) -> None:
    """All nodes list the same ids, with the same roles."""
    views: dict[str, list[dict[str, Any]]] = application.ask("nodes")
    pictures = {tuple(sorted((row["id"], "master" in row["flags"]) for row in view)) for view in views.values()}
    assert len(views) == nodes, f"the client found {sorted(views)}"
    assert len(pictures) == 1, f"nodes disagree: {views}"
    picture = pictures.pop()
    assert len(picture) == nodes
    assert sum(is_primary for _, is_primary in picture) == primaries


def assert_status_tells_the_truth(cart: Cluster) -> None:
    """Shards, zones and endpoint in the status are those of the pods."""
    status = cart.read()["status"]
    members = {m.name: m for m in cart.members()}
    for shard in status["shards"]:
        assert members[shard["primary"]["pod"]].role == "primary"
        for reported in (shard["primary"], *shard["replicas"]):
            assert reported["zone"] == members[reported["pod"]].zone
        assert all(replica["synced"] for replica in shard["replicas"])
    assert [s["slots"] for s in status["shards"]] == ["0-5460", "5461-10921", "10922-16383"]
    assert status["endpoints"]["configuration"] == {"host": f"cart.{cart.namespace}.svc", "port": 6379}
    assert status["effective"]["version"].startswith("8.1")
