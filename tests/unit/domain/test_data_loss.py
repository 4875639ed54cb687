"""S2: what is a loss, which loss is which, and what is none."""

from dataclasses import replace

import pytest

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Forget, Meet, Release
from cachecluster.domain.nodes import Role
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import Host
from cachecluster.domain.topology import observe
from tests.unit.domain.building import NOW, blank, formed, gone, spec_of
from tests.unit.domain.losing import FIRST, STORED, WAIT, Operator, given, without


def test_an_incident_keeps_its_name_whoever_looks_and_when() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.look(lost)
    first = dict(operator.loss)
    for _ in range(3):
        operator.now += 1000
        operator.look(lost)
        assert operator.loss == first
    silent = lost.with_node(0, 1, answers=False)  # its pod is replaced, say
    assert not given(operator.look(silent))
    operator.look(without(formed(3, 1, **WAIT), 0, generation=2))
    assert operator.loss == first


def test_an_incident_that_a_newer_operator_has_written_is_the_same_incident() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.look(lost)
    first = operator.incident
    operator.status = {**operator.status, "dataLoss": {**operator.loss, "witness": "somebody"}}
    operator.look(lost)
    assert operator.incident == first


def test_s2_a_loss_that_grows_is_another_incident() -> None:
    operator = Operator()
    operator.look(without(formed(3, 1, **WAIT), 0))
    first, since = operator.incident, operator.loss["since"]
    operator.approve()
    both = without(formed(3, 1, **WAIT), 0, 2)
    for _ in range(3):
        assert not given(operator.look(both))
    assert operator.incident != first
    assert [s["name"] for s in operator.loss["shards"]] == ["cart-0", "cart-2"]
    assert operator.loss["since"] == since
    operator.approve()
    operator.look(both)
    assert [pod for pod, _ in given(operator.look(both))] == ["cart-0-0", "cart-2-0"]


def test_data_that_comes_back_ends_the_incident_without_approval() -> None:
    operator = Operator()
    operator.look(without(formed(3, 1, **STORED), 0, 2))
    first = operator.incident
    operator.look(without(formed(3, 1, **STORED), 0))
    assert (operator.incident, [s["name"] for s in operator.loss["shards"]]) == (first, ["cart-0"])
    operator.look(formed(3, 1, **STORED))
    assert (operator.incident, operator.loss["state"]) == (first, "Recovered")
    assert operator.condition(ConditionType.DATA_LOSS) == ("False", Reason.AS_EXPECTED)
    assert operator.condition(ConditionType.READY)[0] == "True"
    operator.approve()
    again = without(formed(3, 1, **STORED), 0, generation=2)
    for _ in range(3):
        assert not given(operator.look(again))
    assert operator.incident != first


def test_s2_data_that_came_back_and_is_lost_anew_is_another_incident() -> None:
    operator = Operator()
    operator.look(without(formed(3, 1, **STORED), 0, 2))
    first = operator.incident
    operator.look(without(formed(3, 1, **STORED), 0))
    operator.look(without(formed(3, 1, **STORED), 0, 2))
    assert operator.incident != first


def test_a_cluster_that_never_held_data_is_not_asked_about() -> None:
    for cluster in (blank(3, 1, **WAIT), blank(3, 1, **STORED), blank(1, 0, **WAIT)):
        operator = Operator()
        assert Reason.DATA_LOSS not in {b.reason for b in operator.look(cluster).blocks}
        assert "dataLoss" not in operator.status
        assert "DataLoss" not in {c["type"] for c in operator.status["conditions"]}


def test_an_empty_shard_that_is_added_is_not_asked_about() -> None:
    grown = replace(formed(3, 1, **WAIT), spec=spec_of(4, 1, **WAIT))
    newcomers = (n for n in blank(4, 1).nodes if n.shard == 3)
    served = dict(enumerate(share(3)))
    operator = Operator()
    operator.look(replace(grown, nodes=(*grown.nodes, *newcomers), recorded={**served, 3: NO_SLOTS}))
    assert "dataLoss" not in operator.status


def test_s1_silence_is_no_loss_and_nobody_is_given_slots_while_it_lasts() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.look(lost.with_node(0, 1, answers=False))
    assert "dataLoss" not in operator.status
    operator.look(lost)
    operator.approve()
    operator.look(lost)
    assert operator.loss["state"] == "StartingEmpty"
    assert not given(operator.look(lost.with_node(0, 1, answers=False)))
    assert operator.loss["state"] == "StartingEmpty"


def test_s1_slots_of_an_owner_that_may_run_on_unheard_are_not_lost() -> None:
    ghost = gone("id-old", share(3)[0])
    cluster = replace(without(formed(3, 1, **WAIT), 0), ghosts=(ghost,))
    snap = cluster.snapshot()
    dark = Host("host-z", {}, schedulable=True, ready=False, not_ready_since=NOW - 500)
    hosts = {**snap.hosts, "host-z": dark}
    operator = Operator()
    operator.look(replace(cluster, more={"hosts": hosts}))
    assert "dataLoss" not in operator.status
    operator.look(replace(cluster, more={"hosts": {**hosts, "host-z": replace(dark, out_of_service=True)}}))
    assert operator.loss["shards"][0]["slots"] == FIRST


def test_s2_slots_that_a_living_primary_has_lost_are_asked_about() -> None:
    missing = SlotSet.from_ranges([(0, 9)])
    cluster = formed(3, 1, **WAIT).with_node(0, 0, slots=share(3)[0] - missing)
    operator = Operator()
    assert not given(operator.look(cluster))
    assert operator.loss["shards"] == [{"name": "cart-0", "slots": "0-9"}]
    assert operator.condition(ConditionType.DEGRADED) == ("True", Reason.DATA_LOSS)
    operator.approve()
    operator.look(cluster)
    assert given(operator.look(cluster)) == [("cart-0-0", "0-9")]


def test_older_copies_of_which_none_may_lead_wait_for_a_person() -> None:
    lost = without(formed(3, 2), 0)
    left = {"keys": 10, "role": Role.REPLICA, "follows": "id-before", "up": False, "down_seconds": 90, "generation": 0}
    operator = Operator()
    operator.look(lost.with_node(0, 2, **left))
    assert operator.condition(ConditionType.STALLED) == ("True", Reason.NO_SYNCED_REPLICA)


def test_data_without_a_table_is_pointed_at_and_left_alone() -> None:
    """Somebody has deleted nodes.conf, or brought a volume without it."""
    cluster = formed(3, 0).with_node(0, 0, slots=NO_SLOTS, keys=10, quarantined=True, generation=1, epoch=0)
    made = plan(cluster.snapshot())
    [said] = [b.message for b in made.blocks if b.reason is Reason.UNOWNED_KEYS]
    assert "cart-0-0 has keys but does not know of its slots. Take from cart-0-0 what you need" in said
    assert not made.steps


def test_a_slot_that_changes_hands_while_it_is_looked_at_is_not_lost() -> None:
    """The source has been asked after it had gone, the destination before it came: others still tell of an owner."""
    moved = SlotSet.from_ranges([(0, 9)])
    cluster = formed(3, 1, **WAIT).with_node(0, 0, slots=share(3)[0] - moved)
    snap = cluster.snapshot()
    view = snap.view("cart-1-0")
    assert view is not None
    rows = tuple(replace(p, slots=p.slots | moved) if p.node_id == "id-0-0-0" else p for p in view.peers)
    operator = Operator()
    operator.look(replace(cluster, more={"views": {**snap.views, "cart-1-0": replace(view, peers=rows)}}))
    assert "dataLoss" not in operator.status


@pytest.mark.parametrize(("epoch", "others"), [(0, 0), (1, 0), (0, 2)], ids=["older", "newer", "knows newer ones"])
def test_s2_who_comes_back_from_before_all_was_lost_is_let_in_only_if_it_takes_nothing_away(
    epoch: int, others: int
) -> None:
    """Its table has owners of before, by epochs that may be newer than those of the owners since."""
    late = formed(3, 1).with_node(
        0, 1, role=Role.PRIMARY, follows=None, slots=share(3)[0], epoch=epoch, hidden=True, quarantined=True
    )
    snap = late.snapshot()
    view = snap.view("cart-0-1")
    assert view is not None
    rows = (view.myself, gone("id-gone", share(3)[1], epoch=others))
    snap = replace(snap, views={**snap.views, "cart-0-1": replace(view, peers=rows)})
    made = plan(snap)
    introduced = [t.pod for s in made.steps if isinstance(s.action, Meet) for t in s.action.nodes]
    harmless = epoch == others == 0
    assert ("cart-0-1" in introduced) is harmless
    assert not [s for s in made.steps if isinstance(s.action, Release | Forget)]
    assert (Reason.UNOWNED_KEYS in {b.reason for b in made.blocks}) is not harmless
    shard = observe(snap).shards[0]
    assert shard.primary is not None
    assert shard.primary.pod.name == "cart-0-0"


def test_older_data_is_neither_served_nor_dropped_and_somebody_is_told() -> None:
    """A replica was cut off while its primary was replaced; then the successor is lost with all that it had."""
    lost = without(formed(3, 2), 0).with_node(
        0, 2, keys=10, role=Role.REPLICA, follows="id-before", up=False, down_seconds=90, generation=0
    )
    [block] = [b for b in plan(lost.snapshot()).blocks if b.reason is Reason.NO_SYNCED_REPLICA]
    assert "cart-0-2 followed an earlier one" in block.message
    assert not given(plan(lost.snapshot()))
    unheard = plan(lost.with_node(0, 1, answers=False).snapshot())
    assert not [b for b in unheard.blocks if b.reason is Reason.NO_SYNCED_REPLICA]
    assert any("Waiting for all of its pods" in w.message for w in unheard.waits)
    also = lost.with_node(0, 0, role=Role.REPLICA, follows="id-after", up=False, down_seconds=-1)
    after = replace(also, ghosts=(gone("id-after", share(3)[0], epoch=9),))
    [block] = [b for b in plan(after.snapshot()).blocks if b.reason is Reason.NO_SYNCED_REPLICA]
    assert "Take from cart-0-2 what you need" in block.message, "somebody follows the lost successor, and has nothing"
    followed = replace(lost, ghosts=(gone("id-before", share(3)[0]),))
    assert not any("followed an earlier one" in b.message for b in plan(followed.snapshot()).blocks)
