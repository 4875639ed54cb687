"""A shard that asks for a replica loses both: it refuses writes, says so, and goes on where it was once one is back."""

from e2e import client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation
from e2e.recorder import Recorder

KEYS = 200


def test_without_replicas_writes_are_refused_and_none_that_was_acknowledged_is_lost(
    installation: Installation, here: str
) -> None:
    kube = installation.kube
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(1, 2, durability={"mode": "AtLeastOneReplica"}))
    cart.until_whole()
    shopper = client.start(kube, installation.image, here, cart.name)
    recorder = Recorder(kube, here, cart.name, installation.image)
    shopper.write(KEYS, "before")
    primary = cart.primary_of(0)
    with recorder.writing():
        none = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none", "namespace": here}}
        kube.create({**none, "spec": {"hard": {"pods": "1"}}})  # whoever goes now does not come back
        for member in cart.members():
            if member.name != primary.name:
                kube.delete("Pod", here, member.name)
        ready = cart.until_condition("Ready", "False", "WritesRefused")
        assert f"no replica keeps up with {primary.name}" in ready["message"]
        assert "set durability.mode to Default" in ready["message"]
        cart.until_condition("Degraded", "True", "WritesRefused")
        assert "NOREPLICAS" in shopper.error("write", "1", "meanwhile")
        assert shopper.count(KEYS, "before") == KEYS, "reads go on"

        kube.delete("ResourceQuota", here, "none")
        cart.until_whole()
        shopper.write(KEYS, "after")
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed > 0
    assert shopper.count(KEYS, "before") == shopper.count(KEYS, "after") == KEYS
    assert {m.uid for m in cart.members()} >= {primary.uid}, "the primary has not been touched"
