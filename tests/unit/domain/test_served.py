"""S2, ADR 0002: that a shard has held data is known although its StatefulSet has been deleted with its pods."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import InvalidSpec, ObjectKey
from cachecluster.domain.topology import observe
from tests.unit.domain.building import Cluster, blank, formed, spec_of
from tests.unit.domain.losing import FIRST, STORED, WAIT, Operator, given, without


def anew(cluster: Cluster, shard: int) -> Cluster:
    """The shard has a new StatefulSet, on which nothing is noted."""
    return replace(cluster, recorded={**cluster.recorded, shard: NO_SLOTS})


def torn_down(cluster: Cluster, *shards: int) -> Cluster:
    """Nothing of the shards is there any more, neither pods nor StatefulSets."""
    left = replace(cluster, nodes=tuple(n for n in cluster.nodes if n.shard not in shards))
    gone = {ObjectKey("StatefulSet", f"cart-{shard}") for shard in shards}
    children = {key: body for key, body in left.snapshot().children.items() if key not in gone}
    return replace(left, more={**cluster.more, "children": children})


def rows(operator: Operator) -> dict[str, str]:
    return {shard["name"]: shard["slots"] for shard in operator.status["shards"]}


@pytest.mark.parametrize("spec", [WAIT, STORED], ids=["memory", "volumes"])
def test_s2_a_shard_made_anew_without_its_data_is_a_loss(spec: dict[str, Any]) -> None:
    operator, whole = Operator(), formed(3, 1, **spec)
    operator.look(whole)
    made = operator.look(without(anew(whole, 0), 0))
    assert operator.loss["state"] == "WaitingForApproval"
    assert operator.loss["shards"] == [{"name": "cart-0", "slots": FIRST}]
    assert not given(made)


def test_s2_a_whole_cluster_made_anew_is_a_loss() -> None:
    operator, whole = Operator(), formed(3, 1, **WAIT)
    operator.look(whole)
    made = operator.look(blank(3, 1, **WAIT))
    assert [s["slots"] for s in operator.loss["shards"]] == [str(slots) for slots in share(3)]
    assert not given(made)


@pytest.mark.parametrize("invalid", [False, True], ids=["valid", "invalid spec"])
def test_s2_it_is_known_for_as_long_as_nothing_of_the_shard_can_be_made(*, invalid: bool) -> None:
    operator, whole = Operator(), formed(3, 1, **WAIT)
    operator.look(whole)
    nothing = torn_down(whole, 0)
    for _ in range(3):
        operator.look(replace(nothing, more={**nothing.more, "spec": InvalidSpec("so not")}) if invalid else nothing)
        assert rows(operator)["cart-0"] == FIRST
    operator.look(without(anew(whole, 0), 0))
    assert operator.loss["state"] == "WaitingForApproval"


def test_s2_slots_of_a_shard_that_was_to_go_are_missed_by_those_who_would_get_them() -> None:
    operator, whole = Operator(), formed(3, 1, **WAIT)
    operator.look(whole)
    fewer = torn_down(replace(whole, spec=spec_of(2, 1, **WAIT), recorded=dict(enumerate(share(3)))), 2)
    operator.look(fewer)
    lost = [SlotSet.parse(s["slots"]) for s in operator.loss["shards"]]
    assert lost[-1] == share(3)[2] & share(2)[1]
    assert operator.loss["state"] == "WaitingForApproval"


def test_a_shard_that_comes_back_with_its_data_has_lost_nothing() -> None:
    operator, whole = Operator(), formed(3, 1, **STORED)
    operator.look(whole)
    back = anew(whole, 0)
    for cluster in (torn_down(whole, 0), back.with_node(0, 0, answers=False), back):
        operator.look(cluster)
        assert "dataLoss" not in operator.status


def test_a_shard_that_went_when_its_slots_had_moved_may_come_back_empty() -> None:
    operator, planned = Operator(), share(2)
    fewer = replace(formed(2, 1, **WAIT), recorded={2: NO_SLOTS})
    operator.status = told({"cart-0": planned[0], "cart-1": planned[1], "cart-2": NO_SLOTS})
    operator.look(replace(fewer, spec=spec_of(3, 1, **WAIT)))
    assert "dataLoss" not in operator.status
    assert rows(operator)["cart-2"] == ""


@pytest.mark.parametrize("answers", [True, False], ids=["answers", "silent"])
def test_what_a_statefulset_or_a_node_tells_is_newer_than_the_status(*, answers: bool) -> None:
    """Slots have moved since it was written, and their new shard has all of them."""
    whole = formed(3, 1, **WAIT)
    stale = told({"cart-0": share(3)[0] | share(3)[1], "cart-1": NO_SLOTS, "cart-2": share(3)[2]})
    seen = without(anew(whole, 0), 0).with_node(1, 0, answers=answers).with_node(1, 1, answers=answers)
    shards = observe(replace(seen.snapshot(), status=stale)).shards
    assert [s.formed for s in shards] == list(share(3))


@pytest.mark.parametrize("status", [{}, {"shards": [{"name": "cart-0", "slots": "some"}]}], ids=["wiped", "unreadable"])
def test_a_status_that_tells_nothing_is_no_obstacle(status: Mapping[str, Any]) -> None:
    operator = Operator(status=status)
    made = operator.look(blank(3, 1, **WAIT))
    assert given(made) or made.waits or made.steps
    assert "dataLoss" not in operator.status


def told(slots: Mapping[str, SlotSet]) -> dict[str, Any]:
    """A status that has these slots."""
    return {"shards": [{"name": name, "slots": str(served)} for name, served in slots.items()]}
