"""Whoever deletes or edits what belongs to a cluster: it comes back, and no pod restarts for it."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pytest
from redis.crc import key_slot

from e2e import client
from e2e.cluster import CLUSTER_LABEL, Cluster, small_spec
from e2e.install import Installation
from e2e.kube import Kube, Obj, condition, is_true

EDITS: Final[tuple[tuple[str, str, Obj], ...]] = (
    ("Service", "cart", {"spec": {"selector": {CLUSTER_LABEL: "nobody"}}}),
    ("Service", "cart-nodes", {"spec": {"publishNotReadyAddresses": False}}),
    ("Secret", "cart-auth", {"data": {"password": "Z3Vlc3NlZA=="}}),
    ("Secret", "cart-connection", {"data": {"host": None}}),
    ("Secret", "cart-acl", {"data": {"users-8.1.acl": ""}}),
    ("PodDisruptionBudget", "cart-primaries", {"spec": {"minAvailable": 0}}),
    ("PodDisruptionBudget", "cart-1-replicas", {"spec": {"minAvailable": 1}}),
    ("NetworkPolicy", "cart", {"spec": {"ingress": []}}),
    ("StatefulSet", "cart-1", {"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 1}}}}),
    ("StatefulSet", "cart-2", {"spec": {"updateStrategy": {"rollingUpdate": {"partition": 1}}}}),
    ("StatefulSet", "cart-0", {"metadata": {"labels": {CLUSTER_LABEL: "nobody"}}}),
)
DELETABLE: Final = ("Service", "Secret", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy")
BACK_SECONDS: Final = 60.0


@pytest.mark.parametrize(("kind", "name", "edit"), EDITS, ids=lambda value: value if isinstance(value, str) else "")
def test_edited_child_is_put_right(kube: Kube, cart: Cluster, kind: str, name: str, edit: dict[str, Any]) -> None:
    pods = cart.uids()
    before = content(kube.get(kind, cart.namespace, name))
    edited = kube.patch(kind, cart.namespace, name, edit)
    assert content(edited) != before, "the edit has changed nothing"
    cart.until(
        f"{kind} {name} is as before", lambda: content(kube.get(kind, cart.namespace, name)) == before, BACK_SECONDS
    )
    cart.until_whole()
    assert cart.uids() == pods, "a pod was restarted"


def test_deleted_children_come_back(kube: Kube, cart: Cluster) -> None:
    pods = cart.uids()
    children = [
        (kind, child)
        for kind in DELETABLE
        for child in kube.list(kind, cart.namespace, f"{CLUSTER_LABEL}={cart.name}")
        if child["metadata"]["name"] != "cart-system"
    ]
    assert len(children) >= 11, [child["metadata"]["name"] for _, child in children]
    for kind, child in children:
        kube.delete(kind, cart.namespace, child["metadata"]["name"])
    for kind, child in children:
        cart.until(f"{kind} {child['metadata']['name']} is back", partial(is_back, kube, kind, child))
    cart.until_whole()
    assert cart.uids() == pods, "a pod was restarted"


def test_deleted_statefulset_adopts_its_pods_again(kube: Kube, cart: Cluster) -> None:
    pods = cart.uids()
    child = kube.get("StatefulSet", cart.namespace, "cart-0")
    path = f"/apis/apps/v1/namespaces/{cart.namespace}/statefulsets/cart-0"
    kube.request("DELETE", path, {"propagationPolicy": "Orphan"})
    cart.until("StatefulSet cart-0 is back", lambda: is_back(kube, "StatefulSet", child))
    cart.until_whole()
    assert cart.uids() == pods, "a pod was restarted"


def test_deleted_system_secret_is_held_and_no_password_changes(kube: Kube, cart: Cluster) -> None:
    before = cart.secret("system")
    kube.delete("Secret", cart.namespace, "cart-system")
    cart.until("the event says so", lambda: [e for e in cart.events() if e["reason"] == "SystemSecretDeleted"])
    after = cart.secret("system")
    assert (after["metadata"]["uid"], after["data"]) == (before["metadata"]["uid"], before["data"])
    assert is_true(cart.read(), "Ready")


def test_s2_shard_that_lost_every_pod_is_whole_again_and_says_what_was_lost(kube: Kube, here: str) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=3, replicas=1))
    cart.until_whole()
    before = cart.uids()
    lose(kube, cart, shard=0, statefulset=True)
    cart.until_whole()
    assert is_true(cart.read(), "DataLoss"), cart.read()["status"]["conditions"]
    assert cart.read()["status"]["dataLoss"]["state"] == "StartedEmpty"
    assert [e["type"] for e in cart.events() if e["reason"] == "DataLoss"] == ["Warning"]
    others = {name: seen for name, seen in before.items() if not name.startswith("cart-0-")}
    assert others.items() <= cart.uids().items(), "a pod of another shard was restarted"


def test_s2_shard_that_lost_every_pod_waits_for_approval_and_the_next_loss_for_another(
    kube: Kube, installation: Installation, here: str
) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=3, replicas=1, recovery={"onDataLoss": "WaitForApproval"}))
    cart.until_whole()
    shopper = client.start(kube, installation.image, here, cart.name)
    incidents: list[str] = []
    for statefulset in (False, True):
        lose(kube, cart, shard=0, statefulset=statefulset)
        loss = cart.until("the loss waits", lambda: waiting_loss(cart, incidents), 180)
        incidents.append(loss["incident"])
        command = f"cachecluster.dev/approve-data-loss={loss['incident']} --overwrite"
        assert cart.until_condition("Stalled", "True", "DataLoss")["message"].endswith(command)
        assert not is_true(cart.read(), "Ready")
        assert loss["shards"] == [{"name": "cart-0", "slots": "0-5460"}]
        shopper.write(1, key_prefix(served=True))
        assert shopper.error("write", "1", key_prefix(served=False))
        annotation = {"metadata": {"annotations": {"cachecluster.dev/approve-data-loss": loss["incident"]}}}
        pods = cart.uids()
        kube.patch("CacheCluster", here, "cart", annotation)
        cart.until_whole()
        assert cart.uids() == pods, "a pod was restarted"
        assert cart.read()["status"]["dataLoss"]["state"] == "StartedEmpty"
        shopper.write(1, key_prefix(served=False))
    losses = [e["message"] for e in cart.events() if e["reason"] == "DataLoss"]
    assert len(losses) == len(set(incidents)) == 2, losses


def test_foreign_object_of_the_same_name_is_left_alone(kube: Kube, here: str) -> None:
    metadata = {"name": "cart", "namespace": here, "labels": {"made-by": "somebody-else"}}
    port = {"name": "web", "port": 80, "protocol": "TCP"}
    foreign = kube.create({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"ports": [port]}})
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=1, replicas=0))
    found = cart.until_condition("Stalled", "True", "ObjectNotOurs")
    assert "Service cart" in found["message"]
    live = kube.get("Service", here, "cart")
    assert content(live) == content(foreign)
    assert live["metadata"]["uid"] == foreign["metadata"]["uid"]
    kube.delete("Service", here, "cart")
    cart.until_whole()
    assert condition(cart.read(), "Stalled")["status"] == "False"


def lose(kube: Kube, cart: Cluster, *, shard: int, statefulset: bool) -> None:
    """All pods of a shard go at once; on request with the StatefulSet, which tells what it has served (ADR 0002)."""
    victims = {(name, seen) for name, seen in cart.uids().items() if name.startswith(f"cart-{shard}-")}
    if statefulset:
        kube.delete("StatefulSet", cart.namespace, f"cart-{shard}")
    for name, _ in victims:
        kube.delete("Pod", cart.namespace, name, grace_seconds=0)
    cart.until("the shard's pods are gone", lambda: not victims & cart.uids().items(), 120)


def waiting_loss(cart: Cluster, but: Sequence[str]) -> Obj | None:
    """A data loss that waits for approval and is none of ``but``."""
    found: Obj = cart.read()["status"].get("dataLoss", {})
    return found if found.get("state") == "WaitingForApproval" and found["incident"] not in but else None


def key_prefix(*, served: bool) -> str:
    """Whose first key belongs to one of the first shard's slots, or to another's."""
    names = (f"key{i}" for i in range(100))
    return next(name for name in names if (key_slot(f"{name}:0".encode()) > 5460) is served)


def content(obj: Obj) -> Obj:
    """What the operator has a say in."""
    kept = {key: value for key, value in obj.items() if key not in {"metadata", "status"}}
    return {**kept, "labels": obj["metadata"].get("labels"), "owners": obj["metadata"].get("ownerReferences")}


def is_back(kube: Kube, kind: str, before: Obj) -> bool:
    """The object is there under a new uid with what it held before."""
    live = kube.find(kind, before["metadata"]["namespace"], before["metadata"]["name"])
    if live is None or live["metadata"]["uid"] == before["metadata"]["uid"]:
        return False
    if kind == "Service":  # the API server hands out another address
        return bool(live["spec"]["selector"] == before["spec"]["selector"])
    return content(live) == content(before)
