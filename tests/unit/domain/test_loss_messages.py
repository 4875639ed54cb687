"""S2: what is said of a loss, for how long, and how somebody gives the data up."""

from typing import Any

import pytest

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from tests.unit.domain.building import formed
from tests.unit.domain.losing import FIRST, STORED, WAIT, Operator, given, led, without
from tests.unit.domain.test_fence import raised


@pytest.mark.parametrize("spec", [WAIT, STORED, {**STORED, **WAIT}], ids=["memory", "default", "volumes"])
def test_s2_lost_slots_wait_for_approval_and_it_is_said_how(spec: dict[str, Any]) -> None:
    operator = Operator()
    lost = without(formed(3, 1, **spec), 0)
    for shard in (1, 2):  # two that lead are few: each has a fence
        lost = raised(lost, shard)
    made = operator.look(lost)
    assert not given(made)
    assert [b.reason for b in made.blocks] == [Reason.DATA_LOSS]
    assert not made.waits
    assert operator.loss["state"] == "WaitingForApproval"
    assert operator.loss["shards"] == [{"name": "cart-0", "slots": FIRST}]
    approve = f"kubectl annotate -n shop cc cart cachecluster.dev/approve-data-loss={operator.incident} --overwrite"
    for message in (made.blocks[0].message, operator.message(), operator.status["message"]):
        assert f"slots {FIRST} (cart-0) is gone since {operator.loss['since']}" in message
        assert message.endswith(approve)
        assert ("volumes can be brought back" in message) is ("persistence" in spec)
    assert operator.condition(ConditionType.READY) == ("False", Reason.SLOTS_UNCOVERED)
    assert operator.condition(ConditionType.STALLED) == ("True", Reason.DATA_LOSS)
    assert operator.condition(ConditionType.RECONCILING)[0] == "False"
    assert operator.condition(ConditionType.DEGRADED)[0] == "True"
    assert operator.condition(ConditionType.DATA_LOSS) == ("True", Reason.DATA_LOSS)


def test_an_approval_of_something_else_approves_nothing_and_that_is_said() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.approve("yes" * 50)
    for _ in range(3):
        assert not given(operator.look(lost))
    assert f'is "{"yes" * 13}y...", which does not approve this one' in operator.message()
    assert operator.incident in operator.message()


def test_s2_a_loss_is_told_for_a_day_after_it_has_ended() -> None:
    lost = without(formed(3, 1), 0)
    operator = Operator()
    for cluster in (lost, lost, led(lost, 0)):
        operator.look(cluster)
    ended = operator.loss["endedAt"]
    operator.now += 23 * 3600
    operator.look(formed(3, 1))
    assert operator.condition(ConditionType.DATA_LOSS)[0] == "True"
    assert operator.loss["endedAt"] == ended
    operator.now += 3600
    operator.look(formed(3, 1))
    assert operator.condition(ConditionType.DATA_LOSS) == ("False", Reason.AS_EXPECTED)
    assert "dataLoss" not in operator.status


def test_many_lost_shards_make_a_message_that_a_person_still_reads() -> None:
    operator = Operator()
    operator.look(without(formed(12, 0, **WAIT), *range(12)))
    assert "and 7 more is gone" in operator.message()
    assert len(operator.loss["shards"]) == 12
