"""durability.mode: what nodes are told and when, and how a shard that refuses writes for it is reported."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.api.reasons import Reason
from cachecluster.domain import durability, refused_writes
from cachecluster.domain.actions import Apply, Configure, LowerFence, MoveSlots
from cachecluster.domain.drift import key_of
from cachecluster.domain.live_parameters import noted, wanted
from cachecluster.domain.memory import maxmemory
from cachecluster.domain.pending import pending_modifications
from cachecluster.domain.plan import Block, Plan, Wait
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.status import derive
from cachecluster.domain.topology import NODE_TIMEOUT_SECONDS, observe
from cachecluster.manifests.config import live_config_map
from tests.unit.domain.building import REF, Cluster, as_live, formed, spec_of
from tests.unit.domain.test_status import condition

ON = {"durability": {"mode": "AtLeastOneReplica"}}
ARMED = {"min-replicas-max-lag": "3", "min-replicas-to-write": "1"}
FREE = {"min-replicas-max-lag": "10", "min-replicas-to-write": "0"}
OWN = f"maxmemory {maxmemory(spec_of())}\n"
FILE = f"{OWN}min-replicas-max-lag 3\nmin-replicas-to-write 1\n"


def cluster(nodes: dict[str, str], **spec: Any) -> Cluster:
    """One shard of three."""
    made = formed(1, 2, **spec)
    for ordinal in range(3):
        made = made.with_node(0, ordinal, parameters=nodes)
    return made


def edited(made: Cluster, *, before: dict[str, Any], remembered: tuple[str, ...] = tuple(durability.NAMES)) -> Snapshot:
    """The ConfigMap was written for a spec with ``before``."""
    snap = made.snapshot()
    made_before = live_config_map(spec_of(1, 2, **before), REF, remembered)
    noted_names = {names.ANNOTATION_LIVE_NAMES: " ".join(sorted({*noted(made_before), *remembered}))}
    metadata = {**made_before["metadata"], "annotations": noted_names}
    live = as_live({**made_before, "metadata": metadata})
    desired = live_config_map(made.spec, REF, noted(live))
    return replace(snap, desired=(desired, *snap.desired), children={**snap.children, key_of(live): live})


def refusing(made: Cluster) -> Cluster:
    """Its first shard refuses writes."""
    return made.with_node(0, 0, good_replicas=0)


def told(p: Plan) -> dict[str, dict[str, str]]:
    """What nodes are told, by pod."""
    return {
        t.pod: dict(s.action.parameters)
        for s in p.steps
        if isinstance(s.action, Configure | LowerFence)
        for t in (s.action.nodes if isinstance(s.action, Configure) else [s.action.node])
    }


def test_the_default_asks_for_nothing_and_leaves_the_file_as_it_was() -> None:
    assert wanted(spec_of(1, 2, durability={"mode": "Default"})) == wanted(spec_of(1, 2))
    assert wanted(spec_of(1, 2)).keys().isdisjoint(durability.NAMES)


def test_a_primary_that_nobody_reports_to_refuses_before_its_replicas_elect_another() -> None:
    assert MAX_LAG_SECONDS + 2 <= NODE_TIMEOUT_SECONDS


def test_every_node_is_told_at_once_and_what_they_have_is_written_down() -> None:
    p = plan(edited(cluster(FREE, **ON), before={}))
    assert told(p) == {f"cart-0-{ordinal}": ARMED for ordinal in range(3)}
    (step,) = plan(edited(cluster(ARMED, **ON), before={})).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"]["live.conf"] == FILE
    assert plan(edited(cluster(ARMED, **ON), before=ON)).converged


def test_it_is_taken_back_at_once_even_where_writes_are_refused() -> None:
    snap = edited(refusing(cluster(ARMED)).with_node(0, 1, answers=False).with_node(0, 2, up=False), before=ON)
    assert told(plan(snap)) == {"cart-0-0": FREE, "cart-0-2": FREE}
    (step,) = plan(edited(cluster(FREE), before=ON)).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"]["live.conf"] == OWN


def test_an_edit_makes_no_shard_refuse_what_it_has_accepted_so_far() -> None:
    alone = cluster(FREE, parameters={"hz": 20}, **ON)
    for ordinal in (1, 2):
        alone = alone.with_node(0, ordinal, up=False, down_seconds=5)
    snap = edited(alone, before={}, remembered=("hz", *durability.NAMES))
    p = plan(snap)
    assert told(p) == {"cart-0-0": {"hz": "20"}, "cart-0-1": {"hz": "20", **ARMED}, "cart-0-2": {"hz": "20", **ARMED}}
    (wait,) = (w for w in p.waits if w.reason is Reason.CONFIGURING)
    assert wait.message == "durability.mode takes effect on cart-0-0 as soon as a replica is in step"
    assert "durability.mode" in pending_modifications(snap, observe(snap))

    followed = plan(edited(alone.with_node(0, 1, up=True), before={}, remembered=("hz", *durability.NAMES)))
    assert told(followed)["cart-0-0"] == {"hz": "20", **ARMED}


def test_until_it_is_in_force_everywhere_it_keeps_no_other_parameter_out_of_the_file() -> None:
    alone = cluster({**ARMED, "hz": "20"}, parameters={"hz": 20}, **ON).with_node(0, 0, parameters={**FREE, "hz": "20"})
    for ordinal in (1, 2):
        alone = alone.with_node(0, ordinal, up=False, down_seconds=5)
    (step,) = (s for s in plan(edited(alone, before={})).steps if isinstance(s.action, Apply))
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"]["live.conf"] == f"hz 20\n{OWN}"


def test_a_shard_that_refuses_writes_is_not_ready_and_says_why_and_what_ends_it() -> None:
    lost = refusing(cluster(ARMED, **ON))
    for ordinal in (1, 2):
        lost = lost.with_node(0, ordinal, answers=False)
    snap = lost.snapshot()
    before = derive(formed(1, 2).snapshot(), Plan()).to_json()
    status = derive(replace(snap, status=before), plan(snap))
    assert condition(status, ConditionType.READY) == ("False", Reason.WRITES_REFUSED)
    assert condition(status, ConditionType.DEGRADED) == ("True", Reason.WRITES_REFUSED)
    assert status.reason == Reason.WRITES_REFUSED
    assert status.message == (
        "shard 0 refuses writes (NOREPLICAS): no replica keeps up with cart-0-0 (cart-0-1, cart-0-2 does not answer), "
        "and durability.mode AtLeastOneReplica asks for one. They are accepted again as soon as one is in step; to do "
        "without until then, set durability.mode to Default"
    )


def test_a_lost_replica_of_two_refuses_nothing() -> None:
    snap = cluster(ARMED, **ON).with_node(0, 0, good_replicas=1).with_node(0, 1, answers=False).snapshot()
    before = derive(formed(1, 2).snapshot(), Plan()).to_json()
    status = derive(replace(snap, status=before), plan(snap))
    assert condition(status, ConditionType.READY)[0] == "True"
    assert condition(status, ConditionType.DEGRADED) == ("True", Reason.NO_SYNCED_REPLICA)


@pytest.mark.parametrize(("changes", "kind"), [({"answers": False}, Block), ({"up": False, "down_seconds": 0}, Wait)])
def test_it_is_announced_unless_a_member_is_about_to_follow(changes: dict[str, Any], kind: type) -> None:
    """An Event for each hand-over would be noise."""
    lost = refusing(cluster(ARMED, **ON))
    for ordinal in (1, 2):
        lost = lost.with_node(0, ordinal, **changes)
    p = plan(lost.snapshot())
    verdicts: list[Block | Wait] = [*p.blocks, *p.waits]
    assert [type(v) for v in verdicts if v.reason is Reason.WRITES_REFUSED] == [kind]


def test_replicas_and_shards_without_slots_refuse_nothing_that_anybody_asks_of_them() -> None:
    new = replace(formed(2, 2), recorded={0: SlotSet.from_ranges([(0, 16383)]), 1: NO_SLOTS})
    new = new.with_node(0, 0, slots=SlotSet.from_ranges([(0, 16383)]), good_replicas=2)
    new = new.with_node(1, 0, slots=NO_SLOTS, keys=0, good_replicas=0).with_node(0, 1, good_replicas=0)
    topology = observe(new.snapshot())
    assert not refused_writes.refusing(topology)
    assert topology.shards[1].refuses_writes


def test_no_slot_moves_to_or_from_a_shard_that_refuses_writes() -> None:
    new = replace(formed(2, 2), recorded={0: SlotSet.from_ranges([(0, 16383)]), 1: NO_SLOTS})
    new = new.with_node(0, 0, slots=SlotSet.from_ranges([(0, 16383)])).with_node(1, 0, slots=NO_SLOTS, keys=0)
    assert any(isinstance(s.action, MoveSlots) for s in plan(new.snapshot()).steps)
    for shard in (0, 1):
        p = plan(new.with_node(shard, 0, good_replicas=0).snapshot())
        assert not any(isinstance(s.action, MoveSlots) for s in p.steps)
        assert any(
            f"shard {shard} refuses writes until a replica is in step" in w.message
            for w in p.waits
            if w.reason is Reason.MOVING_SLOTS
        )
