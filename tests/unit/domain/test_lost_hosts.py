"""When a pod on a lost Kubernetes node is given up, and what is awaited until then."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Forget, FreePod, Promote
from cachecluster.domain.nodes import Role, Unreachable
from cachecluster.domain.plan import Block, Wait
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Host, Snapshot
from cachecluster.domain.status import derive
from tests.unit.domain.building import NOW, Cluster, blank, formed, gone, spec_of

LOST: dict[str, Any] = {"host": "lost", "answers": False, "suspected": True, "pong_age": 100}
GRACE = 60


def seen(cluster: Cluster, *, seconds: float = 61, silent: float = 61, machines: int = 3, **host: Any) -> Snapshot:
    """What a pass sees when the machine ``lost`` has not been ready for so long, among ``machines`` without a pod."""
    snap = cluster.snapshot()
    others = {f"spare-{i}": Host(f"spare-{i}", {}, schedulable=True, ready=True) for i in range(machines)}
    hosts = {
        n: h if n != "lost" else replace(h, ready=False, not_ready_since=NOW - seconds) for n, h in snap.hosts.items()
    }
    hosts = {**hosts, **others}
    if host:
        hosts["lost"] = replace(hosts["lost"], **host)
    views = {
        pod: Unreachable("no answer", NOW - silent, view.refused) if isinstance(view, Unreachable) else view
        for pod, view in snap.views.items()
    }
    return replace(snap, hosts=hosts, views=views)


def replica_lost(shards: int = 3, replicas: int = 1, **changes: Any) -> Cluster:
    return formed(shards, replicas).with_node(0, 1, **{**LOST, **changes})


def primary_lost_and_replaced(shards: int = 3) -> Cluster:
    """Its replica leads by now."""
    cluster = formed(shards)
    leads = {"role": Role.PRIMARY, "slots": cluster.nodes[0].slots, "follows": None, "epoch": 9}
    return cluster.with_node(0, 1, **leads).with_node(0, 0, **LOST)


def with_pod(snap: Snapshot, name: str, **changes: Any) -> Snapshot:
    return replace(snap, pods=tuple(replace(p, **changes) if p.name == name else p for p in snap.pods))


def word(snap: Snapshot, how: str) -> Snapshot:
    """Somebody says that the machine is off."""
    if how == "deleted":
        return replace(snap, hosts={n: h for n, h in snap.hosts.items() if n != "lost"})
    return replace(snap, hosts={**snap.hosts, "lost": replace(snap.hosts["lost"], out_of_service=True)})


WORDS = pytest.mark.parametrize("how", ["deleted", "tainted"])


def freed(snap: Snapshot) -> list[FreePod]:
    return [s.action for s in plan(snap).steps if isinstance(s.action, FreePod)]


def awaited(snap: Snapshot, pod: str = "cart-0-1") -> Wait | Block:
    """What is said about a pod that is not given up."""
    found = plan(snap)
    assert not freed(snap)
    told: list[Wait | Block] = [*found.waits, *found.blocks]
    about = {Reason.LEAVING_LOST_NODE, Reason.NODE_LOST}
    [verdict] = [v for v in told if v.reason in about and v.message.startswith(f"{pod} hangs")]
    return verdict


class TestWithoutVolume:
    def test_a_replica_is_given_up_once_its_primary_serves_elsewhere(self) -> None:
        [free] = freed(seen(replica_lost()))
        assert (free.pod, free.uid, free.host, free.ip) == ("cart-0-1", "uid-cart-0-1", "lost", "10.0.0.1")
        assert free.keeper is not None
        assert (free.keeper.pod, free.on_word) == ("cart-0-0", False)

    def test_a_former_primary_is_given_up_once_another_leads(self) -> None:
        assert [f.pod for f in freed(seen(primary_lost_and_replaced()))] == ["cart-0-0"]

    @pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)])
    def test_small_clusters_heal_as_well(self, shape: tuple[int, int]) -> None:
        assert freed(seen(replica_lost(*shape)))

    def test_one_that_kubernetes_is_about_to_evict_in_vain_is_given_up(self) -> None:
        assert freed(seen(replica_lost(deleting=True)))

    def test_one_that_has_never_come_up_there_is_given_up(self) -> None:
        """It hangs in ContainerCreating: nobody has heard of it, and nobody can."""
        snap = with_pod(seen(replica_lost(hidden=True)), "cart-0-1", ip=None, phase="Pending", container=None)
        [free] = freed(replace(snap, views={n: v for n, v in snap.views.items() if n != "cart-0-1"}))
        assert free.ip is None

    def test_the_grace_is_awaited_and_can_be_edited(self) -> None:
        verdict = awaited(seen(replica_lost(), seconds=GRACE - 1))
        assert verdict.reason is Reason.LEAVING_LOST_NODE
        assert "after 60 s" in verdict.message
        short = replace(replica_lost(), spec=spec_of(placement={"nodeLossGraceSeconds": 10}))
        assert freed(seen(short, seconds=11))

    def test_s1_an_operator_that_has_just_seen_it_waits_the_whole_grace(self) -> None:
        snap = seen(replica_lost(), not_ready_since=None)
        assert awaited(snap).reason is Reason.LEAVING_LOST_NODE

    def test_s1_a_kubelet_that_reports_has_the_last_word(self) -> None:
        assert not freed(seen(replica_lost(), ready=True))

    def test_s1_an_engine_that_answers_is_not_lost(self) -> None:
        assert not freed(seen(replica_lost(answers=True)))

    def test_s1_silence_towards_the_operator_takes_its_time(self) -> None:
        assert "heard of lately" in awaited(seen(replica_lost(), silent=9)).message

    def test_s1_a_machine_that_refuses_connections_is_there(self) -> None:
        awaited(seen(replica_lost(refuses=True)))

    @pytest.mark.parametrize(
        "row", [{"suspected": False, "pong_age": 100}, {"suspected": True, "pong_age": 9}], ids=str
    )
    def test_s1_any_node_that_hears_it_vetoes(self, row: dict[str, Any]) -> None:
        assert "heard of lately" in awaited(seen(replica_lost(**row))).message

    def test_s3_without_a_primary_nothing_is_given_up(self) -> None:
        snap = seen(formed(1, 0).with_node(0, 0, **LOST))
        verdict = awaited(snap, "cart-0-0")
        assert verdict.reason is Reason.NODE_LOST
        assert "No other pod serves shard 0" in verdict.message

    def test_s3_a_primary_that_may_still_lead_is_not_given_up_although_a_replica_has_its_data(self) -> None:
        assert awaited(seen(formed(1).with_node(0, 0, **LOST)), "cart-0-0").reason is Reason.NODE_LOST

    def test_s3_a_primary_on_the_same_machine_is_none(self) -> None:
        awaited(seen(replica_lost().with_node(0, 0, host="lost")))

    @pytest.mark.parametrize("state", [{"deleting": True}, {"quarantined": True}], ids=str)
    def test_s3_a_primary_that_is_about_to_go_or_does_not_serve_is_none(self, state: dict[str, Any]) -> None:
        awaited(seen(replica_lost().with_node(0, 0, **state)))

    def test_s3_a_primary_that_does_not_see_the_cluster_may_be_on_the_lost_side(self) -> None:
        snap = seen(replica_lost())
        view = snap.view("cart-0-0")
        assert view is not None
        awaited(replace(snap, views={**snap.views, "cart-0-0": replace(view, cluster_state_ok=False)}))

    def test_s3_a_primary_that_serves_a_part_of_the_shard_is_not_enough(self) -> None:
        cluster = primary_lost_and_replaced()
        mine = cluster.nodes[1].slots
        half = type(mine).of(list(mine)[: len(mine) // 2])
        awaited(seen(cluster.with_node(0, 1, slots=half)), "cart-0-0")

    def test_s7_one_pod_of_a_shard_at_a_time(self) -> None:
        cluster = replica_lost(1, 2).with_node(0, 2, **{**LOST, "host": "lost"})
        assert [f.pod for f in freed(seen(cluster))] == ["cart-0-1"]
        syncing = cluster.with_node(0, 1, host="host-b", answers=True, suspected=False, pong_age=0, up=False)
        assert "once the other pods" in awaited(seen(syncing), "cart-0-2").message
        starting = cluster.with_node(0, 1, host="host-b")
        assert "once the other pods" in awaited(seen(starting), "cart-0-2").message
        missing = seen(cluster)
        missing = replace(missing, pods=tuple(p for p in missing.pods if p.name != "cart-0-1"))
        assert "once the other pods" in awaited(missing, "cart-0-2").message

    def test_a_pod_that_finds_no_place_does_not_hold_up_the_next_one(self) -> None:
        cluster = replica_lost(1, 2).with_node(0, 2, **{**LOST, "host": "lost"})
        snap = with_pod(seen(cluster), "cart-0-1", host=None, ip=None, unschedulable="0/3 nodes are available")
        assert [f.pod for f in freed(snap)] == ["cart-0-2"]

    def test_pods_of_a_shard_that_has_no_data_yet_are_given_up(self) -> None:
        new = blank().with_node(0, 0, **LOST)
        assert [(f.pod, f.keeper) for f in freed(seen(new))] == [("cart-0-0", None)]

    def test_s3_nobody_else_believes_that_it_owns_slots(self) -> None:
        """It has got some, and the machine was lost before that could be written down."""
        owning = replace(formed(1).with_node(0, 0, **LOST), formed=False)
        assert awaited(seen(owning), "cart-0-0").reason is Reason.NODE_LOST


class TestCutOff:
    def test_s1_who_hears_fewer_than_half_of_the_machines_may_be_cut_off(self) -> None:
        cluster = formed(3)
        for shard, ordinal in ((0, 1), (1, 0), (1, 1), (2, 0), (2, 1)):
            cluster = cluster.with_node(shard, ordinal, **{**LOST, "host": f"lost{shard}{ordinal}"})
        snap = seen(cluster, machines=20)
        off = {n: replace(h, ready=False, not_ready_since=NOW - 61) for n, h in snap.hosts.items() if n[:4] == "lost"}
        snap = replace(snap, hosts={**snap.hosts, **off})
        assert "operator who is cut off" in awaited(snap).message

    def test_s1_where_no_majority_of_all_machines_reports_the_api_server_may_be_cut_off(self) -> None:
        snap = seen(replica_lost(), machines=0)
        assert freed(snap), "three of four report"
        off = {
            n: replace(h, ready=False, not_ready_since=NOW - 61)
            for n, h in snap.hosts.items()
            if n in {"lost", "host-b"}
        }
        assert "operator who is cut off" in awaited(replace(snap, hosts={**snap.hosts, **off})).message

    def test_machines_that_are_known_to_be_off_do_not_count(self) -> None:
        snap = seen(replica_lost(), machines=0)
        off = replace(snap.hosts["host-b"], ready=False, not_ready_since=NOW, out_of_service=True)
        assert freed(replace(snap, hosts={**snap.hosts, "host-b": off}))


class TestWithVolume:
    def lost(self, cluster: Cluster | None = None) -> Snapshot:
        return with_pod(seen(cluster or replica_lost()), "cart-0-1", has_volume=True)

    def test_the_message_says_what_is_awaited_and_how_to_say_it(self) -> None:
        snap = self.lost()
        verdict = awaited(snap)
        assert isinstance(verdict, Block)
        command = "kubectl taint nodes lost node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"
        assert command in verdict.message
        assert "kubectl delete node lost" in verdict.message
        status = derive(snap, plan(snap)).to_json()
        stalled = next(c for c in status["conditions"] if c["type"] == "Stalled")
        assert (stalled["status"], stalled["reason"]) == ("True", "NodeLost")
        assert command in stalled["message"]
        assert status["reason"] == "NodeLost"

    def test_nobody_is_called_before_the_grace_is_over(self) -> None:
        snap = with_pod(seen(replica_lost(), seconds=10), "cart-0-1", has_volume=True)
        assert awaited(snap).reason is Reason.LEAVING_LOST_NODE

    @WORDS
    def test_it_is_given_up_at_once_when_somebody_says_so(self, how: str) -> None:
        snap = with_pod(seen(replica_lost(), seconds=0), "cart-0-1", has_volume=True)
        [free] = freed(word(snap, how))
        assert (free.pod, free.on_word) == ("cart-0-1", True)

    @WORDS
    def test_s1_not_even_then_if_somebody_hears_it(self, how: str) -> None:
        awaited(word(self.lost(replica_lost(suspected=False, pong_age=1)), how))

    @WORDS
    def test_the_last_copy_comes_back_with_its_volume(self, how: str) -> None:
        snap = with_pod(seen(formed(1, 0).with_node(0, 0, **LOST)), "cart-0-0", has_volume=True)
        [free] = freed(word(snap, how))
        assert free.keeper is None

    @WORDS
    def test_s10_a_replica_is_promoted_before_the_trace_of_its_primary_is_wiped_out(self, how: str) -> None:
        cluster = formed(1).with_node(0, 0, **LOST)
        hearing = with_pod(seen(cluster.with_node(0, 1, last_io=1)), "cart-0-0", has_volume=True)
        assert awaited(word(hearing, how), "cart-0-0").reason is Reason.LEAVING_LOST_NODE
        silent = with_pod(seen(cluster.with_node(0, 1, last_io=60)), "cart-0-0", has_volume=True)
        assert [type(s.action) for s in plan(word(silent, how)).steps] == [Promote]


class TestForgetting:
    GHOST = gone("id-old", formed().nodes[0].slots - formed().nodes[0].slots, ip="10.7.7.7")

    def snap(self, *, heard: float | None, **host: Any) -> Snapshot:
        """The pod was made anew elsewhere; the id of the former one is still listed."""
        cluster = replace(formed(), ghosts=(self.GHOST,))
        found = cluster.snapshot()
        lost = Host("lost", {}, schedulable=True, ready=False, not_ready_since=NOW - 100)
        foreign = tuple(replace(f, heard_at=None if heard is None else NOW - heard) for f in found.foreign)
        return replace(found, foreign=foreign, hosts={**found.hosts, "lost": replace(lost, **host)})

    def forgets(self, snap: Snapshot) -> bool:
        return any(isinstance(s.action, Forget) for s in plan(snap).steps)

    @pytest.mark.parametrize("heard", [101, 5000, None])
    def test_s1_an_id_that_may_live_on_a_lost_machine_is_kept_and_it_is_said(self, heard: float | None) -> None:
        snap = self.snap(heard=heard)
        assert not self.forgets(snap)
        assert any("on Kubernetes node lost" in w.message for w in plan(snap).waits)

    def test_an_id_that_was_heard_of_since_did_not_live_there(self) -> None:
        """A machine that is never cleared away must not keep the ids of all later replacements alive."""
        assert self.forgets(self.snap(heard=50))

    @pytest.mark.parametrize("host", [{"ready": True, "not_ready_since": None}, {"out_of_service": True}], ids=str)
    def test_it_is_forgotten_once_the_machine_is_back_or_known_to_be_off(self, host: dict[str, Any]) -> None:
        assert self.forgets(self.snap(heard=500, **host))

    def test_it_is_forgotten_once_the_machine_is_deleted(self) -> None:
        snap = self.snap(heard=500)
        assert self.forgets(replace(snap, hosts={n: h for n, h in snap.hosts.items() if n != "lost"}))

    def test_whose_address_another_node_has_by_now_is_gone(self) -> None:
        snap = self.snap(heard=500)
        assert self.forgets(replace(snap, foreign=tuple(replace(f, ip="10.0.0.0") for f in snap.foreign)))

    def test_s1_an_id_that_was_heard_of_a_moment_ago_is_kept(self) -> None:
        """Its pod may be newer than the list of pods."""
        calm = {"ready": True, "not_ready_since": None}
        assert not self.forgets(self.snap(heard=2.9, **calm))
        assert any("heard of a moment ago" in w.message for w in plan(self.snap(heard=2.9, **calm)).waits)
        assert self.forgets(self.snap(heard=3.0, **calm))
        near = self.snap(heard=0.5, **calm)
        assert self.forgets(replace(near, foreign=tuple(replace(f, ip="10.0.0.0") for f in near.foreign)))

    def test_s4_one_that_is_linked_again_stops_everything_and_may_be_a_leftover(self) -> None:
        snap = self.snap(heard=0)
        linked = replace(snap, foreign=tuple(replace(f, alive_since=NOW - 60) for f in snap.foreign))
        [block] = plan(linked).blocks
        assert block.reason is Reason.FOREIGN_NODE
        assert "on Kubernetes node lost" in block.message
        nowhere = replace(linked, hosts={n: h for n, h in linked.hosts.items() if h.ready})
        assert "Kubernetes node" not in plan(nowhere).blocks[0].message
