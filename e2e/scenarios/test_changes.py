"""Edits of a running cluster: rolled pod by pod, held back where they fail, and never at the cost of data."""

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation
from e2e.kube import Kube, condition, is_true, pod_is_ready
from e2e.recorder import Recorder

ABSENT = "valkey/valkey:no-such-tag"

GAP_MILLISECONDS = 15_000
"""Generous: what a shard may be without writes while its primary hands over on a busy machine."""


def test_parameter_is_rolled_out_without_losing_a_write(cart: Cluster, shopper: Client, recorder: Recorder) -> None:
    shopper.write(200, "roll")
    before = cart.uids()
    hash_before = cart.read()["status"]["effective"]["parametersHash"]
    with recorder.writing():
        cart.edit({"parameters": {"io-threads": 2}})  # read only at a start before 9.0
        cart.until("the status names it", lambda: "parameters.io-threads" in pending(cart))
        cart.until_whole(within=600)
    recorder.history.assert_nothing_lost()
    assert recorder.history.longest_gap_milliseconds < GAP_MILLISECONDS, str(recorder.history)
    assert shopper.count(200, "roll") == 200
    assert not before.items() & cart.uids().items(), "some pod was not replaced"
    assert cart.read()["status"]["effective"]["parametersHash"] != hash_before
    assert pending(cart) == []
    cart.assert_spread()


def test_s11_absent_image_stops_at_the_first_pod_and_the_way_back_works(
    kube: Kube, cart: Cluster, shopper: Client, recorder: Recorder
) -> None:
    shopper.write(200, "stall")
    before = cart.uids()
    revisions = {m.name: m.revision for m in cart.members()}
    with recorder.writing():
        cart.edit({"image": ABSENT})
        found = cart.until_condition("Stalled", "True", "ImagePullFailed")
        assert ABSENT in found["message"]
        stuck = {name for name, seen in cart.uids().items() if before.get(name) != seen}
        assert len(stuck) == 1, f"more than one pod was touched: {stuck}"
        assert is_true(cart.read(), "Ready"), "one bad pod took the cluster down"

        # A primary is lost that the roll has not reached: its replica leads, and its pod comes back as it was.
        shard = 2 if not any(name.startswith("cart-2-") for name in stuck) else 1
        victim, heir = cart.primary_of(shard), cart.replica_of(shard)
        kube.delete("Pod", cart.namespace, victim.name, grace_seconds=0)
        cart.until("its replica leads", lambda: cart.primary_of(shard).name == heir.name)
        cart.until("the killed pod runs again", lambda: runs_again(kube, cart, victim.name, victim.uid))
        assert {m.name: m.revision for m in cart.members()}[victim.name] == revisions[victim.name]
        assert image_of(kube, cart, victim.name) != ABSENT

        cart.edit({"image": None})
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    assert shopper.count(200, "stall") == 200
    assert condition(cart.read(), "Stalled")["status"] == "False"


def test_absent_image_at_creation_is_explained_and_corrected(installation: Installation, here: str) -> None:
    cart = Cluster(installation.kube, here, "cart")
    cart.apply(small_spec(image=ABSENT))
    found = cart.until_condition("Stalled", "True", "ImagePullFailed")
    assert ABSENT in found["message"]
    assert "spec.image" in found["message"]
    assert [e for e in cart.events() if e["type"] == "Warning" and e["reason"] == "ImagePullFailed"]
    cart.apply(small_spec())
    cart.until_whole()
    application = client.start(installation.kube, installation.image, here, "cart")
    application.write(50, "first")


def test_impossible_resources_are_explained_and_corrected(kube: Kube, here: str) -> None:
    cart = Cluster(kube, here, "cart")
    huge = {"requests": {"cpu": "1000", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}
    cart.apply({**small_spec(shards=1, replicas=0), "resources": huge})
    found = cart.until_condition("Stalled", "True", "PodUnschedulable")
    assert "Insufficient cpu" in found["message"]
    cart.apply(small_spec(shards=1, replicas=0))
    cart.until_whole()


def test_quota_is_explained_and_nothing_else_is_held_up(kube: Kube, here: str) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": here}}
    kube.create({**quota, "spec": {"hard": {"services": "1"}}})
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=1, replicas=0))
    found = cart.until_condition("Stalled", "True", "ObjectRejected")
    assert "exceeded quota" in found["message"]
    kube.delete("ResourceQuota", here, "few")
    cart.until_whole()


def test_paused_cluster_is_left_alone(kube: Kube, cart: Cluster) -> None:
    before = cart.uids()
    cart.edit({"paused": True})
    cart.until_condition("Reconciling", "False", "Paused")
    kube.delete("Service", cart.namespace, "cart-nodes")
    cart.edit({"parameters": {"io-threads": 3}})
    cart.until("the status speaks of the edit", lambda: condition(cart.read(), "RolledOut").get("status") == "False")
    assert kube.find("Service", cart.namespace, "cart-nodes") is None
    assert cart.uids() == before
    cart.edit({"paused": None, "parameters": {"io-threads": 2}})
    cart.until_whole()
    assert kube.find("Service", cart.namespace, "cart-nodes") is not None


def pending(cart: Cluster) -> list[str]:
    """What of the spec is not in force on every node."""
    return list(cart.read()["status"].get("pendingModifications", []))


def runs_again(kube: Kube, cart: Cluster, pod: str, old_uid: str) -> bool:
    """Another pod of the same name is ready."""
    live = kube.find("Pod", cart.namespace, pod)
    return live is not None and live["metadata"]["uid"] != old_uid and pod_is_ready(live)


def image_of(kube: Kube, cart: Cluster, pod: str) -> str:
    """Image that the pod's engine was asked to run."""
    return str(kube.get("Pod", cart.namespace, pod)["spec"]["containers"][0]["image"])
