"""What is done about half-moved slots: engine-facts §1.4, row by row."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.domain.actions import MoveSlots, SettleSlots
from cachecluster.domain.nodes import NodeId, NodeView, OpenSlot, Role, Unreachable
from cachecluster.domain.open_slots import Recovery, recover_open_slots
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.topology import observe
from tests.unit.domain.building import Cluster, formed, gone

A, B, C = (NodeId(f"id-{shard}-0-0") for shard in range(3))
B_REPLICA = NodeId("id-1-1-0")
GONE = NodeId("id-gone")
SLOTS = SlotSet.of([1, 2])
ACTIONS = (MoveSlots, SettleSlots)


def recover(
    cluster: Cluster,
    gives: dict[str, NodeId] | None = None,
    takes: dict[str, NodeId] | None = None,
    silent: str | None = None,
) -> Recovery:
    """With slots 1 and 2 marked at the named pods; ``silent`` does not answer."""
    snap = cluster.snapshot()
    views = dict(snap.views)
    for pod, peer in (gives or {}).items():
        views[pod] = replace(_view(views[pod]), migrating=tuple(OpenSlot(s, peer) for s in SLOTS))
    for pod, peer in (takes or {}).items():
        views[pod] = replace(_view(views[pod]), importing=tuple(OpenSlot(s, peer) for s in SLOTS))
    if silent is not None:
        views[silent] = Unreachable("no answer", 0.0)
    return recover_open_slots(observe(replace(snap, views=views)))


def _view(view: NodeView | Unreachable) -> NodeView:
    assert isinstance(view, NodeView)
    return view


def only_move(recovery: Recovery) -> MoveSlots:
    (action,) = recovery.actions
    assert isinstance(action, MoveSlots)
    assert action.slots == SLOTS
    assert not recovery.waiting
    return action


def only_settling(recovery: Recovery) -> SettleSlots:
    (action,) = recovery.actions
    assert isinstance(action, SettleSlots)
    assert action.slots == SLOTS
    assert not recovery.waiting
    return action


def test_nothing_open_is_nothing_to_do() -> None:
    assert not recover(formed())


def test_both_sides_open_goes_on() -> None:
    move = only_move(recover(formed(), gives={"cart-0-0": B}, takes={"cart-1-0": A}))
    assert (move.source.node_id, move.destination.node_id) == (A, B)
    assert [t.node_id for t in move.replicas] == [B_REPLICA]
    assert [t.node_id for t in move.others] == [C]


def test_only_the_source_is_marked_goes_on() -> None:
    move = only_move(recover(formed(), gives={"cart-0-0": B}))
    assert (move.source.node_id, move.destination.node_id) == (A, B)


def test_only_the_destination_is_marked_asks_it_for_keys() -> None:
    settling = only_settling(recover(formed(), takes={"cart-1-0": A}))
    assert settling.owner.node_id == A
    assert [t.node_id for t in settling.others] == [B]


def test_destination_that_claims_them_already_is_believed() -> None:
    taken = share(3)[1] | SLOTS
    cluster = formed().with_node(1, 0, slots=taken, epoch=9)
    move = only_move(recover(cluster, gives={"cart-0-0": B}))
    assert (move.source.node_id, move.destination.node_id) == (A, B)


def test_destination_that_was_replaced_by_its_replica_is_followed() -> None:
    cluster = formed().with_node(1, 0, role=Role.REPLICA, follows=B_REPLICA, slots=NO_SLOTS)
    cluster = cluster.with_node(1, 1, role=Role.PRIMARY, follows=None, slots=share(3)[1], epoch=9)
    move = only_move(recover(cluster, gives={"cart-0-0": B}))
    assert (move.source.node_id, move.destination.node_id) == (A, B_REPLICA)
    assert [t.node_id for t in move.replicas] == [B]


def test_destination_whose_id_nobody_has_is_looked_for_everywhere() -> None:
    settling = only_settling(recover(formed(), gives={"cart-0-0": GONE}))
    assert settling.owner.node_id == A
    assert [t.node_id for t in settling.others] == [B, C]


def test_destination_whose_id_nobody_has_is_waited_for_while_somebody_is_silent() -> None:
    recovery = recover(formed(), gives={"cart-0-0": GONE}, silent="cart-1-1")
    assert recovery.actions == ()
    assert recovery.waiting == ("slots 1-2 are half moved: the node that takes them does not answer",)


def lost(**changes: Any) -> Cluster:
    """Shard 1's primary is silent, and its replica leads since a failover."""
    row = gone(B, NO_SLOTS, epoch=2, ip="10.0.1.0")
    cluster = formed().with_node(1, 0, answers=False, hidden=True)
    cluster = cluster.with_node(1, 1, role=Role.PRIMARY, follows=None, slots=share(3)[1], epoch=9)
    return replace(cluster, ghosts=(replace(row, **changes),))


def test_destination_that_is_silent_since_its_replica_leads_is_looked_for_everywhere() -> None:
    settling = only_settling(recover(lost(), gives={"cart-0-0": B}))
    assert settling.owner.node_id == A
    assert [t.node_id for t in settling.others] == [B_REPLICA, C]


@pytest.mark.parametrize(
    "cluster",
    [
        lost(flags=frozenset({"master", "fail?"})),
        lost(slots=SlotSet.of([7000]), config_epoch=10),
        lost(ip="10.9.9.9"),
        lost(ip="10.0.2.0").with_node(2, 1, answers=False),
        lost().with_node(2, 1, follows=B),
        lost().with_node(1, 1, slots=NO_SLOTS),
    ],
    ids=[
        "not given up",
        "owns slots",
        "of no shard",
        "its address is another's",
        "has a replica",
        "nobody leads its shard",
    ],
)
def test_s1_destination_that_is_silent_is_waited_for_while_it_may_still_lead(cluster: Cluster) -> None:
    recovery = recover(cluster, gives={"cart-0-0": B})
    assert recovery.actions == ()
    assert recovery.waiting == ("slots 1-2 are half moved: the node that takes them does not answer",)


@pytest.mark.parametrize("silent", ["cart-0-0", "cart-1-0"])
def test_an_end_that_is_silent_is_waited_for(silent: str) -> None:
    gives = {} if silent == "cart-0-0" else {"cart-0-0": B}
    takes = {} if silent == "cart-1-0" else {"cart-1-0": A}
    recovery = recover(formed(), gives, takes, silent)
    assert recovery.actions == ()
    assert "does not answer" in recovery.waiting[0]


def test_another_node_that_takes_them_too_is_asked_for_keys() -> None:
    recovery = recover(formed(), gives={"cart-0-0": B}, takes={"cart-1-0": A, "cart-2-0": A})
    assert [t.node_id for t in only_settling(recovery).others] == [B, C]


def test_former_source_that_has_not_heard_of_a_third_owner_is_left_alone() -> None:
    cluster = formed().with_node(2, 0, slots=share(3)[2] | SLOTS, epoch=9)
    recovery = recover(cluster, gives={"cart-0-0": B})
    assert recovery.actions == ()
    assert "yet to hear" in recovery.waiting[0]


def test_former_source_that_has_heard_of_a_third_owner_is_asked_for_keys() -> None:
    """Redis leaves it its mark, which may name a node that has died since, while its replica has taken over."""
    cluster = formed().with_node(2, 0, slots=share(3)[2] | SLOTS, epoch=9).with_node(0, 0, slots=share(3)[0] - SLOTS)
    settling = only_settling(recover(cluster, gives={"cart-0-0": B}))
    assert settling.owner.node_id == C
    assert [t.node_id for t in settling.others] == [A]


def test_marks_of_a_quarantined_or_demoted_node_count_for_nothing() -> None:
    assert not recover(formed().with_node(2, 0, quarantined=True), gives={"cart-2-0": B})
    assert not recover(formed(), gives={"cart-1-1": C})
