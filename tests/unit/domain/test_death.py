"""When a primary that does not answer is replaced: what proves its death, and what does not."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain.actions import FailoverKind, Promote
from cachecluster.domain.nodes import Ending, Role
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS
from tests.unit.domain.building import Cluster, formed, gone
from tests.unit.domain.deciding import of_type, reasons


def killed(shards: int = 3, replicas: int = 1, *, seconds: float = 0.1, **replica: Any) -> Cluster:
    """The process of shard 0's primary has just ended, and everybody's kernel was told so."""
    cluster = formed(shards, replicas).with_node(0, 0, answers=False, refuses=True)
    cluster = cluster.with_end(0, 0, Ending.CLOSED, seconds)
    for ordinal in range(1, replicas + 1):
        cluster = cluster.with_node(0, ordinal, **{"up": False, "down_seconds": 0, **replica})
    return cluster


class TestProcess:
    def test_s10_connections_that_were_closed_on_two_sides_are_proof(self) -> None:
        [promote] = of_type(killed(), Promote)
        assert (promote.node.pod, promote.lost.node_id, promote.lost.address) == ("cart-0-1", "id-0-0-0", "10.0.0.0")
        assert promote.kind is FailoverKind.FORCE

    def test_s10_takeover_where_nobody_is_left_to_vote(self) -> None:
        [promote] = of_type(killed(1, 1), Promote)
        assert promote.kind is FailoverKind.TAKEOVER

    def test_takeover_where_the_votes_do_not_come(self) -> None:
        [promote] = of_type(killed(seconds=2.5, down_seconds=2), Promote)
        assert promote.kind is FailoverKind.TAKEOVER

    def test_s1_refused_alone_is_nothing(self) -> None:
        """A network policy can refuse."""
        assert not of_type(replace(killed(), lost={}), Promote)

    def test_s1_a_replica_that_hears_its_primary_vetoes(self) -> None:
        cluster = killed(up=True, down_seconds=None)
        assert not of_type(cluster, Promote)
        assert min(w.seconds for w in plan(cluster.snapshot()).waits) <= 0.05

    def test_s1_one_of_two_replicas_that_hears_it_vetoes(self) -> None:
        assert not of_type(killed(1, 2).with_node(0, 2, up=True, down_seconds=None), Promote)

    def test_s1_a_closed_connection_to_a_silent_machine_is_no_proof(self) -> None:
        assert not of_type(killed().with_node(0, 0, refuses=False), Promote)

    def test_s1_who_hung_up_on_us_and_answers_again_is_alive(self) -> None:
        """CLIENT KILL, or another ACL."""
        assert not of_type(killed().with_node(0, 0, answers=True), Promote)

    def test_s1_a_machine_that_fell_silent_is_no_dead_process(self) -> None:
        assert not of_type(killed().with_end(0, 0, Ending.TIMED_OUT), Promote)

    @pytest.mark.parametrize(("seconds", "down_seconds"), [(0.1, 60), (100.0, 1)])
    def test_s10_a_link_that_ended_at_another_time_has_another_cause(self, seconds: float, down_seconds: int) -> None:
        assert not of_type(killed(seconds=seconds, down_seconds=down_seconds), Promote)

    @pytest.mark.parametrize(("seconds", "down_seconds"), [(0.2, 1), (3.9, 0), (10.0, 11)])
    def test_whole_seconds_and_a_last_backlog_are_allowed_for(self, seconds: float, down_seconds: int) -> None:
        assert of_type(killed(seconds=seconds, down_seconds=down_seconds), Promote)

    def test_the_process_of_a_pod_that_is_gone(self) -> None:
        snap = killed().snapshot()
        views = {name: view for name, view in snap.views.items() if name != "cart-0-0"}
        gone = replace(snap, pods=snap.pods[1:], views=views)
        assert [type(s.action) for s in plan(gone).steps][:1] == [Promote]

    def test_a_silent_sibling_is_not_waited_for(self) -> None:
        [promote] = of_type(killed(1, 2).with_node(0, 1, answers=False), Promote)
        assert promote.node.pod == "cart-0-2"

    def test_s10_a_replica_that_had_lost_its_link_before_is_not_promoted(self) -> None:
        cluster = killed(1, 2, offset=90).with_node(0, 2, down_seconds=300, offset=80)
        assert [p.node.pod for p in of_type(cluster, Promote)] == ["cart-0-1"]
        only_the_stale_one = cluster.with_node(0, 1, deleting=True)
        assert not of_type(only_the_stale_one, Promote)
        assert Reason.NO_SYNCED_REPLICA in reasons(only_the_stale_one)

    def test_two_primaries_at_once_are_replaced_in_one_pass(self) -> None:
        cluster = killed().with_node(1, 0, answers=False, refuses=True).with_end(1, 0, Ending.CLOSED)
        promotions = of_type(cluster.with_node(1, 1, up=False, down_seconds=0), Promote)
        assert [(p.shard, p.kind) for p in promotions] == [(0, FailoverKind.TAKEOVER), (1, FailoverKind.TAKEOVER)]

    def test_with_enough_voters_two_of_five_are_elected(self) -> None:
        cluster = killed(5).with_node(1, 0, answers=False, refuses=True).with_end(1, 0, Ending.CLOSED)
        promotions = of_type(cluster.with_node(1, 1, up=False, down_seconds=0), Promote)
        assert {p.kind for p in promotions} == {FailoverKind.FORCE}

    def test_a_replica_that_leads_already_is_left_alone(self) -> None:
        """Elected natively."""
        cluster = killed()
        new = cluster.with_node(0, 1, role=Role.PRIMARY, follows=None, slots=cluster.nodes[0].slots, epoch=9)
        assert not of_type(new, Promote)


def silent(shards: int = 3, replicas: int = 1, *, seconds: float = 0.1, **replica: Any) -> Cluster:
    """The machine of shard 0's primary has just fallen silent; links to it seem to be up still."""
    cluster = formed(shards, replicas).with_node(0, 0, answers=False, pong_age=seconds + 2)
    for ordinal in range(1, replicas + 1):
        cluster = cluster.with_node(0, ordinal, **{"last_io": 3, **replica})
    return cluster.with_end(0, 0, Ending.TIMED_OUT, seconds)


class TestMachine:
    def test_a_machine_that_nobody_hears_is_replaced_by_votes(self) -> None:
        [promote] = of_type(silent(), Promote)
        assert (promote.node.pod, promote.kind, promote.lost.unheard) == ("cart-0-1", FailoverKind.FORCE, True)

    @pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)])
    def test_s10_silence_is_no_proof_where_nobody_can_vote(self, shape: tuple[int, int]) -> None:
        cluster = silent(*shape)
        assert not of_type(cluster, Promote)
        assert any("may go on unheard" in w.message for w in plan(cluster.snapshot()).waits)

    def test_s10_votes_that_do_not_come_are_not_done_without(self) -> None:
        [promote] = of_type(silent(seconds=100.0, last_io=103), Promote)
        assert promote.kind is FailoverKind.FORCE

    @pytest.mark.parametrize("last_io", [0, 1, None])
    def test_s1_a_replica_that_has_heard_of_it_vetoes(self, last_io: int | None) -> None:
        assert not of_type(silent(last_io=last_io), Promote)
        assert not of_type(silent(3, 2).with_node(0, 2, last_io=last_io), Promote)

    def test_a_replica_whose_link_broke_has_heard_nothing_either(self) -> None:
        assert of_type(silent(up=False, down_seconds=2), Promote)
        assert not of_type(silent(up=False, down_seconds=1), Promote)

    def test_s1_any_node_that_has_heard_of_it_since_vetoes(self) -> None:
        assert not of_type(silent(seconds=1.0).with_node(0, 0, pong_age=2.0), Promote)
        assert of_type(silent(seconds=1.0).with_node(0, 0, pong_age=2.6), Promote)

    def test_s1_a_node_that_has_not_asked_since_cannot_tell(self) -> None:
        """Its last pong came by chance before our kernel's last answer, and it would be answered if it asked."""
        snap = silent().snapshot()
        assert [s for s in plan(snap).steps if isinstance(s.action, Promote)]
        view = snap.view("cart-2-1")
        assert view is not None
        peers = tuple(replace(p, asked=False) if p.node_id == "id-0-0-0" else p for p in view.peers)
        unaware = replace(snap, views={**snap.views, "cart-2-1": replace(view, peers=peers)})
        assert not [s for s in plan(unaware).steps if isinstance(s.action, Promote)]
        nowhere = tuple(replace(p, asked=False, flags=p.flags | {"noaddr"}) for p in view.peers)
        helpless = replace(snap, views={**snap.views, "cart-2-1": replace(view, peers=nowhere)})
        assert [s for s in plan(helpless).steps if isinstance(s.action, Promote)]

    def test_s1_a_machine_that_is_back_is_asked_otherwise(self) -> None:
        assert not of_type(silent().with_node(0, 0, refuses=True), Promote)

    def test_s1_who_has_lost_most_of_the_cluster_is_cut_off_himself(self) -> None:
        cluster = silent(6)
        for shard in range(1, 6):
            cluster = cluster.with_node(shard, 1, answers=False)
        assert of_type(cluster, Promote)
        assert not of_type(cluster.with_node(5, 0, answers=False), Promote)

    def test_two_machines_at_once_with_enough_voters(self) -> None:
        cluster = silent(5).with_node(1, 0, answers=False, pong_age=3).with_node(1, 1, last_io=3)
        promotions = of_type(cluster.with_end(1, 0, Ending.TIMED_OUT), Promote)
        assert [p.shard for p in promotions] == [0, 1]

    def test_s10_too_few_voters_for_two_machines_at_once(self) -> None:
        cluster = silent(3).with_node(1, 0, answers=False, pong_age=3).with_node(1, 1, last_io=3)
        assert not of_type(cluster.with_end(1, 0, Ending.TIMED_OUT), Promote)

    def test_s10_silence_with_the_word_that_the_machine_is_off_is_proof(self) -> None:
        snap = silent(1, 1, seconds=100.0, last_io=103).snapshot()
        off = replace(snap.hosts["host-a"], out_of_service=True)
        deleted = {name: host for name, host in snap.hosts.items() if name != "host-a"}
        for hosts in ({**snap.hosts, "host-a": off}, deleted):
            [step] = [s for s in plan(replace(snap, hosts=hosts)).steps if isinstance(s.action, Promote)]
            assert isinstance(step.action, Promote)
            assert (step.action.kind, step.action.lost.host) == (FailoverKind.TAKEOVER, "host-a")

    def test_s10_that_word_does_not_count_against_a_replica_that_hears_its_primary(self) -> None:
        snap = silent(1, 1, last_io=0).snapshot()
        assert not [s for s in plan(replace(snap, hosts={})).steps if isinstance(s.action, Promote)]

    def test_that_word_is_enough_for_an_operator_that_has_never_been_connected(self) -> None:
        snap = replace(silent(1, 1).snapshot(), lost={})
        steps = plan(replace(snap, hosts={k: h for k, h in snap.hosts.items() if k != "host-a"})).steps
        assert [s.action.lost.host for s in steps if isinstance(s.action, Promote)] == ["host-a"]


def vanished(**newcomer: Any) -> Cluster:
    """Shard 1's primary has restarted as another node at another address, and is to follow its predecessor."""
    cluster = formed(2, 2)
    old = cluster.nodes[3]
    ghost = gone(old.node_id, old.slots, ip="10.9.9.9", epoch=old.epoch)
    follower = {"role": Role.REPLICA, "follows": old.node_id, "slots": NO_SLOTS, "keys": 0, "up": False, **newcomer}
    cluster = replace(cluster, ghosts=(ghost,)).with_node(1, 0, generation=1, **follower)
    return cluster.with_node(1, 1, up=False, down_seconds=60).with_node(1, 2, up=False, down_seconds=60)


class TestPodGone:
    def test_s10_a_replica_that_was_never_linked_up_holds_nobody_up(self) -> None:
        [promote] = of_type(vanished(down_seconds=-1), Promote)
        assert (promote.shard, promote.node.pod, promote.lost.cause) == (1, "cart-1-1", FailoverCause.POD_GONE)

    @pytest.mark.parametrize(
        "link", [{"down_seconds": 9}, {"down_seconds": -1, "syncing": True}, {"up": True}], ids=str
    )
    def test_s1_one_that_was_or_is_about_to_be_does(self, link: dict[str, Any]) -> None:
        assert not of_type(vanished(**link), Promote)
