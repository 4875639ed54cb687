"""A living cluster grows and shrinks while applications write: no request is lost, and nobody else restarts."""

from e2e.client import Client
from e2e.cluster import Cluster
from e2e.recorder import Recorder

GAP_MILLISECONDS = 15_000
"""Generous: what a shard may be without writes while its primary hands over on a busy machine."""


def test_replicas_are_added_and_removed_under_load(cart: Cluster, shopper: Client, recorder: Recorder) -> None:
    shopper.write(200, "replicas")
    before = cart.uids()
    primaries = {m.name for m in cart.members() if m.role == "primary"}
    with recorder.writing():
        cart.edit({"topology": {"replicasPerShard": 2}})
        cart.until_whole()
        assert len(cart.uids()) == 9
        cart.assert_spread()
        assert before.items() <= cart.uids().items(), "a pod was restarted for a new replica"
        assert primaries == {m.name for m in cart.members() if m.role == "primary"}

        cart.edit({"topology": {"replicasPerShard": 1}})
        cart.until_whole()
        assert cart.uids() == before
    recorder.history.assert_nothing_lost()
    assert recorder.history.longest_gap_milliseconds < GAP_MILLISECONDS, str(recorder.history)
    assert shopper.count(200, "replicas") == 200
    assert [e for e in cart.events() if e["reason"] == "ScalingIn"]
