"""Processes, pods and nodes fail while clients write: the cluster is whole again and no acknowledged write is lost."""

import pytest

from e2e.client import Client
from e2e.cluster import Cluster
from e2e.kube import Kube, Obj, condition, is_true
from e2e.platform import Faults
from e2e.recorder import Recorder

pytestmark = pytest.mark.alone


def test_killed_primary_loses_no_acknowledged_write(
    cart: Cluster, shopper: Client, recorder: Recorder, faults: Faults
) -> None:
    shopper.write(500, "before")
    victim = cart.primary_of(0)
    with recorder.writing():
        faults.kill_container(cart.namespace, victim.name, "engine")
        cart.until("another pod is the primary", lambda: cart.primary_of(0).name != victim.name)
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    assert shopper.count(500, "before") == 500
    after = {m.name: m for m in cart.members()}[victim.name]
    assert (after.uid, after.restarts, after.role) == (victim.uid, victim.restarts + 1, "replica")
    newest = cart.read()["status"]["failovers"][0]
    assert (newest["shard"], newest["from"], newest["to"]) == ("cart-0", victim.name, cart.primary_of(0).name)
    assert newest["seenAt"] <= newest["confirmedAt"] <= newest["promotedAt"] <= newest["writableAt"]


def test_deleted_primary_pod_hands_over_first(kube: Kube, cart: Cluster, recorder: Recorder) -> None:
    victim, failovers = cart.primary_of(1), cart.read()["status"]["failovers"]
    with recorder.writing():
        kube.delete("Pod", cart.namespace, victim.name)
        cart.until("the pod is another", lambda: cart.uids().get(victim.name, (victim.uid, 0))[0] != victim.uid)
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    assert cart.primary_of(1).name != victim.name
    assert cart.read()["status"]["failovers"] == failovers, "a primary that has handed over was told as lost"


def test_deleted_replica_pod_is_replaced(kube: Kube, cart: Cluster, recorder: Recorder) -> None:
    victim = cart.replica_of(2)
    primary = cart.primary_of(2)
    with recorder.writing():
        kube.delete("Pod", cart.namespace, victim.name)
        cart.until("the pod is another", lambda: cart.uids().get(victim.name, (victim.uid, 0))[0] != victim.uid)
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == 0, f"writes failed although no primary was touched: {recorder.history}"
    assert cart.primary_of(2) == primary


def test_promotion_waits_neither_for_a_new_pod_nor_for_a_valid_spec(
    kube: Kube, cart: Cluster, recorder: Recorder, faults: Faults
) -> None:
    victim, heir = cart.primary_of(0), cart.replica_of(0)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few", "namespace": cart.namespace}}
    with recorder.writing():
        kube.create({**quota, "spec": {"hard": {"pods": "1"}}})  # whoever goes now does not come back
        cart.until("the quota is in force", lambda: in_force(kube.get("ResourceQuota", cart.namespace, "few")))
        cart.edit({"parameters": {"no-such-parameter": "1"}})
        cart.until_condition("Stalled", "True", "InvalidSpec")
        faults.kill_container(cart.namespace, victim.name, "engine")  # else its preStop hook may still hand over
        kube.delete("Pod", cart.namespace, victim.name, grace_seconds=0)
        cart.until("the replica leads", lambda: cart.primary_of(0).name == heir.name)
        cart.until_condition("Ready")
        assert condition(cart.read(), "Stalled")["reason"] == "InvalidSpec", "the spec has not stayed in the way"
        assert victim.name not in cart.uids(), "the pod has come back"

        cart.edit({"parameters": None})
        refused = cart.until_condition("Stalled", "True", "ObjectRejected")
        assert f'pods "{victim.name}" is forbidden: exceeded quota: few' in refused["message"]
        assert is_true(cart.read(), "Ready")
        kube.delete("ResourceQuota", cart.namespace, "few")
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    newest = cart.read()["status"]["failovers"][0]
    assert (newest["shard"], newest["from"], newest["to"]) == ("cart-0", victim.name, heir.name)


def in_force(quota: Obj) -> bool:
    """The API server has counted what there is, and refuses what is more than the quota allows."""
    return bool(quota.get("status", {}).get("hard"))
