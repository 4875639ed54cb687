"""A machine loses its power: what is unknown is not touched (S1), the rest serves on, and all is whole afterwards."""

import pytest

from e2e.client import Client
from e2e.cluster import Cluster
from e2e.kube import Kube
from e2e.platform import Faults

pytestmark = pytest.mark.alone

FAILOVER_SECONDS = 120.0


def test_node_without_power_leaves_its_shard_served_and_comes_back(
    kube: Kube, cart: Cluster, shopper: Client, faults: Faults
) -> None:
    shopper.write(200, "power")
    near = kube.get("Pod", shopper.namespace, shopper.pod)["spec"]["nodeName"]
    shard, victim = next((s, p) for s in range(3) if (p := cart.primary_of(s)).node != near)
    ids = {row["id"] for view in shopper.ask("nodes").values() for row in view}
    faults.power_off(victim.node)
    try:
        cart.until("a replica leads", lambda: leader(cart, shard) not in {None, victim.name}, FAILOVER_SECONDS)
        cart.until_condition("Ready")
        degraded = cart.until_condition("Degraded")
        assert victim.name in degraded["message"]
        shopper.write(200, "dark")
        assert shopper.count(200, "dark") == 200
        known = {row["id"] for view in shopper.ask("nodes").values() for row in view}
        assert known == ids, "a node that is merely out of reach was forgotten (S1)"
    finally:
        faults.power_on(victim.node)
    cart.until_whole()
    assert shopper.count(200, "dark") == 200


def leader(cart: Cluster, shard: int) -> str | None:
    """Pod that the status names as the shard's primary."""
    primary = cart.read()["status"]["shards"][shard].get("primary")
    return str(primary["pod"]) if primary else None
