"""S2: slots whose data is gone wait for somebody's word or start empty, as the spec says; each loss is decided once."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import pytest

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import OnDataLoss
from cachecluster.api.status import CacheClusterStatus
from cachecluster.domain.actions import AssignSlots, Forget, Meet, Release, Replicate
from cachecluster.domain.nodes import Role
from cachecluster.domain.plan import Plan
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import Host, InvalidSpec
from cachecluster.domain.status import derive
from cachecluster.domain.topology import observe
from tests.unit.domain.building import NOW, Cluster, blank, formed, gone, spec_of
from tests.unit.domain.test_status import condition

WAIT: Final[dict[str, Any]] = {"recovery": {"onDataLoss": "WaitForApproval"}}
RECREATE: Final[dict[str, Any]] = {"recovery": {"onDataLoss": "Recreate"}}
STORED: Final[dict[str, Any]] = {"persistence": {"mode": "AppendOnly", "size": "1Gi"}}
FIRST = str(share(3)[0])


@dataclass
class Operator:
    """Looks at one state after the other, each time with the status that it wrote before."""

    status: Mapping[str, Any] = field(default_factory=dict)
    annotations: dict[str, str] = field(default_factory=dict)
    now: float = NOW

    def look(self, cluster: Cluster) -> Plan:
        snap = replace(cluster.snapshot(), status=self.status, annotations=self.annotations, now=self.now)
        self.now += 1
        made = plan(snap)
        self.status = derive(snap, made).to_json()
        return made

    def approve(self, incident: str | None = None) -> None:
        self.annotations[names.ANNOTATION_APPROVE_LOSS] = incident or self.incident

    @property
    def loss(self) -> dict[str, Any]:
        found: dict[str, Any] = self.status["dataLoss"]
        return found

    @property
    def incident(self) -> str:
        return str(self.loss["incident"])

    def condition(self, kind: ConditionType) -> tuple[str, str]:
        return condition(CacheClusterStatus.model_validate(_stored(self.status)), kind)

    def message(self) -> str:
        return next(str(c["message"]) for c in self.status["conditions"] if c["type"] == "DataLoss")


def _stored(status: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in status.items() if k != "ready"}


def without(cluster: Cluster, *shards: int, generation: int = 1) -> Cluster:
    """Every member of the shards has come back with nothing."""
    for node in cluster.nodes:
        if node.shard in shards:
            empty: dict[str, Any] = {"slots": NO_SLOTS, "keys": 0, "epoch": 0, "follows": None}
            empty |= {"quarantined": True, "ready": False}
            role = cluster.nodes[0].role
            cluster = cluster.with_node(node.shard, node.ordinal, role=role, generation=generation, **empty)
    return cluster


def led(cluster: Cluster, shard: int, generation: int = 1) -> Cluster:
    """The first member of a shard that was empty has got its slots."""
    whole = formed(3, 1)
    leader = next(n for n in cluster.nodes if (n.shard, n.ordinal) == (shard, 0))
    slots = next(n.slots for n in whole.nodes if (n.shard, n.ordinal) == (shard, 0))
    return cluster.with_node(shard, 0, slots=slots, epoch=9, quarantined=False, generation=generation).with_node(
        shard, 1, role=whole.nodes[1].role, follows=leader.node_id, quarantined=False
    )


def given(made: Plan) -> list[tuple[str, str]]:
    """Who gets which slots."""
    return [(s.action.node.pod, str(s.action.slots)) for s in made.steps if isinstance(s.action, AssignSlots)]


def test_without_volumes_slots_start_empty_and_with_them_somebody_is_asked() -> None:
    assert spec_of().on_data_loss is OnDataLoss.RECREATE
    assert spec_of(**STORED).on_data_loss is OnDataLoss.WAIT_FOR_APPROVAL
    assert spec_of(**WAIT).on_data_loss is OnDataLoss.WAIT_FOR_APPROVAL
    assert spec_of(**STORED, **RECREATE).on_data_loss is OnDataLoss.RECREATE


@pytest.mark.parametrize("spec", [WAIT, STORED, {**STORED, **WAIT}], ids=["memory", "default", "volumes"])
def test_s2_lost_slots_wait_for_approval_and_it_is_said_how(spec: dict[str, Any]) -> None:
    operator = Operator()
    made = operator.look(without(formed(3, 1, **spec), 0))
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


def test_an_approval_of_something_else_approves_nothing_and_that_is_said() -> None:
    lost = without(formed(3, 1, **WAIT), 0)
    operator = Operator()
    operator.approve("yes" * 50)
    for _ in range(3):
        assert not given(operator.look(lost))
    assert f'is "{"yes" * 13}y...", which does not approve this one' in operator.message()
    assert operator.incident in operator.message()


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


def test_s2_nor_is_one_whose_other_shard_is_already_given_up() -> None:
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


def test_s2_data_that_came_back_and_is_lost_anew_is_another_incident() -> None:
    operator = Operator()
    operator.look(without(formed(3, 1, **STORED), 0, 2))
    first = operator.incident
    operator.look(without(formed(3, 1, **STORED), 0))
    operator.look(without(formed(3, 1, **STORED), 0, 2))
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
