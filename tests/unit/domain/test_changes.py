"""What the planner decides when somebody wants a living cluster to be different."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import (
    Apply,
    Delete,
    RemoveReplicas,
    RollPod,
    SettleShard,
    SwitchOver,
)
from cachecluster.domain.drift import partition_of
from cachecluster.domain.nodes import Role
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS, share
from cachecluster.domain.snapshot import Container, ContainerState, ObjectKey
from tests.unit.domain.building import NOW, REF, Cluster, blank, formed, spec_of
from tests.unit.domain.deciding import actions, of_type, reasons


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

    def revoked(self, *, created_at: float = NOW - 700, host_ready: bool = True, **node: Any) -> Cluster:
        """A replica of a template that is wanted no more, which has been silent for long."""
        cluster = formed().with_node(0, 1, revision="rev-t2", answers=False, **node)
        snap = cluster.snapshot()
        pods = tuple(replace(p, created_at=created_at) if p.name == "cart-0-1" else p for p in snap.pods)
        hosts = {name: replace(h, ready=host_ready) for name, h in snap.hosts.items()}
        return replace(cluster, more={"pods": pods, "hosts": hosts})

    def held(self, cluster: Cluster) -> str:
        """Nothing is deleted; why."""
        assert not of_type(cluster, Delete)
        return " ".join(b.message for b in plan(cluster.snapshot()).blocks if b.reason is Reason.NODE_UNREACHABLE)

    def test_s1_a_silent_pod_of_a_revoked_template_stays_while_its_kubelet_calls_it_ready(self) -> None:
        cluster = self.revoked()
        pods = tuple(replace(p, ready=p.ready or p.name == "cart-0-1") for p in cluster.more["pods"])
        assert "its kubelet no longer reports it as ready" in self.held(replace(cluster, more={"pods": pods}))

    def test_s1_a_silent_pod_of_a_revoked_template_stays_while_its_kubelet_is_silent_too(self) -> None:
        assert "the kubelet of host-b reports how it is" in self.held(self.revoked(host_ready=False))
        ended = Container(ContainerState.TERMINATED, "Error", "", 9, None, "Error, exit code 1", 1)
        assert "the kubelet of host-b" in self.held(self.revoked(host_ready=False, container=ended))

    def test_s1_a_silent_pod_of_a_revoked_template_stays_while_it_may_hold_the_only_copy(self) -> None:
        cluster = self.revoked()
        assert "the only copy" in self.held(cluster.with_node(0, 0, answers=False))

    @pytest.mark.parametrize(
        "container",
        [
            Container(ContainerState.RUNNING, "", "", 0, NOW - 690, "", None),
            Container(ContainerState.WAITING, "ContainerCreating", "", 0, None, "", None),
            Container(ContainerState.TERMINATED, "Error", "", 1, None, "Error, exit code 1", 1),
        ],
        ids=["running but not ready", "never started", "ended"],
    )
    def test_s1_a_pod_that_its_kubelet_reports_as_down_goes_back_after_a_while(self, container: Container) -> None:
        assert [d.key.name for d in of_type(self.revoked(container=container), Delete)] == ["cart-0-1"]
        assert not of_type(self.revoked(container=container, created_at=NOW - 100), Delete)

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

    @pytest.mark.parametrize(
        ("primaries", "moves"),
        [("aaabbb", True), ("aabbcc", False), ("aabc", False), ("aaabc", True), ("aabbc", False), ("aaaabbbc", True)],
    )
    def test_half_of_the_primaries_are_too_many_where_it_could_be_fewer(self, primaries: str, moves: bool) -> None:
        """Without one more than half of them nobody is elected."""
        cluster = replace(formed(len(primaries), 2), more=self.crowded(NOW - 601).more)
        for shard, zone in enumerate(primaries):
            for ordinal, place in enumerate((zone, *(z for z in "abc" if z != zone))):
                cluster = cluster.with_node(shard, ordinal, zone=place)
        assert bool(of_type(cluster, SwitchOver)) is moves

    def test_not_sooner(self) -> None:
        assert not actions(self.crowded(NOW - 599))
        assert not actions(replace(self.crowded(NOW - 601), more={}))

    def test_not_while_a_replica_is_behind(self) -> None:
        cluster = self.crowded(NOW - 601).with_node(2, 1, up=False, down_seconds=5)
        assert not of_type(cluster, SwitchOver)
