"""What the planner decides, situation by situation."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import (
    Apply,
    AssignSlots,
    FailoverKind,
    Forget,
    LabelRole,
    Meet,
    Promote,
    Replicate,
)
from cachecluster.domain.nodes import Role
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import Container, ContainerState, InvalidSpec, ObjectKey, Snapshot
from tests.unit.domain.building import NOW, Cluster, Node, blank, formed, gone, spec_of
from tests.unit.domain.deciding import actions, of_type, reasons
from tests.unit.domain.test_fence import few


def young(cluster: Cluster) -> Snapshot:
    """The cluster five seconds after its pods were made."""
    snap = cluster.snapshot()
    return replace(snap, pods=tuple(replace(p, created_at=NOW - 5) for p in snap.pods))


def volumes(cluster: Cluster, age: str) -> Cluster:
    """The cluster with volume claims that are new, older than their shards, or not found."""
    made = {"new": "2026-01-01T00:00:02Z", "older than the shard": "2026-01-01T00:00:00Z"}.get(age)
    children = dict(cluster.snapshot().children)
    for key, live in list(children.items()):
        if key.kind == "StatefulSet":
            stamp = {"creationTimestamp": "2026-01-01T00:00:01Z"}
            children[key] = {**live, "metadata": {**live["metadata"], **stamp}}
    for node in cluster.nodes if made else ():
        name = names.volume_claim("cart", node.shard, node.ordinal)
        children[ObjectKey("PersistentVolumeClaim", name)] = {
            "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": "1", "creationTimestamp": made}
        }
    return replace(cluster, more={"children": children})


class TestFormation:
    def test_a_converged_cluster_gives_an_empty_plan(self) -> None:
        assert plan(formed().snapshot()).converged

    @pytest.mark.parametrize("cluster", [formed(1, 0), few(1, 2), few(2, 1), formed(3, 1), formed(6, 1), formed(3, 2)])
    def test_every_topology_can_be_converged(self, cluster: Cluster) -> None:
        assert plan(cluster.snapshot()).converged

    def test_blank_nodes_meet_and_get_all_slots_in_one_pass(self) -> None:
        steps = actions(blank())
        assert [type(s) for s in steps] == [AssignSlots, AssignSlots, AssignSlots, Meet]
        assert len(steps[3].pairs) == 15
        assert len({e for _, e in steps[3].epochs}) == 6
        leading = {step.first_epoch for step in steps[:3]}
        assert len(leading) == 3
        assert min(leading) > max(e for _, e in steps[3].epochs), "a takeover keeps the newest epoch"
        covered = NO_SLOTS
        for step in steps[:3]:
            assert not covered & step.slots
            covered |= step.slots
        assert covered == ALL_SLOTS

    def test_no_zone_holds_a_majority_of_the_chosen_primaries(self) -> None:
        cluster = blank()
        zones = {n.name: n.zone for n in cluster.nodes}
        chosen = [zones[a.node.pod] for a in of_type(cluster, AssignSlots)]
        assert sorted(chosen) == ["a", "b", "c"]

    def test_a_leader_gets_its_slots_with_its_first_answer(self) -> None:
        """A node without slots that knows no owner in its third second refuses requests for five more."""
        early = blank()
        leaders = {a.node.pod for a in of_type(early, AssignSlots)}
        for shard in range(3):
            for ordinal in range(2):
                name = f"cart-{shard}-{ordinal}"
                alone = early
                for other in early.nodes:
                    if other.name != name:
                        alone = alone.with_node(other.shard, other.ordinal, answers=False)
                given = [a.node.pod for s in plan(young(alone)).steps if isinstance(a := s.action, AssignSlots)]
                assert given == ([name] if name in leaders else [])

    def test_s2_leaders_stay_the_same_whoever_answers(self) -> None:
        """A leader that has got slots and falls silent, unrecorded, must not be replaced by another choice."""
        first = {a.node.pod[:6]: a.node.pod for a in of_type(blank(), AssignSlots)}
        for lost in first.values():
            shard, ordinal = int(lost[5]), int(lost[7])
            cluster = blank().with_node(shard, ordinal, answers=False)
            given = {a.node.pod for s in plan(young(cluster)).steps if isinstance(a := s.action, AssignSlots)}
            assert given == set(first.values()) - {lost}

    @pytest.mark.parametrize("volume", ["older than the shard", "unknown"])
    def test_formation_with_volumes_of_an_earlier_life_waits_for_slow_members_but_not_for_ever(
        self, volume: str
    ) -> None:
        cluster = volumes(blank(persistence={"mode": "AppendOnly", "size": "1Gi"}), volume).with_node(
            1, 1, answers=False
        )
        given = {a.node.pod[:6] for s in plan(young(cluster)).steps if isinstance(a := s.action, AssignSlots)}
        assert given == {"cart-0", "cart-2"}
        assert len(of_type(cluster, AssignSlots)) == 3

    def test_new_volumes_hold_nothing_back(self) -> None:
        cluster = volumes(blank(persistence={"mode": "AppendOnly", "size": "1Gi"}), "new")
        for node in cluster.nodes:
            if node.name not in {a.node.pod for a in of_type(blank(), AssignSlots)}:
                cluster = cluster.with_node(node.shard, node.ordinal, answers=False)
        given = [s for s in plan(young(cluster)).steps if isinstance(s.action, AssignSlots)]
        assert len(given) == 3

    def test_shards_that_come_later_keep_their_share_of_the_zones(self) -> None:
        """Shards 0 and 1 answer first: they must not both take zone b, where alone shard 2 has a member."""
        cluster = replace(
            blank(),
            nodes=(
                *(Node(0, 0, zone="b"), Node(0, 1, zone="a"), Node(1, 0, zone="b"), Node(1, 1, zone="c")),
                *(Node(2, 0, zone="b", answers=False), Node(2, 1, zone="b", answers=False)),
            ),
        )
        leaders = {a.node.pod for s in plan(young(cluster)).steps if isinstance(a := s.action, AssignSlots)}
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

    def test_a_primary_that_does_not_answer_is_one_until_another_leads(self) -> None:
        silent = formed().with_node(0, 0, answers=False, label="primary")
        assert not of_type(silent, LabelRole)
        slots = formed().nodes[0].slots
        succeeded = silent.with_node(0, 0, slots=NO_SLOTS).with_node(
            0, 1, role=Role.PRIMARY, follows=None, slots=slots, epoch=9, label="replica"
        )
        assert [(a.pod, a.role) for a in of_type(succeeded, LabelRole)] == [
            ("cart-0-0", Role.REPLICA),
            ("cart-0-1", Role.PRIMARY),
        ]

    def test_a_primary_that_has_not_heard_of_its_successor_is_one_no_more(self) -> None:
        before = formed().with_node(0, 0, label="primary")
        slots = before.nodes[0].slots
        elected = before.with_node(0, 1, role=Role.PRIMARY, follows=None, slots=slots, epoch=9, label="replica")
        assert [(a.pod, a.role) for a in of_type(elected, LabelRole)] == [
            ("cart-0-0", Role.REPLICA),
            ("cart-0-1", Role.PRIMARY),
        ]

    def test_each_of_two_that_own_slots_of_one_shard_keeps_its_label(self) -> None:
        before = formed().with_node(0, 0, label="primary")
        slots = sorted(before.nodes[0].slots)
        shared = before.with_node(0, 0, slots=SlotSet.of(slots[:10])).with_node(
            0, 1, role=Role.PRIMARY, follows=None, slots=SlotSet.of(slots[10:]), epoch=9, label="primary"
        )
        assert not of_type(shared, LabelRole)


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

    def test_who_has_been_promoted_under_an_invalid_spec_is_labelled(self) -> None:
        promoted = formed(3, 1).with_node(0, 0, label="replica")
        p = plan(replace(promoted.snapshot(), spec=InvalidSpec("write something else")))
        assert [s.action for s in p.steps] == [LabelRole("cart-0-0", "uid-cart-0-0", Role.PRIMARY)]

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
    return cluster.with_node(0, 1, **{"up": False, "down_seconds": 1, **changes})


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

    def test_s10_a_replica_that_has_heard_more_of_its_primary_than_anybody_else_is_promoted(self) -> None:
        """Slots were on their way to the primary when it died: it had told its replica first."""
        arriving = SlotSet.of([share(3)[1].ranges[0][0]])
        snap = replace(lost_primary(), ghosts=(gone("id-0-0-0", share(3)[0], epoch=9, ip="10.0.0.0"),)).snapshot()
        views = dict(snap.views)
        view: Any = views["cart-0-1"]
        changed = (
            replace(p, slots=p.slots | arriving if p.node_id == "id-0-0-0" else p.slots - arriving) for p in view.peers
        )
        views["cart-0-1"] = replace(view, peers=tuple(changed))
        promoted = [s.action for s in plan(replace(snap, views=views)).steps if isinstance(s.action, Promote)]
        assert [a.node.pod for a in promoted] == ["cart-0-1"]

    def test_s1_a_silent_primary_is_not_replaced(self) -> None:
        cluster = formed().with_node(0, 0, answers=False).with_node(0, 1, up=False, down_seconds=60)
        assert not of_type(cluster, Promote)
        assert Reason.NODE_UNREACHABLE in reasons(cluster)

    def test_s10_a_terminated_container_is_proof(self) -> None:
        container = Container(ContainerState.RUNNING, "", "", 1, NOW - 2, "Error, exit code 137", 137)
        cluster = formed(1, 1).with_node(0, 0, answers=False, refuses=True, container=container)
        [promote] = of_type(cluster.with_node(0, 1, up=False, down_seconds=2), Promote)
        assert promote.kind is FailoverKind.TAKEOVER  # one shard: nobody is left to vote
        assert "137" in promote.lost.why

    def test_s10_a_restart_long_ago_is_no_proof_by_a_clock_that_was_set_back(self) -> None:
        container = Container(ContainerState.RUNNING, "", "", 1, NOW + 300, "Error, exit code 137", 137)
        cluster = formed(1, 1).with_node(0, 0, answers=False, container=container)
        assert not of_type(cluster.with_node(0, 1, up=False, down_seconds=60), Promote)

    def test_s1_a_link_that_outlived_the_container_start_is_no_proof(self) -> None:
        container = Container(ContainerState.RUNNING, "", "", 1, NOW - 60, "Error, exit code 137", 137)
        cluster = formed(1, 1).with_node(0, 0, answers=False, refuses=True, container=container)
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


class TestLoss:
    def test_a_departed_id_is_forgotten_everywhere_once_all_pods_answer(self) -> None:
        cluster = replace(formed(), ghosts=(gone("id-old", NO_SLOTS),))
        [forget] = of_type(cluster, Forget)
        assert len(forget.members) == 6

    def test_s1_no_id_is_forgotten_while_a_pod_is_silent(self) -> None:
        cluster = replace(formed(), ghosts=(gone("id-old", NO_SLOTS),)).with_node(1, 1, answers=False)
        assert not of_type(cluster, Forget)

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
