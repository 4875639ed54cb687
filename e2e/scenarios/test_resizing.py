"""More and less memory, and larger volumes, for a cluster that is in use: no pod restarts, no write fails."""

import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest

from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.engines import Engines
from e2e.install import Installation
from e2e.kube import Kube, condition, is_true
from e2e.recorder import Recorder

MIB: Final = 2**20
SOON_SECONDS: Final = 120.0


def limits(cart: Cluster) -> dict[str, str]:
    """Memory limits that are in force, by pod, as the kubelets report them."""
    found = {}
    for pod in cart.pods():
        status = next(c for c in pod["status"]["containerStatuses"] if c["name"] == "engine")
        found[pod["metadata"]["name"]] = str(status.get("resources", {}).get("limits", {}).get("memory"))
    return found


def have(cart: Cluster, limit: str) -> bool:
    """Every pod has it."""
    return set(limits(cart).values()) == {limit}


def memory(limit: str, request: str = "64Mi") -> dict[str, Any]:
    """An edit of the spec."""
    return {"resources": {"limits": {"memory": limit}, "requests": {"memory": request}}}


def test_memory_goes_up_and_down_in_place(kube: Kube, cart: Cluster, shopper: Client, recorder: Recorder) -> None:
    engines = Engines(kube, cart)
    shopper.write(200, "memory")
    before = cart.uids()
    with recorder.writing():
        for limit, mebibytes in (("256Mi", 256), ("160Mi", 160)):
            cart.edit(memory(limit, "96Mi"))
            cart.until(f"every pod has {limit}", partial(have, cart, limit), SOON_SECONDS)
            cart.until_whole()
            assert engines.values("maxmemory") == {str(mebibytes * MIB * 60 // 100)}
            assert cart.uids() == before, "a pod or a container was restarted"
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == 0, str(recorder.history)
    assert cart.uids() == before
    assert shopper.count(200, "memory") == 200
    assert cart.read()["status"].get("pendingModifications", []) == []

    victim = cart.replica_of(1)
    kube.delete("Pod", cart.namespace, victim.name)
    cart.until("the pod is another one", lambda: cart.uids().get(victim.name, (victim.uid, 0))[0] != victim.uid)
    cart.until_whole()
    assert limits(cart)[victim.name] == "160Mi"
    assert engines.value(victim.name, "maxmemory") == str(160 * MIB * 60 // 100)
    assert {name: seen for name, seen in cart.uids().items() if name != victim.name}.items() <= before.items()


def test_a_request_that_no_machine_has_room_for_stops_at_the_first_pod(cart: Cluster) -> None:
    """The kubelets say that it is infeasible; the roll that comes instead finds no place either, and can be undone."""
    before = cart.uids()
    small = cart.read()["spec"]["resources"]
    cart.edit(memory("900Gi", "900Gi"))
    cart.until_condition("Stalled", "True")
    assert is_true(cart.read(), "Ready")
    cart.edit({"resources": small})
    cart.until_whole(within=600)
    kept = before.items() & cart.uids().items()
    assert len(kept) >= len(before) - 1, "more than one pod was touched"


@pytest.fixture
def classes(kube: Kube) -> Iterator[tuple[str, str]]:
    """Two StorageClasses like the default one: volumes of the first may grow, of the second not."""
    mark = "storageclass.kubernetes.io/is-default-class"
    default = next(c for c in kube.list("StorageClass") if c["metadata"].get("annotations", {}).get(mark) == "true")
    kept: dict[str, Any] = {
        k: default[k] for k in ("provisioner", "parameters", "reclaimPolicy", "volumeBindingMode") if k in default
    }
    suffix = secrets.token_hex(3)
    names = (f"growing-{suffix}", f"fixed-{suffix}")
    for name in names:
        head = {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": name}}
        kube.create({**head, **kept, "allowVolumeExpansion": name == names[0]})
    yield names
    for name in names:
        kube.delete("StorageClass", "", name)


def storage(name: str, size: str) -> dict[str, Any]:
    """A spec's persistence."""
    return {"mode": "AppendOnly", "size": size, "storageClassName": name}


def claims(cart: Cluster) -> dict[str, str]:
    """What the cluster's volume claims ask for."""
    found = cart.kube.list("PersistentVolumeClaim", cart.namespace, f"cachecluster.dev/cluster={cart.name}")
    return {c["metadata"]["name"]: str(c["spec"]["resources"]["requests"]["storage"]) for c in found}


def play_the_storage_driver(kube: Kube, cart: Cluster, size: str) -> None:
    """The provisioner of this Kubernetes makes directories and resizes nothing: report what a CSI driver would."""
    for name in claims(cart):
        claim = kube.get("PersistentVolumeClaim", cart.namespace, name)
        kube.patch("PersistentVolume", "", claim["spec"]["volumeName"], {"spec": {"capacity": {"storage": size}}})
        kube.patch_status("PersistentVolumeClaim", cart.namespace, name, {"capacity": {"storage": size}})


def test_volumes_grow_under_a_running_cluster(
    installation: Installation, kube: Kube, here: str, classes: tuple[str, str]
) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=2, replicas=1, persistence=storage(classes[0], "256Mi")))
    cart.until_whole()
    before = cart.uids()
    formed = {s["metadata"]["name"]: s["metadata"] for s in kube.list("StatefulSet", here)}
    kube.patch("StatefulSet", here, "cart-0", {"metadata": {"annotations": {"example.com/owner": "shop"}}})
    recorder = Recorder(kube, here, "cart", installation.image)
    with recorder.writing():
        cart.edit({"persistence": {"size": "512Mi"}})
        cart.until("every claim asks for more", lambda: set(claims(cart).values()) == {"512Mi"}, SOON_SECONDS)
        cart.until_condition("Reconciling", "True", "ResizingVolumes")
        assert "persistence.size" in cart.read()["status"]["pendingModifications"]
        play_the_storage_driver(kube, cart, "512Mi")
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == 0, str(recorder.history)
    assert cart.uids() == before, "a pod or a container was restarted"
    for statefulset in kube.list("StatefulSet", here):
        meta, was = statefulset["metadata"], formed[statefulset["metadata"]["name"]]
        assert meta["uid"] != was["uid"], "the StatefulSet was not created again"
        assert meta["annotations"]["cachecluster.dev/formed"] == was["annotations"]["cachecluster.dev/formed"]
        assert meta["name"] != "cart-0" or meta["annotations"]["example.com/owner"] == "shop"
    assert cart.read()["status"]["effective"]["volumeSize"] == "512Mi"
    assert not [c for c in kube.list("ConfigMap", here) if c["metadata"]["name"].endswith("-record")]

    cart.edit({"topology": {"replicasPerShard": 2}})
    cart.until_whole()
    assert claims(cart)["data-cart-0-2"] == "512Mi"
    assert {name: seen for name, seen in cart.uids().items() if name in before} == before


def test_volumes_that_cannot_grow_are_explained_and_left_alone(kube: Kube, here: str, classes: tuple[str, str]) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=1, replicas=1, persistence=storage(classes[1], "256Mi")))
    cart.until_whole()
    before, sets = cart.uids(), [s["metadata"]["uid"] for s in kube.list("StatefulSet", here)]
    cart.edit({"persistence": {"size": "512Mi"}})
    found = cart.until_condition("Stalled", "True", "VolumeNotExpandable")
    assert f"StorageClass {classes[1]} does not allow it" in found["message"]
    assert is_true(cart.read(), "Ready")
    assert set(claims(cart).values()) == {"256Mi"}
    assert [s["metadata"]["uid"] for s in kube.list("StatefulSet", here)] == sets
    cart.edit({"persistence": {"size": "256Mi"}})
    cart.until_whole()
    assert condition(cart.read(), "Stalled")["status"] == "False"
    assert cart.uids() == before
