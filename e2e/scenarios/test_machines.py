"""A machine loses its power: what is unknown is not touched (S1), the rest serves on, and all is whole afterwards.

If it stays away, its pods are given up: those with volumes only once somebody says that it is off.
"""

import time
from typing import Final

import pytest

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, small_spec, zones_of_machines
from e2e.diagnosis import OPERATOR_NAMESPACE
from e2e.install import Installation
from e2e.kube import Kube, condition
from e2e.leadership import Leadership
from e2e.platform import Faults
from e2e.victims import lone_primary, machine, zone

pytestmark = pytest.mark.alone

FAILOVER_SECONDS = 120.0
FENCE_SECONDS: Final = 30.0
"""Eight are enough on a quiet machine while the operator goes on: its successor would wait for Kubernetes to see it."""
LOSS_SECONDS: Final = 240.0
"""Until Kubernetes marks a machine as not ready, the grace, and some time for a slow machine."""
OUT_OF_SERVICE: Final = {"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"}


def test_node_without_power_leaves_its_shard_served_and_comes_back(
    cart: Cluster, shopper: Client, faults: Faults
) -> None:
    cart.edit({"placement": {"nodeLossGraceSeconds": 3600}})
    cart.until_whole()
    shopper.write(200, "power")
    victim = lone_primary(cart, machine, shopper.node)
    ids = {row["id"] for view in shopper.ask("nodes").values() for row in view}
    faults.power_off(victim.node)
    try:
        cart.until("a replica leads", lambda: leader(cart, victim.shard) not in {None, victim.name}, FAILOVER_SECONDS)
        cart.until_condition("Ready")
        degraded = cart.until_condition("Degraded")
        assert victim.name in degraded["message"]
        shopper.write(200, "dark")
        assert shopper.count(200, "dark") == 200
        # until another replica of that machine is marked as failed, clients are sent there, too
        views = cart.until("clients reach whoever is listed", lambda: shopper.ask("nodes"))
        known = {row["id"] for view in views.values() for row in view}
        assert known == ids, "a node that is merely out of reach was forgotten (S1)"
    finally:
        faults.power_on(victim.node)
    cart.until_whole()
    assert shopper.count(200, "dark") == 200


def test_node_that_stays_without_power_is_left(cart: Cluster, shopper: Client, faults: Faults) -> None:
    cart.edit({"placement": {"nodeLossGraceSeconds": 10}})
    cart.until_whole()
    shopper.write(200, "before")
    victim = lone_primary(cart, machine, shopper.node)
    faults.power_off(victim.node)
    try:
        cart.until("nothing hangs there", lambda: victim.node not in {m.node for m in cart.members()}, LOSS_SECONDS)
        cart.until_condition("Degraded", "False")
        assert cart.uids()[victim.name][0] != victim.uid
        assert leader(cart, victim.shard) not in {None, victim.name}
        assert "LeavingLostNode" in {event["reason"] for event in cart.events()}
        cart.until(
            "the id of a process that may run on is kept, and it is said",
            lambda: "is forgotten once" in cart.read()["status"]["message"],
        )
        assert shopper.count(200, "before") == 200
    finally:
        faults.power_on(victim.node)
    cart.until_whole()
    assert len({row["id"] for view in shopper.ask("nodes").values() for row in view}) == len(cart.members())
    assert shopper.count(200, "before") == 200


def test_zone_without_power_is_served_and_then_replaced_by_the_others(
    kube: Kube, cart: Cluster, shopper: Client, faults: Faults
) -> None:
    cart.edit({"placement": {"nodeLossGraceSeconds": 3600}})
    cart.until_whole()
    shopper.write(200, "bright")
    zones = zones_of_machines(kube)
    dark = lone_primary(cart, zone, zones[shopper.node]).zone
    gone = {m.name for m in cart.members() if m.zone == dark}
    faults.power_off(*(node for node, at in zones.items() if at == dark))
    try:
        cart.until(
            "every shard is led from elsewhere",
            lambda: not {leader(cart, shard) for shard in range(3)} & {None, *gone},
            FAILOVER_SECONDS,
        )
        cart.until_condition("Ready")
        assert shopper.count(200, "bright") == 200
        shopper.write(200, "dark-zone")
        cart.edit({"placement": {"nodeLossGraceSeconds": 10}})
        cart.until("nothing hangs there", lambda: dark not in {m.zone for m in cart.members()}, LOSS_SECONDS)
        cart.until_condition("Degraded", "False")
        cart.assert_spread()
    finally:
        faults.power_on(*(node for node, at in zones.items() if at == dark))
    cart.until_whole()
    cart.assert_spread()
    assert shopper.count(200, "dark-zone") == 200


def test_pod_with_a_volume_waits_until_somebody_says_that_its_node_is_off(
    kube: Kube, here: str, faults: Faults
) -> None:
    cart = Cluster(kube, here, "cart")
    storage = {"mode": "AppendOnly", "size": "256Mi"}
    cart.apply(small_spec(1, 1, persistence=storage, placement={"nodeLossGraceSeconds": 10}, deletionPolicy="Delete"))
    cart.until_whole()
    victim = cart.replica_of(0)
    faults.power_off(victim.node)
    try:
        stalled = cart.until_condition("Stalled", "True", "NodeLost", LOSS_SECONDS)
        assert f"kubectl taint nodes {victim.node} {OUT_OF_SERVICE['key']}" in stalled["message"]
        assert "NodeLost" in {event["reason"] for event in cart.events() if event["type"] == "Warning"}
        assert cart.uids()[victim.name][0] == victim.uid
        taint(kube, victim.node, on=True)
        cart.until("the pod is another", lambda: cart.uids().get(victim.name, (victim.uid, 0))[0] != victim.uid)
    finally:
        faults.power_on(victim.node)
        taint(kube, victim.node, on=False)
    cart.until_whole()
    assert condition(cart.read(), "Stalled")["status"] == "False"


@pytest.mark.parametrize("shards", [1, 2])
def test_s10_primary_on_a_node_without_power_is_replaced_where_nobody_can_elect(
    installation: Installation, here: str, faults: Faults, shards: int
) -> None:
    cart = Cluster(installation.kube, here, "cart")
    cart.apply(small_spec(shards, 1))
    cart.until_whole()
    operator = Leadership(installation.kube, faults).next()
    near = str(installation.kube.get("Pod", OPERATOR_NAMESPACE, operator.pod)["spec"]["nodeName"])
    shopper = client.start(installation.kube, installation.image, here, cart.name, {"kubernetes.io/hostname": near})
    if shards == 1 and cart.primary_of(0).node == near:
        cart.hand_over(0)
    shopper.write(200, "power")
    shard, victim = next((s, p) for s in range(shards) if (p := cart.primary_of(s)).node != near)
    began = time.monotonic()
    faults.power_off(victim.node)
    try:
        cart.until("a replica leads", lambda: leader(cart, shard) not in {None, victim.name}, FENCE_SECONDS)
        print(f"{shards} shards: another leads {time.monotonic() - began:.1f} s after the loss of power began")
        shopper.write(200, "dark")
        assert shopper.count(200, "power") == shopper.count(200, "dark") == 200
        failover = cart.read()["status"]["failovers"][0]
        print(f"failover: {failover}")
        assert (failover["from"], failover["cause"]) == (victim.name, "FenceExpired")
    finally:
        faults.power_on(victim.node)
    cart.until_whole()
    assert shopper.count(200, "dark") == 200


def taint(kube: Kube, node: str, *, on: bool) -> None:
    """kubectl taint nodes NAME node.kubernetes.io/out-of-service=nodeshutdown:NoExecute, or take it away."""
    taints = kube.get("Node", "", node)["spec"].get("taints", [])
    others = [found for found in taints if found["key"] != OUT_OF_SERVICE["key"]]
    kube.patch("Node", "", node, {"spec": {"taints": [*others, *([OUT_OF_SERVICE] if on else [])]}})


def leader(cart: Cluster, shard: int) -> str | None:
    """Pod that the status names as the shard's primary."""
    primary = cart.read()["status"]["shards"][shard].get("primary")
    return str(primary["pod"]) if primary else None
