"""S2: slots whose data is gone wait for somebody's word or start empty, as the spec says; each loss is decided once."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import OnDataLoss
from cachecluster.domain.actions import Forget, Replicate
from cachecluster.domain.slots import NO_SLOTS, share
from cachecluster.domain.snapshot import InvalidSpec
from tests.unit.domain.building import formed, gone, spec_of
from tests.unit.domain.losing import FIRST, RECREATE, STORED, WAIT, Operator, given, led, without


def test_without_volumes_slots_start_empty_and_with_them_somebody_is_asked() -> None:
    assert spec_of().on_data_loss is OnDataLoss.RECREATE
    assert spec_of(**STORED).on_data_loss is OnDataLoss.WAIT_FOR_APPROVAL
    assert spec_of(**WAIT).on_data_loss is OnDataLoss.WAIT_FOR_APPROVAL
    assert spec_of(**STORED, **RECREATE).on_data_loss is OnDataLoss.RECREATE


def test_s2_an_approved_loss_is_noted_first_and_then_carried_out_once() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.look(lost)
    operator.approve()
    assert not given(operator.look(lost))
    assert operator.loss["state"] == "StartingEmpty"
    assert operator.loss["shards"] == [{"name": "cart-0", "slots": FIRST, "successor": "id-0-0-1"}]
    assert operator.condition(ConditionType.STALLED)[0] == "False"
    assert given(operator.look(lost)) == [("cart-0-0", FIRST)]
    assert not given(operator.look(led(lost, 0)))
    assert operator.loss["state"] == "StartedEmpty"
    assert operator.condition(ConditionType.DATA_LOSS)[0] == "True"

    first = operator.incident
    again = without(formed(3, 1, **WAIT), 0, generation=2)
    for _ in range(3):
        assert not given(operator.look(again))
    assert operator.incident != first
    assert f'is "{first}", which does not approve this one' in operator.message()
    operator.approve()
    operator.look(again)
    assert given(operator.look(again)) == [("cart-0-0", FIRST)]


@pytest.mark.parametrize("asked", [WAIT, RECREATE], ids=["WaitForApproval", "Recreate"])
def test_s2_what_was_decided_is_not_carried_out_for_the_next_loss(asked: dict[str, Any]) -> None:
    """The operator was ended right after it had given the slots away, and nobody looked until they were lost again."""
    lost = without(formed(3, 1, **asked), 0)
    operator = Operator()
    operator.look(lost)
    operator.approve()
    operator.look(lost)
    first = operator.incident
    assert operator.loss["state"] == "StartingEmpty"
    again = without(formed(3, 1, **asked), 0, generation=2)
    assert not given(operator.look(again))
    assert operator.incident != first
    assert operator.loss["state"] == ("WaitingForApproval" if asked is WAIT else "StartingEmpty")
    assert bool(given(operator.look(again))) is (asked is RECREATE)


def test_s2_an_approval_of_two_shards_is_carried_through_although_the_operator_is_ended_in_between() -> None:
    both = without(formed(3, 1, **WAIT), 0, 2)
    operator = Operator()
    operator.look(both)
    first = operator.incident
    operator.approve()
    operator.look(both)
    half = led(both, 0)
    assert [pod for pod, _ in given(operator.look(half))] == ["cart-2-0"]
    assert operator.incident == first
    operator.look(led(half, 2))
    assert (operator.incident, operator.loss["state"]) == (first, "StartedEmpty")


def test_s2_what_has_come_back_is_not_given_up_with_what_was_lost_beside_it() -> None:
    both = without(formed(3, 1, **WAIT), 0, 2)
    operator = Operator()
    operator.look(both)
    operator.approve()
    operator.look(both.with_node(0, 0, answers=False).with_node(2, 0, answers=False))
    back = without(formed(3, 1, **WAIT), 0).with_node(0, 0, answers=False)
    operator.look(back)
    assert operator.loss["state"] == "StartingEmpty"
    first = operator.incident
    for _ in range(3):
        made = operator.look(without(formed(3, 1, **WAIT), 0, 2, generation=2))
        assert not given(made)
    assert operator.incident != first


@pytest.mark.parametrize("spec", [{}, {**STORED, **RECREATE}], ids=["default", "volumes"])
def test_s2_recreate_starts_empty_by_itself_once_the_status_has_it(spec: dict[str, Any]) -> None:
    lost = without(formed(3, 1, **spec), 0)
    operator = Operator()
    made = operator.look(lost)
    assert not given(made)
    assert not made.blocks
    assert operator.loss["state"] == "StartingEmpty"
    assert operator.condition(ConditionType.DATA_LOSS) == ("True", Reason.DATA_LOSS)
    assert "recovery.onDataLoss is Recreate" in operator.message()
    assert given(operator.look(lost)) == [("cart-0-0", FIRST)]
    operator.look(led(lost, 0))
    assert operator.loss["state"] == "StartedEmpty"


def test_an_edit_of_the_spec_takes_effect_at_once_in_both_directions() -> None:
    waiting, recreating = (without(formed(3, 1, **spec), 0) for spec in (WAIT, RECREATE))
    operator = Operator()
    operator.look(waiting)
    first = operator.incident
    operator.look(recreating)
    assert (operator.incident, operator.loss["state"]) == (first, "StartingEmpty")
    assert not given(operator.look(waiting))
    assert (operator.incident, operator.loss["state"]) == (first, "WaitingForApproval")
    operator.look(recreating)
    assert given(operator.look(recreating))


def test_an_approval_that_is_taken_back_in_time_is_not_carried_out() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.look(lost)
    operator.approve()
    operator.look(lost)
    operator.annotations.clear()
    assert not given(operator.look(lost))
    assert operator.loss["state"] == "WaitingForApproval"


def test_a_lost_owner_that_the_tables_still_name_is_forgotten_before_its_slots_are_given_out() -> None:
    cluster = replace(without(formed(3, 1, **WAIT), 0), ghosts=(gone("id-old", share(3)[0]),))
    operator = Operator()
    operator.look(cluster)
    operator.approve()
    operator.look(cluster)
    made = operator.look(cluster)
    assert not given(made)
    assert [s.action.node_id for s in made.steps if isinstance(s.action, Forget)] == ["id-old"]
    assert given(operator.look(replace(cluster, ghosts=()))) == [("cart-0-0", FIRST)]


def test_replicas_stay_with_the_lost_owner_until_its_data_is_given_up() -> None:
    old = formed(1, 1).nodes[0]
    ghost = gone(old.node_id, old.slots, ip=old.ip)
    lost = replace(formed(1, 1, **WAIT), ghosts=(ghost,))
    lost = lost.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0, quarantined=True)
    lost = lost.with_node(0, 1, up=False, down_seconds=-1, keys=0)
    operator = Operator()
    first = operator.look(lost)
    assert not [s for s in first.steps if isinstance(s.action, Replicate | Forget)]
    assert not first.waits
    assert {b.reason for b in first.blocks} == {Reason.DATA_LOSS}
    operator.approve()
    operator.look(lost)
    moved = [s.action for s in operator.look(lost).steps if isinstance(s.action, Replicate)]
    assert [(a.node.pod, a.primary.pod) for a in moved] == [("cart-0-1", "cart-0-0")]


def test_an_invalid_spec_decides_nothing() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.look(lost)
    operator.approve()
    invalid = replace(lost, more={"spec": InvalidSpec("wrong")})
    operator.look(invalid)
    assert operator.loss["state"] == "WaitingForApproval"
    assert operator.condition(ConditionType.DATA_LOSS)[0] == "True"


def test_a_paused_operator_tells_of_a_loss_and_does_nothing() -> None:
    lost = without(formed(3, 1, **RECREATE, paused=True), 0)
    operator = Operator()
    for _ in range(3):
        assert not operator.look(lost).steps
    assert operator.condition(ConditionType.DATA_LOSS)[0] == "True"
