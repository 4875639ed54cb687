"""The leader fails in the middle of a failover: it is carried through, and who led before can do no more.

How a lost process is replaced while nobody leads depends on the engines' own election, which takes a majority of
primaries: there are three shards.
"""

import time
from typing import Final

import pytest

from e2e.client import Client
from e2e.cluster import Cluster, zones_of_machines
from e2e.diagnosis import OPERATOR_NAMESPACE
from e2e.engines import Engines
from e2e.faults.classes import LAST_MOMENTS
from e2e.install import until_operator_ready
from e2e.kube import Kube
from e2e.leadership import CONTAINER, Leadership
from e2e.platform import Faults
from e2e.recorder import Recorder
from e2e.recorder.recorder import zones
from e2e.victims import lone_primary_on

pytestmark = pytest.mark.alone

OUTAGE_SECONDS: Final = 60.0
ELECTED_MILLISECONDS: Final = 20_000
"""Node time-out and election without an operator, on a slow machine."""


@pytest.fixture
def leadership(kube: Kube, faults: Faults) -> Leadership:
    """The Lease, with every process of the operator up."""
    until_operator_ready(kube)
    return Leadership(kube, faults)


def test_leader_frozen_in_a_promotion_thaws_with_no_session_left(
    kube: Kube, cart: Cluster, recorder: Recorder, faults: Faults, leadership: Leadership
) -> None:
    former, engines = leadership.next(), Engines(kube, cart)
    address, restarts = operator_pod(kube, former.pod)
    assert engines.sessions(address), "the leader watches nobody: what is to be proven here proves nothing"
    first = cart.primary_of(0)
    kill = faults.aim(cart.namespace, first.name, "engine")
    with recorder.writing():
        kill()
        with faults.stopped(OPERATOR_NAMESPACE, former.pod, CONTAINER):
            successor = leadership.next(after=former)
            cart.until("another leads the shard", lambda: cart.primary_of(0).name != first.name)
            cart.until_whole()
            left = engines.sessions(address)
            assert not left, f"the frozen leader is still logged in: {left}"
            second = cart.primary_of(1)
            faults.kill_container(cart.namespace, second.name, "engine")
            cart.until("the successor promotes", lambda: cart.primary_of(1).name != second.name)
        cart.until("who has thawed ends itself", lambda: operator_pod(kube, former.pod)[1] > restarts)
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    print(f"leader frozen in a promotion: longest gap {recorder.history.longest_gap_milliseconds} ms")
    assert leadership.holder() == successor.identity
    assert cart.read()["status"]["failovers"][0]["shard"] == "cart-1", "a promotion was done twice"


def test_leader_dies_in_a_promotion_and_the_second_replica_takes_over(
    kube: Kube, cart: Cluster, recorder: Recorder, faults: Faults, leadership: Leadership
) -> None:
    leader, victim = leadership.next(), cart.primary_of(2)
    others = {name: seen for name, seen in cart.uids().items() if name != victim.name}
    kill = faults.aim(cart.namespace, victim.name, "engine")
    with recorder.writing():
        kill()
        leader.shoot()
        kube.delete("Pod", OPERATOR_NAMESPACE, leader.pod, grace_seconds=0)
        successor = leadership.next(after=leader)
        cart.until("another leads the shard", lambda: cart.primary_of(2).name != victim.name)
        kube.delete("Service", cart.namespace, "cart-nodes")
        cart.until("the new leader repairs", lambda: kube.find("Service", cart.namespace, "cart-nodes"), within=60)
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    print(f"leader killed in a promotion: longest gap {recorder.history.longest_gap_milliseconds} ms")
    assert successor.pod != leader.pod
    assert others.items() <= cart.uids().items(), "a pod was restarted that had not failed"


def test_api_server_is_away_for_a_minute_during_a_failover(
    cart: Cluster, shopper: Client, recorder: Recorder, faults: Faults, leadership: Leadership
) -> None:
    shopper.write(300, "outage")
    victim = cart.primary_of(1)
    others = {name: seen for name, seen in cart.uids().items() if name != victim.name}
    with recorder.writing():
        kill = faults.aim(cart.namespace, victim.name, "engine")
        with faults.api_server_away():
            kill()
            time.sleep(OUTAGE_SECONDS)  # how long it is away is the stimulus, not something to wait for
        leadership.next()
        cart.until("another pod is the primary", lambda: cart.primary_of(1).name != victim.name)
        cart.until_whole()
    recorder.history.assert_nothing_lost()
    print(f"no API server for {OUTAGE_SECONDS:.0f} s: longest gap {recorder.history.longest_gap_milliseconds} ms")
    assert recorder.history.longest_gap_milliseconds < ELECTED_MILLISECONDS, "writes have waited for the API server"
    assert shopper.count(300, "outage") == 300
    assert others.items() <= cart.uids().items(), "a pod was restarted that had not failed"


def test_leader_and_a_primary_lose_their_machine(
    kube: Kube, cart: Cluster, recorder: Recorder, faults: Faults, leadership: Leadership
) -> None:
    cart.edit({"placement": {"nodeLossGraceSeconds": 3600}})  # the machine comes back
    cart.until_whole()
    leader = leadership.next()
    machine = str(kube.get("Pod", OPERATOR_NAMESPACE, leader.pod)["spec"]["nodeName"])
    victim = lone_primary_on(kube, cart, machine)
    slots = {str(cart.read()["status"]["shards"][victim.shard]["slots"])}
    with recorder.writing(elsewhere(kube, machine)):
        faults.power_off(machine)
        try:
            successor = leadership.next(after=leader)
            cart.until("another leads the shard", lambda: cart.primary_of(victim.shard).name != victim.name)
            cart.until_condition("Ready")
        finally:
            faults.power_on(machine)
        cart.until_whole()
    history = recorder.history
    print(f"machine of the leader and a primary: {history.lost} of {history.acked} acknowledged writes lost", end="; ")
    print(f"longest gap {history.longest_gap_milliseconds} ms")
    history.assert_lost_at_most(LAST_MOMENTS, slots)
    assert successor.pod != leader.pod
    until_operator_ready(kube)


def operator_pod(kube: Kube, name: str) -> tuple[str, int]:
    """Its address, and how often its container has ended."""
    status = kube.get("Pod", OPERATOR_NAMESPACE, name)["status"]
    return str(status["podIP"]), sum(int(s["restartCount"]) for s in status["containerStatuses"])


def elsewhere(kube: Kube, machine: str) -> list[str]:
    """A machine in every zone, other than one."""
    nodes = zones_of_machines(kube)
    return [next(node for node, at in sorted(nodes.items()) if at == zone and node != machine) for zone in zones(kube)]
