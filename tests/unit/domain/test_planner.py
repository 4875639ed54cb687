"""What the planner decides, situation by situation."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import (
    Apply,
    AssignSlots,
    Delete,
    FailoverKind,
    Forget,
    LabelRole,
    Meet,
    Promote,
    Release,
    RemoveReplicas,
    Replicate,
    RollPod,
    SettleShard,
    SwitchOver,
)
from cachecluster.domain.drift import partition_of
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, share
from cachecluster.domain.snapshot import Container, ContainerState, InvalidSpec, ObjectKey, Role
from tests.unit.domain.building import NOW, REF, Cluster, Node, blank, formed, gone, spec_of


def actions(cluster: Cluster) -> list[Any]:
    return [s.action for s in plan(cluster.snapshot()).steps]


def reasons(cluster: Cluster) -> set[Reason]:
    p = plan(cluster.snapshot())
    return {b.reason for b in p.blocks} | {w.reason for w in p.waits}


def of_type(cluster: Cluster, kind: type) -> list[Any]:
    return [a for a in actions(cluster) if isinstance(a, kind)]


class TestFormation:
    def test_a_converged_cluster_gives_an_empty_plan(self) -> None:
        assert plan(formed().snapshot()).converged

    @pytest.mark.parametrize(("shards", "replicas"), [(1, 0), (1, 2), (2, 1), (6, 1), (3, 2)])
    def test_every_topology_can_be_converged(self, shards: int, replicas: int) -> None:
        assert plan(formed(shards, replicas).snapshot()).converged

    def test_blank_nodes_meet_and_get_all_slots_in_one_pass(self) -> None:
        steps = actions(blank())
        assert [type(s) for s in steps] == [Meet, AssignSlots, AssignSlots, AssignSlots]
        assert len(steps[0].pairs) == 15
        assert len({e for _, e in steps[0].epochs}) == 6
        covered = NO_SLOTS
        for step in steps[1:]:
            assert not covered & step.slots
            covered |= step.slots
        assert covered == ALL_SLOTS

    def test_no_zone_holds_a_majority_of_the_chosen_primaries(self) -> None:
        cluster = blank()
        zones = {n.name: n.zone for n in cluster.nodes}
        chosen = [zones[a.node.pod] for a in of_type(cluster, AssignSlots)]
        assert sorted(chosen) == ["a", "b", "c"]

    def test_formation_waits_for_slow_members_but_not_for_ever(self) -> None:
        cluster = blank().with_node(1, 1, answers=False)
        snap = cluster.snapshot()
        young = replace(snap, pods=tuple(replace(p, created_at=NOW - 5) for p in snap.pods))
        assert {a.node.pod[:6] for s in plan(young).steps if isinstance(a := s.action, AssignSlots)} == {
            "cart-0",
            "cart-2",
        }
        assert len(of_type(cluster, AssignSlots)) == 3

    def test_shards_that_come_later_keep_their_share_of_the_zones(self) -> None:
        """Shards 0 and 1 answer first: they must not both take zone b, where alone shard 2 has a member."""
        cluster = replace(
            blank(),
            nodes=(
                *(Node(0, 0, zone="b"), Node(0, 1, zone="a"), Node(1, 0, zone="b"), Node(1, 1, zone="c")),
                *(Node(2, 0, zone="b", answers=False), Node(2, 1, zone="b", answers=False)),
            ),
        )
        snap = cluster.snapshot()
        young = replace(snap, pods=tuple(replace(p, created_at=NOW - 5) for p in snap.pods))
        leaders = {a.node.pod for s in plan(young).steps if isinstance(a := s.action, AssignSlots)}
        assert leaders == {"cart-0-1", "cart-1-1"}

    def test_members_follow_their_primary_once_introduced(self) -> None:
        cluster = formed()
        cluster = cluster.with_node(0, 1, role=Role.PRIMARY, follows=None, keys=0, label=None)
        replicate = of_type(cluster, Replicate)
        assert [(a.node.pod, a.primary.pod) for a in replicate] == [("cart-0-1", "cart-0-0")]

    def test_s3_a_node_with_keys_of_its_own_never_becomes_a_replica(self) -> None:
        cluster = formed().with_node(0, 1, role=Role.PRIMARY, follows=None, keys=7, label=None)
        assert not of_type(cluster, Replicate)
        assert Reason.UNOWNED_KEYS in reasons(cluster)

    def test_changed_addresses_are_healed_by_meeting_again(self) -> None:
        snap = formed().snapshot()
        views = dict(snap.views)
        view: Any = views["cart-0-0"]
        stale = tuple(replace(p, ip="10.7.7.7") if p.node_id == "id-1-0-0" else p for p in view.peers)
        views["cart-0-0"] = replace(view, peers=stale)
        steps = plan(replace(snap, views=views)).steps
        assert [type(s.action) for s in steps] == [Meet]
        assert steps[0].reason is Reason.HEALING_ADDRESSES

    def test_roles_are_labelled(self) -> None:
        cluster = formed().with_node(0, 0, label=None).with_node(0, 1, label="primary")
        assert [(a.pod, a.role) for a in of_type(cluster, LabelRole)] == [
            ("cart-0-1", Role.REPLICA),  # first: with two primaries the budget would let one be evicted
            ("cart-0-0", Role.PRIMARY),
        ]


class TestGates:
    def test_nothing_happens_before_the_finalizer_is_visible(self) -> None:
        assert not plan(replace(blank().snapshot(), finalizer_visible=False)).steps

    def test_paused_means_hands_off_promotion_included(self) -> None:
        lost = lost_primary()
        paused = replace(lost, spec=spec_of(3, 1, paused=True))
        assert of_type(lost, Promote)
        assert not actions(paused)
        assert Reason.PAUSED in reasons(paused)

    def test_an_invalid_spec_stops_all_but_promotion(self) -> None:
        snap = replace(lost_primary().snapshot(), spec=InvalidSpec("write something else"))
        p = plan(snap)
        assert [type(s.action) for s in p.steps] == [Promote]
        assert [b.reason for b in p.blocks] == [Reason.INVALID_SPEC]

    def test_s4_a_living_foreign_node_stops_everything(self) -> None:
        cluster = replace(lost_primary(), foreign_alive_since=NOW - 16)
        assert not actions(cluster)
        assert Reason.FOREIGN_NODE in reasons(cluster)

    def test_a_missing_system_secret_is_never_replaced_while_pods_run(self) -> None:
        snap = replace(formed().snapshot(), system_secret_exists=False)
        p = plan(snap)
        assert not p.steps
        assert [b.reason for b in p.blocks] == [Reason.SYSTEM_SECRET_MISSING]

    def test_an_object_of_somebody_else_is_left_alone(self) -> None:
        snap = formed().snapshot()
        children = {k: {**o, "metadata": {**o["metadata"], "ownerReferences": []}} for k, o in snap.children.items()}
        p = plan(replace(snap, children=children))
        assert not [s for s in p.steps if isinstance(s.action, Apply)]
        assert {b.reason for b in p.blocks} == {Reason.OBJECT_NOT_OURS}


def lost_primary(**changes: Any) -> Cluster:
    """Shard 0's primary restarted blank (S5); its replica's link is down."""
    old = formed().nodes[0]
    cluster = replace(formed(), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
    cluster = cluster.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0, label=None, ready=False)
    return cluster.with_node(0, 1, **{"up": False, "down_seconds": 3, **changes})


class TestPromotion:
    def test_s10_a_synced_replica_is_promoted_when_its_primary_restarted_blank(self) -> None:
        [promote] = of_type(lost_primary(), Promote)
        assert promote.node.pod == "cart-0-1"
        assert promote.kind is FailoverKind.FORCE

    def test_s10_a_replica_that_never_synced_is_not_promoted(self) -> None:
        cluster = lost_primary(down_seconds=-1)
        assert not of_type(cluster, Promote)
        assert Reason.NO_SYNCED_REPLICA in reasons(cluster)

    def test_s10_a_replica_whose_link_is_up_is_not_promoted(self) -> None:
        cluster = lost_primary(up=True, down_seconds=None)
        assert not of_type(cluster, Promote)

    def test_s10_a_replica_with_an_old_view_of_the_slots_is_not_promoted(self) -> None:
        snap = lost_primary().snapshot()
        views = dict(snap.views)
        view: Any = views["cart-0-1"]
        views["cart-0-1"] = replace(
            view, peers=tuple(replace(p, slots=NO_SLOTS) if p.node_id == "id-0-0-0" else p for p in view.peers)
        )
        assert not [s for s in plan(replace(snap, views=views)).steps if isinstance(s.action, Promote)]

    def test_s1_a_silent_primary_is_not_replaced(self) -> None:
        cluster = formed().with_node(0, 0, answers=False).with_node(0, 1, up=False, down_seconds=60)
        assert not of_type(cluster, Promote)
        assert Reason.NODE_UNREACHABLE in reasons(cluster)

    def test_s10_a_terminated_container_is_proof(self) -> None:
        container = Container(ContainerState.RUNNING, "", "", 1, NOW - 2, "Error, exit code 137", 137)
        cluster = formed(1, 1).with_node(0, 0, answers=False, container=container)
        [promote] = of_type(cluster.with_node(0, 1, up=False, down_seconds=2), Promote)
        assert promote.kind is FailoverKind.TAKEOVER  # one shard: nobody is left to vote
        assert "137" in promote.proof

    def test_s1_a_link_that_outlived_the_container_start_is_no_proof(self) -> None:
        container = Container(ContainerState.RUNNING, "", "", 1, NOW - 60, "Error, exit code 137", 137)
        cluster = formed(1, 1).with_node(0, 0, answers=False, container=container)
        assert not of_type(cluster.with_node(0, 1, up=False, down_seconds=5), Promote)

    def test_the_replica_with_the_highest_offset_is_chosen(self) -> None:
        old = formed(1, 2).nodes[0]
        cluster = replace(formed(1, 2), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
        cluster = cluster.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0)
        cluster = cluster.with_node(0, 1, up=False, down_seconds=3, offset=100)
        cluster = cluster.with_node(0, 2, up=False, down_seconds=3, offset=101)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-2"]

    def test_s10_offsets_of_different_histories_are_not_compared(self) -> None:
        old = formed(1, 2).nodes[0]
        cluster = replace(formed(1, 2), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
        cluster = cluster.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0)
        cluster = cluster.with_node(0, 1, up=False, down_seconds=3, history="h1")
        cluster = cluster.with_node(0, 2, up=False, down_seconds=3, history="h2")
        assert not of_type(cluster, Promote)


class TestQuarantine:
    def test_s5_data_newer_than_every_replicas_is_released(self) -> None:
        cluster = formed().with_node(0, 0, quarantined=True).with_node(0, 1, up=False, down_seconds=-1)
        assert [a.node.pod for a in of_type(cluster, Release)] == ["cart-0-0"]

    def test_s5_a_replica_with_newer_data_is_promoted_instead(self) -> None:
        cluster = formed().with_node(0, 0, quarantined=True, offset=50, history="h2", previous_history="h1")
        cluster = cluster.with_node(0, 1, up=False, down_seconds=9, offset=100)
        assert not of_type(cluster, Release)
        assert [a.node.pod for a in of_type(cluster, Promote)] == ["cart-0-1"]

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


class TestLoss:
    def test_a_departed_id_is_forgotten_everywhere_once_all_pods_answer(self) -> None:
        cluster = replace(formed(), ghosts=(gone("id-old", NO_SLOTS),))
        [forget] = of_type(cluster, Forget)
        assert len(forget.members) == 6

    def test_s1_no_id_is_forgotten_while_a_pod_is_silent(self) -> None:
        cluster = replace(formed(), ghosts=(gone("id-old", NO_SLOTS),)).with_node(1, 1, answers=False)
        assert not of_type(cluster, Forget)

    def test_s2_lost_slots_start_empty_without_persistence_and_it_is_said(self) -> None:
        cluster = formed(1, 0).with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0)
        [step] = [s for s in plan(cluster.snapshot()).steps if isinstance(s.action, AssignSlots)]
        assert step.reason is Reason.DATA_LOSS
        assert isinstance(step.action, AssignSlots)
        assert step.action.after_data_loss

    def test_s2_lost_slots_are_never_given_out_again_with_persistence(self) -> None:
        cluster = formed(1, 0, persistence={"mode": "AppendOnly", "size": "1Gi"})
        cluster = cluster.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0)
        assert not of_type(cluster, AssignSlots)
        assert Reason.DATA_LOSS in reasons(cluster)

    def test_replicas_that_never_synced_again_leave_the_lost_owner_of_an_emptied_shard(self) -> None:
        old = formed(1, 2).nodes[0]
        emptied = replace(formed(1, 2), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
        emptied = emptied.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0, quarantined=True)
        for ordinal in (1, 2):
            emptied = emptied.with_node(0, ordinal, up=False, down_seconds=-1, keys=0)
        assert [(a.node.pod, a.primary.pod) for a in of_type(emptied, Replicate)] == [
            ("cart-0-1", "cart-0-0"),
            ("cart-0-2", "cart-0-0"),
        ]
        assert not of_type(emptied, Forget)
        leader = emptied.nodes[0].node_id
        behind = emptied.with_node(0, 1, follows=leader).with_node(0, 2, follows=leader)
        assert [f.node_id for f in of_type(behind, Forget)] == [old.node_id]
        forgotten = replace(behind, ghosts=())
        assert [(a.node.pod, a.after_data_loss) for a in of_type(forgotten, AssignSlots)] == [("cart-0-0", True)]

    @pytest.mark.parametrize("left", [{"keys": 1}, {"down_seconds": 5}])
    def test_s2_a_shard_is_not_emptied_while_a_replica_may_hold_data(self, left: dict[str, Any]) -> None:
        old = formed(1, 1).nodes[0]
        cluster = replace(formed(1, 1), ghosts=(gone(old.node_id, old.slots, ip=old.ip),))
        cluster = cluster.with_node(0, 0, generation=1, slots=NO_SLOTS, keys=0, epoch=0, quarantined=True)
        cluster = cluster.with_node(0, 1, **{"up": False, "down_seconds": -1, "keys": 0, **left})
        assert not of_type(cluster, Replicate)
        assert not of_type(cluster, Forget)
        assert not of_type(cluster, AssignSlots)

    def test_s2_slots_of_a_silent_shard_are_not_given_out(self) -> None:
        cluster = formed(3, 0).with_node(0, 0, answers=False)
        assert not of_type(cluster, AssignSlots)


def rolling(cluster: Cluster, **changes: Any) -> Cluster:
    """The new template is applied; no pod has it yet."""
    return replace(cluster, **{"template": "t2", "update": "rev-t2", **changes})


class TestRollout:
    def test_a_changed_template_is_first_applied_with_every_pod_behind_the_partition(self) -> None:
        cluster = replace(formed(), template="t2")
        applies = of_type(cluster, Apply)
        assert [a.manifest["metadata"]["name"] for a in applies] == ["cart-0", "cart-1", "cart-2"]
        assert {a.manifest["spec"]["updateStrategy"]["rollingUpdate"]["partition"] for a in applies} == {2}

    def test_replicas_go_first(self) -> None:
        assert [(a.shard, a.ordinal) for a in of_type(rolling(formed()), RollPod)] == [(0, 1)]

    def test_s8_the_primary_hands_over_before_its_turn(self) -> None:
        cluster = rolling(formed(), live_partition=1).with_node(0, 1, revision="rev-t2")
        cluster = replace(cluster, nodes=tuple(n for n in cluster.nodes))
        [switch] = of_type(cluster, SwitchOver)
        assert (switch.source.pod, switch.destination.pod) == ("cart-0-0", "cart-0-1")

    def test_s8_a_lone_primary_without_persistence_is_not_restarted(self) -> None:
        cluster = rolling(formed(3, 0))
        assert not of_type(cluster, RollPod)
        assert Reason.WOULD_LOSE_DATA in reasons(cluster)

    def test_s8_the_user_can_accept_the_loss_for_one_generation(self) -> None:
        more = {"annotations": {names.ANNOTATION_ACCEPT_LOSS: "3"}}
        assert of_type(rolling(formed(3, 0), more=more), RollPod)
        stale = {"annotations": {names.ANNOTATION_ACCEPT_LOSS: "2"}}
        assert not of_type(rolling(formed(3, 0), more=stale), RollPod)

    def test_s8_leave_for_an_edit_is_none_for_a_restart(self) -> None:
        asked = {names.ANNOTATION_RESTARTED: "noon", names.ANNOTATION_ACCEPT_LOSS: "3"}
        cluster = rolling(formed(3, 0), more={"annotations": asked})
        assert not of_type(cluster, RollPod)
        [block] = plan(cluster.snapshot()).blocks
        assert f'{names.ANNOTATION_ACCEPT_LOSS}="3@noon"' in block.message
        accepted = {"annotations": {**asked, names.ANNOTATION_ACCEPT_LOSS: "3@noon"}}
        assert of_type(rolling(formed(3, 0), more=accepted), RollPod)

    def test_s7_nothing_is_replaced_while_another_pod_is_down(self) -> None:
        cluster = rolling(formed()).with_node(2, 1, ready=False)
        assert not of_type(cluster, RollPod)
        cluster = rolling(formed()).with_node(2, 1, up=False, down_seconds=5)
        assert not of_type(cluster, RollPod)

    def test_s11_the_roll_stops_at_the_first_pod_that_does_not_come_up(self) -> None:
        bad = Container(ContainerState.WAITING, "ImagePullBackOff", "not found", 0, None, "", None)
        cluster = rolling(formed(), live_partition=1)
        cluster = cluster.with_node(0, 1, revision="rev-t2", answers=False, container=bad)
        assert not actions(cluster)
        assert {Reason.ROLLOUT_STALLED, Reason.IMAGE_PULL_FAILED} <= reasons(cluster)

    def test_s11_going_back_restores_the_broken_pod(self) -> None:
        bad = Container(ContainerState.WAITING, "ImagePullBackOff", "not found", 0, None, "", None)
        cluster = formed().with_node(0, 1, revision="rev-t2", answers=False, container=bad)
        [delete] = of_type(cluster, Delete)
        assert delete.key.name == "cart-0-1"

    @pytest.mark.parametrize(
        ("cluster", "removed"),
        [
            (formed(), True),
            (replace(formed(), template="t2"), False),
            (rolling(formed(), live_partition=1), False),
            (formed().with_node(0, 1, revision="rev-t2"), False),
        ],
        ids=["all is rolled out", "about to be applied", "rolling", "a pod of a revoked template"],
    )
    def test_s11_an_old_config_stays_while_a_pod_may_start_with_it(self, cluster: Cluster, removed: bool) -> None:
        owner = {"kind": names.KIND, "uid": REF.uid, "controller": True}
        meta = {"name": "cart-config-old", "uid": "u", "resourceVersion": "1", "ownerReferences": [owner]}
        snap = cluster.snapshot()
        old = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta}
        snap = replace(snap, children={**snap.children, ObjectKey("ConfigMap", "cart-config-old"): old})
        deletes = [s.action.key.name for s in plan(snap).steps if isinstance(s.action, Delete)]
        assert ("cart-config-old" in deletes) == removed

    def test_a_finished_roll_is_settled(self) -> None:
        cluster = rolling(formed(), live_partition=0, current="rev-t1")
        for n in cluster.nodes:
            cluster = cluster.with_node(n.shard, n.ordinal, revision="rev-t2")
        assert not actions(cluster)  # the controller still has to call it current
        done = replace(cluster, current="rev-t2")
        assert [
            a.manifest["spec"]["updateStrategy"]["rollingUpdate"]["partition"] for a in of_type(done, SettleShard)
        ] == [2]

    def test_pods_that_never_held_data_are_replaced_freely(self) -> None:
        cluster = rolling(replace(blank(), strangers=True))
        for n in cluster.nodes:
            cluster = cluster.with_node(n.shard, n.ordinal, answers=False)
        applies = of_type(cluster, Apply)
        assert {a.manifest["spec"]["updateStrategy"]["rollingUpdate"]["partition"] for a in applies} == {0}
        assert len(applies) == 3

    def test_a_cordon_moves_the_primary_away(self) -> None:
        cluster = replace(formed(), cordoned=frozenset({"host-a"}))
        [switch] = of_type(cluster, SwitchOver)
        assert (switch.source.pod, switch.destination.pod) == ("cart-0-0", "cart-0-1")

    def test_one_disruptive_action_at_a_time(self) -> None:
        cluster = replace(rolling(formed()), cordoned=frozenset({"host-a", "host-b"}))
        assert sum(a.disruptive for a in actions(cluster)) == 1


class TestReplicasThatAreTooMany:
    def shrinking(self, **more: Any) -> Cluster:
        """Three members in each shard, and the spec asks for two."""
        return replace(formed(2, 2), spec=spec_of(2, 1, **more), present={0: 3, 1: 3})

    def test_one_shard_at_a_time(self) -> None:
        [action] = actions(self.shrinking())
        assert isinstance(action, RemoveReplicas)
        assert (action.shard, action.manifest["spec"]["replicas"]) == (0, 2)
        assert partition_of(action.manifest) == 2

    def test_s6_a_primary_hands_over_before_it_is_removed(self) -> None:
        cluster = self.shrinking()
        for ordinal in (0, 1):
            cluster = cluster.with_node(0, ordinal, role=Role.REPLICA, slots=NO_SLOTS, follows="id-0-2-0")
        cluster = cluster.with_node(0, 2, role=Role.PRIMARY, slots=share(2)[0], follows=None, epoch=9)
        cluster = cluster.with_node(0, 1, offset=200)
        [action] = actions(cluster)
        assert isinstance(action, SwitchOver)
        assert (action.source.pod, action.destination.pod) == ("cart-0-2", "cart-0-1")

    @pytest.mark.parametrize(
        "changes", [{"up": False, "down_seconds": 3}, {"answers": False}, {"deleting": True}], ids=str
    )
    def test_s7_nobody_goes_while_somebody_who_stays_is_not_in_step(self, changes: dict[str, Any]) -> None:
        cluster = self.shrinking().with_node(1, 1, **changes)
        assert not of_type(cluster, RemoveReplicas)
        assert Reason.SCALING_IN in reasons(cluster)

    def test_who_goes_anyway_need_not_answer(self) -> None:
        assert of_type(self.shrinking().with_node(1, 2, answers=False), RemoveReplicas)

    def test_a_new_template_reaches_all_members_first(self) -> None:
        cluster = replace(self.shrinking(), update="rev-t2", template="t2")
        assert not of_type(cluster, RemoveReplicas)


class TestReplicasThatAreMissing:
    def growing(self, partition: int | None = None) -> Cluster:
        """Two members in each shard, and the spec asks for three."""
        return replace(formed(2, 1), spec=spec_of(2, 2), live_members=2, live_partition=partition)

    def test_new_members_come_with_the_template_of_the_others(self) -> None:
        applied = of_type(self.growing(), Apply)
        assert [(a.manifest["spec"]["replicas"], partition_of(a.manifest)) for a in applied] == [(3, 3), (3, 3)]

    def test_a_roll_under_way_goes_on(self) -> None:
        applied = of_type(self.growing(partition=1), Apply)
        assert [(a.manifest["spec"]["replicas"], partition_of(a.manifest)) for a in applied] == [(3, 1), (3, 1)]


class TestRequestedFailover:
    """The annotation names the pod that is to stop being a primary; the status confirms that it has."""

    def asked(self, cluster: Cluster, request: str, handled: str | None = None) -> Cluster:
        status = {} if handled is None else {"lastHandledFailover": handled}
        return replace(cluster, more={"annotations": {names.ANNOTATION_FAILOVER: request}, "status": status})

    @pytest.mark.parametrize("request_", ["cart-1-0", "cart-1-0@2026-01-31T12:00:00Z"])
    def test_the_named_primary_hands_over_to_a_replica_in_step(self, request_: str) -> None:
        [step] = plan(self.asked(formed(), request_).snapshot()).steps
        assert isinstance(step.action, SwitchOver)
        assert (step.action.source.pod, step.action.destination.pod) == ("cart-1-0", "cart-1-1")
        assert step.reason is Reason.FAILOVER_REQUESTED

    def test_nothing_happens_if_another_pod_leads(self) -> None:
        assert plan(self.asked(formed(), "cart-1-1").snapshot()).converged

    def test_what_the_status_confirms_is_not_done_again(self) -> None:
        assert plan(self.asked(formed(), "cart-1-0@a", handled="cart-1-0@a").snapshot()).converged
        assert of_type(self.asked(formed(), "cart-1-0@b", handled="cart-1-0@a"), SwitchOver)

    @pytest.mark.parametrize(
        "change",
        [{"up": False, "down_seconds": 3}, {"answers": False}, {"deleting": True}],
        ids=["not in step", "silent", "on its way out"],
    )
    def test_s8_not_while_a_replica_is_missing(self, change: dict[str, Any]) -> None:
        cluster = self.asked(formed(1, 2), "cart-0-0").with_node(0, 2, **change)
        assert not of_type(cluster, SwitchOver)
        [wait] = [w for w in plan(cluster.snapshot()).waits if w.reason is Reason.FAILOVER_REQUESTED]
        assert "cart-0-2" in wait.message

    def test_s1_a_silent_primary_is_waited_for(self) -> None:
        cluster = self.asked(formed(), "cart-0-0").with_node(0, 0, answers=False)
        assert not actions(cluster)
        assert Reason.FAILOVER_REQUESTED in reasons(cluster)

    def test_nobody_takes_over_on_a_cordoned_host(self) -> None:
        cluster = replace(self.asked(formed(), "cart-0-0"), cordoned=frozenset({"host-b"}))
        assert not [a for a in of_type(cluster, SwitchOver) if a.source.pod == "cart-0-0"]
        assert Reason.FAILOVER_REQUESTED in reasons(cluster)

    def test_nobody_takes_over_whose_pod_is_about_to_be_replaced(self) -> None:
        cluster = self.asked(rolling(formed(), live_partition=1), "cart-0-0")
        assert not of_type(cluster, SwitchOver)
        assert Reason.FAILOVER_REQUESTED in reasons(cluster)

    def test_a_weak_shard_does_not_hold_up_another(self) -> None:
        cluster = self.asked(formed(), "cart-0-0").with_node(2, 1, up=False, down_seconds=3)
        assert [a.source.pod for a in of_type(cluster, SwitchOver)] == ["cart-0-0"]

    @pytest.mark.parametrize("request_", ["cart-7-0", "cart-0-2", "other-0-0", "@now", "cart-0-0@" + "x" * 600])
    def test_a_request_that_names_no_pod_is_explained(self, request_: str) -> None:
        cluster = self.asked(formed(), request_)
        [block] = plan(cluster.snapshot()).blocks
        assert block.reason is Reason.INVALID_REQUEST
        assert names.ANNOTATION_FAILOVER in block.message
        assert len(block.message) < 300

    def test_a_shard_without_replicas_cannot_fail_over(self) -> None:
        assert Reason.INVALID_REQUEST in reasons(self.asked(formed(3, 0), "cart-0-0"))

    def test_it_goes_before_a_roll(self) -> None:
        cluster = self.asked(rolling(formed()), "cart-1-0")
        assert [type(a) for a in actions(cluster)] == [SwitchOver]


class TestZoneBalance:
    def crowded(self, since: float) -> Cluster:
        """Shard 1 has failed over into shard 0's zone; the status says so since ``since``."""
        cluster = formed().with_node(0, 0, zone="a").with_node(0, 1, zone="c")
        cluster = cluster.with_node(1, 0, zone="a").with_node(1, 1, zone="b").with_node(2, 0, zone="c")
        when = datetime.fromtimestamp(since, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {"type": "ZonesSpread", "status": "False", "lastTransitionTime": when}
        return replace(cluster, more={"status": {"conditions": [condition]}})

    def test_a_primary_moves_out_of_a_crowded_zone_after_ten_calm_minutes(self) -> None:
        [switch] = of_type(self.crowded(NOW - 601), SwitchOver)
        assert (switch.source.pod, switch.destination.pod) == ("cart-1-0", "cart-1-1")

    def test_not_sooner(self) -> None:
        assert not actions(self.crowded(NOW - 599))
        assert not actions(replace(self.crowded(NOW - 601), more={}))

    def test_not_while_a_replica_is_behind(self) -> None:
        cluster = self.crowded(NOW - 601).with_node(2, 1, up=False, down_seconds=5)
        assert not of_type(cluster, SwitchOver)


def test_a_member_that_answers_but_is_counted_as_failed_is_watched_until_that_ends() -> None:
    """Its replicas could still elect one of themselves, and no Kubernetes event would tell."""
    snap = formed().snapshot()
    view = snap.view("cart-1-0")
    assert view is not None
    peers = tuple(
        replace(peer, flags=peer.flags | {"fail"}) if peer.node_id == "id-0-0-0" else peer for peer in view.peers
    )
    doubtful = plan(replace(snap, views={**snap.views, "cart-1-0": replace(view, peers=peers)}))
    assert [(w.reason, w.seconds) for w in doubtful.waits] == [(Reason.NODE_UNREACHABLE, 1.0)]
    assert "cart-1-0 still counts cart-0-0 as failed" in doubtful.waits[0].message
    assert not doubtful.steps


def test_slots_are_shared_evenly() -> None:
    assert [len(s) for s in share(3)] == [5461, 5461, 5462]
    assert Node(0, 0).name == "cart-0-0"
