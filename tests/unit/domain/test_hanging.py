"""When a process that does not answer is ended, and when it is left alone."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import EndPod, Promote
from cachecluster.domain.hanging import can_do_without
from cachecluster.domain.nodes import NodeId, Peer, Role, Unreachable
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import Container, ContainerState, Snapshot
from tests.unit.domain.building import NOW, Cluster, formed

PRIMARY, REPLICA = "cart-0-0", "cart-0-1"
HUNG: dict[str, Any] = {"answers": False, "pong_age": 12, "suspected": True}


def primary_hangs(shards: int = 1, replicas: int = 1, **replica: Any) -> Cluster:
    """Nobody has heard of the first primary for twelve seconds; ``replica`` changes what follows it."""
    cluster = formed(shards, replicas).with_node(0, 0, **HUNG)
    return cluster.with_node(0, 1, **{"last_io": 12, **replica}) if replicas else cluster


def replica_hangs(replicas: int = 1) -> Cluster:
    return formed(1, replicas).with_node(0, 1, **HUNG)


def seen(cluster: Cluster, *silent: str, seconds: float = 11) -> Snapshot:
    """What a pass sees: who is ``silent`` has said nothing for so long, and every machine keeps its connection."""
    snap = cluster.snapshot()
    unknown = {pod: Unreachable("no answer", NOW - seconds, silent=True) for pod in silent or [PRIMARY]}
    connected = {f"uid-{node.name}": node.node_id for node in cluster.nodes}
    return replace(snap, views={**snap.views, **unknown}, connected=connected)


def with_row(snap: Snapshot, pod: str, about: str, **changes: Any) -> Snapshot:
    """One node knows other things of another."""
    view = snap.view(pod)
    assert view is not None
    peers: list[Peer] = [replace(p, **changes) if p.node_id == about else p for p in view.peers]
    return replace(snap, views={**snap.views, pod: replace(view, peers=tuple(peers))})


def ended(snap: Snapshot) -> list[str]:
    return [s.action.node.pod for s in plan(snap).steps if isinstance(s.action, EndPod)]


def test_s10_a_primary_that_hangs_is_ended_first_and_not_replaced_yet() -> None:
    (step,) = [s for s in plan(seen(primary_hangs())).steps if isinstance(s.action, (EndPod, Promote))]
    assert isinstance(step.action, EndPod)
    assert (step.action.node.pod, step.action.node.ip, step.action.keeper.pod) == (PRIMARY, "10.0.0.0", REPLICA)
    assert step.reason is Reason.NODE_HANGS


def test_a_replica_that_hangs_is_ended() -> None:
    assert ended(seen(replica_hangs(), REPLICA)) == [REPLICA]


def test_a_former_primary_that_others_have_replaced_is_ended() -> None:
    cluster = formed(3)
    leads = {"role": cluster.nodes[0].role, "slots": cluster.nodes[0].slots, "follows": None, "epoch": 9}
    cluster = cluster.with_node(0, 1, **leads).with_node(0, 0, **HUNG)
    assert ended(seen(cluster)) == [PRIMARY]


def test_s1_the_word_of_the_operator_alone_ends_nothing() -> None:
    """A node that has only just started, or hung itself until now, has not waited for anybody."""
    snap = seen(primary_hangs())
    assert ended(snap)
    assert not ended(with_row(snap, REPLICA, "id-0-0-0", pong_age=None))
    assert not ended(with_row(snap, REPLICA, "id-0-0-0", flags=frozenset({"master"})))
    everybody_silent = seen(primary_hangs(3), *(n.name for n in primary_hangs(3).nodes))
    assert not ended(everybody_silent)
    assert Reason.NODE_HANGS not in {b.reason for b in plan(everybody_silent).blocks}


def test_s1_the_word_of_other_nodes_alone_ends_nothing() -> None:
    snap = seen(primary_hangs(), seconds=9)
    assert not ended(snap)
    assert not ended(primary_hangs().snapshot())


def test_s1_a_node_that_any_other_one_hears_does_not_hang() -> None:
    snap = seen(primary_hangs(3))
    assert ended(snap) == [PRIMARY]
    assert not ended(with_row(snap, "cart-2-1", "id-0-0-0", pong_age=9.0))


def test_s1_a_primary_whose_stream_its_replica_still_hears_does_not_hang() -> None:
    assert not ended(seen(primary_hangs(last_io=1)))


def test_s1_an_operator_that_is_cut_off_ends_nothing() -> None:
    """Without its connection to that machine it cannot tell a process that hangs from a network that is gone."""
    snap = seen(primary_hangs())
    assert not ended(replace(snap, connected={}))
    assert not ended(replace(snap, connected={"uid-of-an-earlier-pod": NodeId("id-0-0-0")}))


@pytest.mark.parametrize("why", ["BUSY a script runs", "connection reset", "max number of clients reached"])
def test_s1_a_node_that_says_anything_at_all_does_not_hang(why: str) -> None:
    snap = seen(primary_hangs())
    spoke = Unreachable(why, NOW - 60)
    assert not ended(replace(snap, views={**snap.views, PRIMARY: spoke}))
    refused = Unreachable("connection refused", NOW - 60, refused=True)
    assert not ended(replace(snap, views={**snap.views, PRIMARY: refused}))


def test_s1_a_node_that_loads_its_data_does_not_hang() -> None:
    cluster = formed(1).with_node(0, 0, pong_age=12, suspected=True).with_node(0, 1, last_io=12)
    snap = seen(cluster, REPLICA, seconds=0)
    view = cluster.snapshot().view(PRIMARY)
    assert view is not None
    assert not ended(replace(snap, views={**snap.views, PRIMARY: replace(view, loading=True)}))


@pytest.mark.parametrize(
    "replica",
    [
        {"up": False, "down_seconds": -1},
        {"up": False, "down_seconds": 11},
        {"up": False, "down_seconds": 3600},
        {"answers": False},
        {"deleting": True},
    ],
    ids=["never in step", "not in step at the end", "lost it an hour ago", "does not answer", "is on its way out"],
)
def test_s3_the_last_copy_is_left_alone_and_it_is_said(replica: dict[str, Any]) -> None:
    snap = seen(primary_hangs(2, **replica))
    assert not ended(snap)
    assert Reason.NODE_HANGS in {b.reason for b in plan(snap).blocks}


def test_s3_a_node_that_has_never_had_a_role_may_hold_keys_that_nobody_else_has() -> None:
    stranger = replica_hangs().with_node(0, 1, role=Role.PRIMARY, follows=None, label=None)
    assert not ended(seen(stranger, REPLICA))
    assert ended(seen(stranger.with_node(0, 1, label="primary"), REPLICA)) == [REPLICA]


def test_s3_who_is_to_have_the_data_leads_its_shard_or_follows_what_hangs() -> None:
    replica, primary = primary_hangs().snapshot().view(REPLICA), replica_hangs().snapshot().view(PRIMARY)
    assert replica is not None
    assert replica.link is not None
    assert primary is not None
    assert can_do_without(replica, NodeId("id-0-0-0"))
    assert not can_do_without(replace(replica, link=replace(replica.link, sync_in_progress=True)), NodeId("id-0-0-0"))
    elsewhere = tuple(replace(p, primary_id=NodeId("another")) for p in replica.peers)
    assert not can_do_without(replace(replica, peers=elsewhere), NodeId("id-0-0-0"))
    assert can_do_without(primary, NodeId("id-0-1-0"))
    assert not can_do_without(replace(primary, quarantined=True), NodeId("id-0-1-0"))
    emptied = tuple(replace(p, slots=NO_SLOTS) for p in primary.peers)
    assert not can_do_without(replace(primary, peers=emptied), NodeId("id-0-1-0"))


def test_s3_the_only_node_is_left_alone() -> None:
    assert not ended(seen(primary_hangs(1, 0)))


def test_a_replica_that_has_given_up_its_silent_link_since_then_has_everything() -> None:
    """repl-timeout ends it a minute after the primary has fallen silent."""
    cluster = primary_hangs(up=False, down_seconds=3, last_io=None).with_node(0, 0, pong_age=65)
    assert ended(seen(cluster)) == [PRIMARY]


def test_s7_of_several_copies_that_hang_one_is_ended_at_a_time() -> None:
    cluster = replica_hangs(2).with_node(0, 2, **HUNG)
    assert ended(seen(cluster, REPLICA, "cart-0-2")) == [REPLICA]
    on_its_way = cluster.with_node(0, 1, deleting=True)
    assert not ended(seen(on_its_way, REPLICA, "cart-0-2"))
    gone = seen(cluster, "cart-0-2")
    assert not ended(replace(gone, pods=tuple(p for p in gone.pods if p.name != REPLICA)))
    syncing = cluster.with_node(0, 1, answers=True, suspected=False, pong_age=0.1, up=False, down_seconds=-1)
    assert not ended(seen(syncing, "cart-0-2"))
    assert Reason.NODE_HANGS in {w.reason for w in plan(seen(syncing, "cart-0-2")).waits}


def test_a_container_that_does_not_run_cannot_hang() -> None:
    waiting = Container(ContainerState.WAITING, "CrashLoopBackOff", "", 3, None, "Error, exit code 1", 1)
    assert not ended(seen(primary_hangs().with_node(0, 0, container=waiting)))


def test_a_pod_that_is_being_deleted_is_not_deleted_again() -> None:
    assert not ended(seen(primary_hangs().with_node(0, 0, deleting=True)))
