"""Former primaries that restarted with older data stay closed until it is clear who has the newest (S5)."""

from dataclasses import replace

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Apply, Promote, Release
from cachecluster.domain.nodes import Role
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS
from tests.unit.domain.building import formed, gone, statefulset
from tests.unit.domain.deciding import actions, of_type


class TestQuarantine:
    def test_s5_data_newer_than_every_replicas_is_released(self) -> None:
        cluster = formed().with_node(0, 0, quarantined=True).with_node(0, 1, up=False, down_seconds=-1)
        assert [a.node.pod for a in of_type(cluster, Release)] == ["cart-0-0"]

    def test_s5_a_replica_with_newer_data_is_promoted_instead(self) -> None:
        cluster = formed().with_node(0, 0, quarantined=True, offset=50, history="h2", previous_history="h1")
        cluster = cluster.with_node(0, 1, up=False, down_seconds=9, offset=100)
        assert not of_type(cluster, Release)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"]

    @pytest.mark.parametrize(
        ("offset", "recorded", "wins"),
        [(100, "0-h2", True), (40, "0-h2", False), (100, "0-h3", False), (100, "", False)],
        ids=["the last history", "but less of it", "another history", "nothing is known"],
    )
    def test_s5_a_replica_that_has_restarted_wins_with_more_of_the_last_history(
        self, offset: int, recorded: str, wins: bool
    ) -> None:
        cluster = replace(formed(), histories={0: recorded})
        cluster = cluster.with_node(0, 0, quarantined=True, offset=50, history="h9", previous_history="h1")
        cluster = cluster.with_node(0, 1, up=False, down_seconds=-1, offset=offset, history="h2")
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"] * wins
        assert [a.node.pod for a in of_type(cluster, Release)] == ["cart-0-0"] * (not wins)

    def test_s5_a_new_history_is_written_down_on_the_statefulset(self) -> None:
        snap = replace(formed(1, 1), histories={0: "0-h1"}).snapshot()
        new = statefulset(0, 2, formed=ALL_SLOTS, history="0-h2")
        [step] = [s for s in plan(replace(snap, desired=(new,))).steps if s.reason is Reason.RECORDING_HISTORY]
        assert isinstance(step.action, Apply)
        assert step.action.manifest["metadata"]["annotations"][names.ANNOTATION_HISTORY] == "0-h2"

    @pytest.mark.parametrize(("offset", "wins"), [(100, True), (50, False)])
    def test_s5_after_restarts_the_offset_decides_within_one_history(self, offset: int, wins: bool) -> None:
        cluster = formed().with_node(0, 0, quarantined=True, offset=50, history="h9", previous_history="h1")
        cluster = cluster.with_node(0, 1, up=False, down_seconds=-1, offset=offset)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"] * wins

    def test_s10_a_replica_with_another_shards_data_is_not_newer(self) -> None:
        cluster = formed().with_node(0, 0, quarantined=True, offset=50, history="h2", previous_history="h1")
        cluster = cluster.with_node(0, 1, up=False, down_seconds=9, offset=100, strayed_to=2)
        assert not of_type(cluster, Promote)
        assert [a.node.pod for a in of_type(cluster, Release)] == ["cart-0-0"]

    def test_s10_a_former_primary_stays_closed_while_a_newer_owner_serves_its_slots(self) -> None:
        cluster = formed(1, 1).with_node(0, 1, role=Role.PRIMARY, follows=None, slots=ALL_SLOTS, epoch=5)
        assert not of_type(cluster.with_node(0, 0, quarantined=True), Release)

    def test_s5_a_blank_node_stays_closed_until_it_has_a_task(self) -> None:
        old = formed(1, 1).nodes[0]
        cluster = replace(formed(1, 1), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
        cluster = cluster.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0, quarantined=True)
        cluster = cluster.with_node(0, 1, up=False, down_seconds=3)
        assert [type(a) for a in actions(cluster)] == [Promote]

    def test_s5_nothing_is_decided_while_a_replica_is_silent(self) -> None:
        cluster = formed().with_node(0, 0, quarantined=True).with_node(0, 1, answers=False)
        assert not of_type(cluster, Release)
        assert not of_type(cluster, Promote)
