"""Which replica moves so that a shard does not share a zone, and when none does."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import MovePod
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Host, Snapshot, Taint
from cachecluster.domain.status import derive
from tests.unit.domain.building import Cluster, formed, spec_of

GPU = Taint("gpu", "yes", "NoSchedule")


def crowded(shards: int = 3, replicas: int = 1, **spec: Any) -> Cluster:
    """Shard 1 is in zone a; the others are spread over a and b."""
    cluster = replace(formed(shards, replicas), spec=spec_of(shards, replicas, **spec))
    for node in cluster.nodes:
        zone = "a" if node.shard == 1 or node.ordinal == 0 else "b"
        cluster = cluster.with_node(node.shard, node.ordinal, zone=zone, age=601)
    return cluster


def moved(snap: Snapshot | Cluster) -> list[str]:
    """Pods that are made anew."""
    found = plan(snap.snapshot() if isinstance(snap, Cluster) else snap)
    return [step.action.node.pod for step in found.steps if isinstance(step.action, MovePod)]


def with_host(cluster: Cluster, zone: str, **changes: Any) -> Snapshot:
    """What a pass sees with the only Kubernetes node of a zone changed."""
    snap = cluster.snapshot()
    name = f"host-{zone}"
    return replace(snap, hosts={**snap.hosts, name: replace(snap.hosts[name], **changes)})


def test_the_replica_of_a_shard_in_one_zone_moves_while_another_is_open() -> None:
    assert moved(crowded()) == ["cart-1-1"]


def test_the_status_says_what_is_awaited() -> None:
    snap = crowded(placement={"zones": ["a"]}).snapshot()
    conditions = derive(snap, plan(snap)).to_json()["conditions"]
    [told] = [c for c in conditions if c["type"] == "ZonesSpread"]
    assert (told["status"], told["reason"]) == ("False", Reason.RESTORING_ZONE_BALANCE)
    assert told["message"].startswith("all members of cart-1 share a zone; ")


def test_its_primary_does_not_whatever_its_ordinal() -> None:
    cluster = crowded()
    first, second = (n for n in cluster.nodes if n.shard == 1)
    cluster = cluster.with_node(1, 0, role=second.role, slots=second.slots, follows=second.node_id)
    cluster = cluster.with_node(1, 1, role=first.role, slots=first.slots, follows=None)
    assert moved(cluster) == ["cart-1-0"]


def test_a_shard_that_is_spread_stays() -> None:
    assert not moved(crowded().with_node(1, 1, zone="b"))


def test_of_three_members_in_two_zones_one_moves_to_the_third() -> None:
    cluster = crowded(1, 2).with_node(0, 2, zone="b")
    assert not moved(cluster)
    snap = cluster.snapshot()
    third = Host("host-c", {names.ZONE_LABEL: "c"}, schedulable=True, ready=True)
    assert moved(replace(snap, hosts={**snap.hosts, "host-c": third})) == ["cart-0-2"]


def test_not_while_its_pod_is_young() -> None:
    assert not moved(crowded().with_node(1, 1, age=599))


def test_s7_not_while_any_shard_lacks_a_copy() -> None:
    assert not moved(crowded().with_node(2, 1, up=False, down_seconds=5))
    assert not moved(crowded().with_node(1, 1, up=False, down_seconds=5))
    assert not moved(crowded().with_node(2, 1, answers=False))


def test_not_with_a_volume() -> None:
    snap = crowded().snapshot()
    assert not moved(replace(snap, pods=tuple(replace(p, has_volume=True) for p in snap.pods)))


@pytest.mark.parametrize(
    "closed",
    [{"ready": False}, {"schedulable": False}, {"out_of_service": True}, {"taints": frozenset({GPU})}],
    ids=str,
)
def test_s1_not_without_a_machine_in_the_other_zone_that_takes_pods(closed: dict[str, Any]) -> None:
    cluster = crowded(1).with_node(0, 0, zone="a").with_node(0, 1, zone="a")
    snap = cluster.snapshot()
    other = Host("host-b", {names.ZONE_LABEL: "b"}, schedulable=True, ready=True)
    assert moved(replace(snap, hosts={**snap.hosts, "host-b": other})) == ["cart-0-1"]
    assert not moved(replace(snap, hosts={**snap.hosts, "host-b": replace(other, **closed)}))


@pytest.mark.parametrize(
    ("toleration", "opens"),
    [
        ({"operator": "Exists"}, True),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"key": "gpu", "value": "yes"}, True),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "value": "no"}, False),
        ({"key": "gpu", "value": "yes", "effect": "NoExecute"}, False),
        ({"key": "other", "operator": "Exists"}, False),
    ],
    ids=str,
)
def test_a_tainted_machine_takes_pods_that_tolerate_it(toleration: dict[str, str], opens: bool) -> None:
    cluster = crowded(placement={"tolerations": [toleration]})
    assert bool(moved(with_host(cluster, "b", taints=frozenset({GPU})))) == opens


def test_a_taint_that_only_advises_against_it_does_not_keep_pods_away() -> None:
    assert moved(with_host(crowded(), "b", taints=frozenset({replace(GPU, effect="PreferNoSchedule")})))


def test_only_to_zones_and_machines_that_the_spec_names() -> None:
    assert not moved(crowded(placement={"zones": ["a", "c"]}))
    assert moved(crowded(placement={"zones": ["a", "b"]}))
    assert not moved(crowded(placement={"nodeSelector": {"disk": "fast"}}))
