"""Machines are drained under writers in every zone: roles move before pods, and the last copy of a shard stays.

The last scenario leaves the shared cluster in one zone.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.cluster import Cluster, Member, zones_of_machines
from e2e.diagnosis import OPERATOR_NAMESPACE
from e2e.drain import cordoned, drain, drain_operator, draining, uncordon
from e2e.install import RELEASE, Installation, until_operator_ready
from e2e.kube import ApiError, Kube, wait
from e2e.recorder import History, Recorder

pytestmark = pytest.mark.alone

AWAY_SECONDS = 60.0


def test_primary_cannot_be_evicted(kube: Kube, cart: Cluster) -> None:
    cart.until("the budget knows the primaries", lambda: budget_is_spent(kube, cart))
    for shard in range(3):
        assert is_refused(kube, cart, cart.primary_of(shard))


def test_all_machines_are_drained_one_after_another(
    installation: Installation, kube: Kube, cart: Cluster, recorder: Recorder
) -> None:
    """Of the operator's pods, too, at the same time."""
    before, operators = cart.uids(), {p["metadata"]["uid"] for p in installation.operator_pods()}
    with recorder.writing():
        for node in sorted(n["metadata"]["name"] for n in kube.list("Node")):
            with cordoned(kube, node):
                with draining(cart, node):
                    drain_operator(kube, node)
                assert node not in {m.node for m in cart.members()}
            until_operator_ready(kube)
            cart.until_whole()
    after = cart.uids()
    assert all(after[pod] != before[pod] for pod in before), "a machine was not drained of its pod"
    assert not operators & {p["metadata"]["uid"] for p in installation.operator_pods()}
    cart.assert_spread()
    print_and_assert_no_request_failed("all machines, one after another", recorder.history)
    assert not cart.read()["status"]["failovers"], "a planned move was told as a failure"


def test_without_an_operator_the_primary_hands_over_as_its_pod_ends(
    installation: Installation, kube: Kube, cart: Cluster, recorder: Recorder
) -> None:
    victim = cart.primary_of(0)
    with recorder.writing():
        with operator_away(installation), cordoned(kube, victim.node):
            drain(cart, victim.node, evict=False)  # without an operator no eviction of a primary is ever allowed
        cart.until_whole()
    assert cart.primary_of(0).name != victim.name
    print_and_assert_no_request_failed("without an operator", recorder.history)


def test_two_zones_at_once_wait_for_the_third_to_take_a_copy(kube: Kube, cart: Cluster, recorder: Recorder) -> None:
    primary, replica = cart.primary_of(0), cart.replica_of(0)
    going = {primary.zone, replica.zone}
    zones = zones_of_machines(kube)
    drained = sorted({m.node for m in cart.members() if m.zone in going})
    order = sorted(zones, key=lambda node: zones[node] == primary.zone)  # the primary's last: who would take over?
    with recorder.writing():
        with cordoned(kube, *order), draining(cart, *drained):
            cart.until("its replica has gone", lambda: cart.uids().get(replica.name) != (replica.uid, replica.restarts))
            assert is_refused(kube, cart, primary), "the last copy of a shard may be evicted"
            assert cart.primary_of(0).uid == primary.uid, "it was handed over to a machine that is drained, too"
            for node in (n for n, zone in zones.items() if zone not in going):
                uncordon(kube, node)
        cart.until_whole()
    assert not going & {m.zone for m in cart.members()}, "the drain has left somebody behind"
    print_and_assert_no_request_failed("two zones at once", recorder.history)


def print_and_assert_no_request_failed(what: str, history: History) -> None:
    """What planned work promises: no acknowledged write lost, no request failed."""
    print(f"{what}: longest gap {history.longest_gap_milliseconds} ms, {history.acked} writes, {history.errors} errors")
    history.assert_nothing_lost()
    assert history.failed == 0, f"planned work has failed requests: {history}"


@contextmanager
def operator_away(installation: Installation) -> Iterator[None]:
    """No operator runs within the block."""
    kube = installation.kube
    replicas = kube.get("Deployment", OPERATOR_NAMESPACE, RELEASE)["spec"]["replicas"]
    scale(kube, 0)
    try:
        wait("the operator has gone", lambda: not installation.operator_pods(), AWAY_SECONDS)
        yield
    finally:
        scale(kube, replicas)
        until_operator_ready(kube)


def scale(kube: Kube, replicas: int) -> None:
    """`kubectl scale deployment`."""
    kube.patch("Deployment", OPERATOR_NAMESPACE, RELEASE, {"spec": {"replicas": replicas}})


def budget_is_spent(kube: Kube, cart: Cluster) -> bool:
    """The disruption controller, which looks now and then, has counted the primaries of today."""
    status = kube.get("PodDisruptionBudget", cart.namespace, "cart-primaries")["status"]
    return bool(status["expectedPods"] == 3 and status["disruptionsAllowed"] == 0)


def is_refused(kube: Kube, cart: Cluster, member: Member) -> bool:
    """Whether the API server refuses to evict a pod, for the sake of a budget."""
    try:
        kube.evict(cart.namespace, member.name)
    except ApiError as error:
        if error.status != 429:
            raise
        return True
    return False
