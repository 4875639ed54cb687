"""A living cluster grows and shrinks while applications write: no write is lost, and nobody else restarts."""

import subprocess

import pytest

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation
from e2e.kube import Kube
from e2e.recorder import Recorder

GAP_MILLISECONDS = 15_000
"""Generous: what a shard may be without writes while its primary hands over on a busy machine."""
RESHARD_SECONDS = 600.0


def scale(cart: Cluster, shards: int) -> None:
    """kubectl scale, as a person or an autoscaler does it."""
    argv = [*cart.kube.kubectl, "scale", f"cc/{cart.name}", "-n", cart.namespace, f"--replicas={shards}"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def messages(cart: Cluster, reason: str) -> list[str]:
    """Of the Events with a reason."""
    return [str(e["message"]) for e in cart.events() if e["reason"] == reason]


def test_replicas_are_added_and_removed_under_load(cart: Cluster, shopper: Client, recorder: Recorder) -> None:
    shopper.write(200, "replicas")
    before = cart.uids()
    with recorder.writing():
        cart.edit({"topology": {"replicasPerShard": 2}})
        cart.until_whole()
        assert len(cart.uids()) == 9
        cart.assert_spread()
        assert before.items() <= cart.uids().items(), "a pod was restarted for a new replica"

        cart.edit({"topology": {"replicasPerShard": 1}})
        cart.until_whole()
        assert cart.uids() == before
    recorder.history.assert_nothing_lost()
    assert recorder.history.longest_gap_milliseconds < GAP_MILLISECONDS, str(recorder.history)
    assert shopper.count(200, "replicas") == 200
    assert messages(cart, "ScalingIn")


def test_shards_are_added_and_removed_under_load(cart: Cluster, shopper: Client, recorder: Recorder) -> None:
    shopper.write(3000, "shards")
    before = cart.uids()
    with recorder.writing():
        scale(cart, 6)
        cart.until_whole(RESHARD_SECONDS)
        cart.assert_even(6)
        assert len(cart.uids()) == 12
        cart.assert_spread()
        assert before.items() <= cart.uids().items(), "a pod was restarted for a new shard"
        assert shopper.count(3000, "shards") == 3000
        assert cart.read()["status"]["replicas"] == 6

        scale(cart, 3)
        cart.until_whole(RESHARD_SECONDS)
        cart.assert_even(3)
        assert cart.uids() == before
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == 0, str(recorder.history)
    assert recorder.history.longest_gap_milliseconds < GAP_MILLISECONDS, str(recorder.history)
    assert shopper.count(3000, "shards") == 3000
    news = messages(cart, "MovingSlots")
    assert "resharding from 3 shards to 6 shards: 8191 slots are to move" in news, news
    assert "resharding to 3 shards is done" in news, news
    assert_nothing_of_the_left_shards(cart)


def assert_nothing_of_the_left_shards(cart: Cluster) -> None:
    """Neither objects nor, in any node's table, nodes."""
    for kind in ("StatefulSet", "Pod", "PodDisruptionBudget"):
        names = [o["metadata"]["name"] for o in cart.kube.list(kind, cart.namespace)]
        assert not [n for n in names if n.startswith(("cart-3", "cart-4", "cart-5"))], names


@pytest.mark.parametrize("version", ["8.0", "9.1"])
def test_one_shard_becomes_three_and_one_again(installation: Installation, here: str, version: str) -> None:
    cart = Cluster(installation.kube, here, "cart")
    cart.apply({**small_spec(shards=1, replicas=0), "version": version})
    cart.until_whole()
    application = client.start(installation.kube, installation.image, here, "cart")
    application.write(2000, "first")
    for shards in (3, 1):
        scale(cart, shards)
        cart.until_whole(RESHARD_SECONDS)
        cart.assert_even(shards)
        assert application.count(2000, "first") == 2000


def test_shards_that_do_not_fit_into_memory_stay(installation: Installation, kube: Kube, here: str) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(shards=2, replicas=0))
    cart.until_whole()
    application = client.start(kube, installation.image, here, "cart")
    application.fill(80)
    cart.edit({"topology": {"shards": 1}})
    found = cart.until_condition("Stalled", "True", "InsufficientMemory")
    assert "Raise resources.limits.memory" in found["message"]
    cart.edit({"topology": {"shards": 2}})
    cart.until_whole()
