"""What the planner decides when the number of shards changes, and what the status says of it."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.reasons import Reason
from cachecluster.api.status import Resharding
from cachecluster.domain.actions import Delete, Forget, Meet, MoveSlots, Release, Replicate, Reset, RollPod
from cachecluster.domain.nodes import Role
from cachecluster.domain.planner import plan
from cachecluster.domain.progress import resharding_news
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import Container, ContainerState, ObjectKey, Snapshot
from cachecluster.domain.status import derive
from tests.unit.domain.building import NOW, Cluster, Node, formed, spec_of
from tests.unit.domain.deciding import actions, of_type, reasons

HALVES = share(2)


def waiting(reason: str) -> Container:
    """A container that has not started yet."""
    return Container(ContainerState.WAITING, reason, "", 0, None, "", None)


GIB = 2**30


def growing(*new: Node) -> Cluster:
    """Two shards with a replica each, and the spec asks for three."""
    old = formed(2)
    recorded = {0: HALVES[0], 1: HALVES[1], 2: NO_SLOTS}
    return replace(old, nodes=(*old.nodes, *new), spec=spec_of(3), recorded=recorded)


def joined() -> Cluster:
    """The third shard's nodes are members, and one leads."""
    return growing(Node(2, 0, zone="c"), Node(2, 1, Role.REPLICA, follows="id-2-0-0", zone="a"))


def shrinking(gone: int = 1, **more: Any) -> Cluster:
    """Three shards, and the spec asks for fewer."""
    old = formed(3, **more)
    left = 3 - gone
    return replace(
        old, spec=spec_of(left, **more), present=dict.fromkeys(range(3), 2), recorded=dict(enumerate(share(3)))
    )


def drained(cluster: Cluster) -> Cluster:
    """Shard 2 has given everything away."""
    empty = cluster.with_node(2, 0, slots=NO_SLOTS, keys=0).with_node(2, 1, keys=0)
    full = empty.with_node(0, 0, slots=HALVES[0], epoch=11).with_node(1, 0, slots=HALVES[1], epoch=12)
    return replace(full, recorded={0: HALVES[0], 1: HALVES[1], 2: NO_SLOTS})


class TestNewShard:
    def test_one_of_its_nodes_is_opened_to_lead_it(self) -> None:
        cluster = growing(Node(2, 0, zone="b", quarantined=True), Node(2, 1, zone="c", quarantined=True))
        assert [a.node.pod for a in of_type(cluster, Release)] == ["cart-2-1"]  # zones a and b have a primary each
        assert not of_type(cluster, MoveSlots)

    def test_the_others_follow_it(self) -> None:
        cluster = growing(Node(2, 0, zone="c"), Node(2, 1, zone="a", quarantined=True))
        assert [(a.node.pod, a.primary.pod) for a in of_type(cluster, Replicate)] == [("cart-2-1", "cart-2-0")]

    def test_slots_come_from_every_shard_that_has_too_many(self) -> None:
        moves = of_type(joined(), MoveSlots)
        assert [(m.source.pod, m.destination.pod) for m in moves] == [
            ("cart-0-0", "cart-2-0"),
            ("cart-1-0", "cart-2-0"),
        ]
        assert sum(len(m.slots) for m in moves) == 5461
        assert {t.pod for t in moves[0].others} == {"cart-1-0"}
        assert [t.pod for t in moves[0].replicas] == ["cart-2-1"]

    def test_what_slots_hold_decides_which_of_them_go(self) -> None:
        """The last two slots of shard 0 hold nearly all that there is: one of them stays, and another one goes."""
        full = {8190, 8191}
        found = plan(replace(joined().snapshot(), slot_bytes=dict.fromkeys(full, GIB)))
        by_number, moves = (
            [a for a in some if isinstance(a, MoveSlots)]
            for some in (actions(joined()), [s.action for s in found.steps])
        )
        assert sum(len(m.slots) for m in moves) == 5461
        assert [len(full & set(m.slots)) for m in by_number] == [2, 0]
        assert [len(full & set(m.slots)) for m in moves] == [1, 0]

    @pytest.mark.parametrize(
        ("shard", "changes"),
        [(2, {"up": False, "down_seconds": 1}), (0, {"answers": False}), (1, {"deleting": True})],
        ids=str,
    )
    def test_s7_nothing_moves_while_a_node_is_not_in_step(self, shard: int, changes: dict[str, Any]) -> None:
        cluster = joined().with_node(shard, 1, **changes)
        assert not of_type(cluster, MoveSlots)
        assert Reason.MOVING_SLOTS in reasons(cluster)

    def test_no_pod_is_rolled_meanwhile(self) -> None:
        cluster = replace(joined(), template="t2", update="rev-t2")
        assert of_type(cluster, MoveSlots)
        assert not of_type(cluster, RollPod)

    def test_a_shard_without_slots_is_no_degradation(self) -> None:
        snap = joined().with_node(2, 1, up=False, down_seconds=1).snapshot()
        conditions = {c.type.value: c.status for c in derive(snap, plan(snap)).conditions}
        assert (conditions["Degraded"], conditions["Ready"]) == ("False", "True")


class TestShardThatIsToGo:
    def test_slots_go_straight_to_their_final_owners(self) -> None:
        moves = of_type(shrinking(), MoveSlots)
        assert {m.source.pod for m in moves} == {"cart-2-0"}
        assert {m.destination.pod for m in moves} <= {"cart-0-0", "cart-1-0"}

    def test_s6_data_that_does_not_fit_stays(self) -> None:
        snap = shrinking(2).snapshot()
        views = {p: replace(v, used_memory=GIB // 2, max_memory=GIB) for p, v in known(snap).items()}
        found = plan(replace(snap, views=views))
        [block] = [b for b in found.blocks if b.reason is Reason.INSUFFICIENT_MEMORY]
        assert "shard 0 would hold about 1536 MiB of at most 1024 once shards 1, 2 are gone" in block.message
        assert not [s for s in found.steps if isinstance(s.action, MoveSlots)]

    def test_s6_what_the_slots_hold_counts_and_not_their_number(self) -> None:
        """Half of shard 2's memory is more than either of the others has room for, if it comes at one stroke."""
        snap = shrinking().snapshot()
        views = {p: replace(v, used_memory=GIB // 2, max_memory=GIB) for p, v in known(snap).items()}
        one_slot = {share(3)[2].ranges[0][0]: GIB // 2}
        assert not plan(replace(snap, views=views)).blocks
        [block] = plan(replace(snap, views=views, slot_bytes=one_slot)).blocks
        assert block.reason is Reason.INSUFFICIENT_MEMORY
        assert "would hold about 1024 MiB of at most 1024 once shards 2 are gone" in block.message

    def test_its_nodes_leave_once_it_is_empty_replicas_first(self) -> None:
        assert [a.node.pod for a in of_type(drained(shrinking()), Reset)] == ["cart-2-1", "cart-2-0"]
        assert not of_type(drained(shrinking()), Delete)

    def test_a_node_that_restarts_before_it_is_empty_joins_it_again(self) -> None:
        """Slots move only between whole shards: one that was taken for a leaver would hold them up for ever."""
        restarted = {"role": Role.PRIMARY, "follows": None, "hidden": True, "keys": 0}
        snap = shrinking().with_node(2, 1, **restarted).snapshot()
        alone = known(snap)["cart-2-1"]
        views = {**snap.views, "cart-2-1": replace(alone, peers=(alone.myself,))}
        [meeting] = [s.action for s in plan(replace(snap, views=views)).steps if isinstance(s.action, Meet)]
        assert all(alone.node_id in pair for pair in meeting.pairs)

    def test_s3_a_node_that_holds_keys_is_not_asked_to_leave(self) -> None:
        cluster = drained(shrinking()).with_node(2, 0, slots=SlotSet.of([0]), keys=3, epoch=20)
        assert not of_type(cluster, Reset)

    def test_s6_pods_go_last(self) -> None:
        """Reset and forgotten by everybody: only then the StatefulSet goes."""
        snap = drained(shrinking()).snapshot()
        views = {}
        for pod, view in known(snap).items():
            own = pod.startswith("cart-2-")
            peers = (view.myself,) if own else tuple(p for p in view.peers if not p.node_id.startswith("id-2-"))
            views[pod] = replace(view, peers=peers, role=Role.PRIMARY if own else view.role)
        found = plan(replace(snap, views=views))
        assert [s.action.key for s in found.steps if isinstance(s.action, Delete)] == [
            ObjectKey("StatefulSet", "cart-2")
        ]
        assert not [s for s in found.steps if isinstance(s.action, (Meet, Forget))]

    def test_s1_it_stays_while_one_of_its_nodes_does_not_answer(self) -> None:
        cluster = drained(shrinking()).with_node(2, 1, answers=False)
        assert not of_type(cluster, Reset)
        assert not of_type(cluster, Delete)

    @pytest.mark.parametrize("container", [waiting("ContainerCreating"), waiting("ImagePullBackOff"), None], ids=str)
    def test_it_goes_at_once_if_none_of_its_pods_has_ever_come_up(self, container: Container | None) -> None:
        pods = (Node(2, 0, answers=False), Node(2, 1, answers=False))
        snap = replace(growing(*pods), spec=spec_of(2), present=dict.fromkeys(range(3), 2), strangers=False).snapshot()
        views = {
            pod: replace(view, peers=tuple(p for p in view.peers if not p.node_id.startswith("id-2-")))
            for pod, view in known(snap).items()
        }
        changed = tuple(
            replace(p, container=container, phase="Pending", ready=False) if p.shard == 2 else p for p in snap.pods
        )
        found = plan(replace(snap, views=views, pods=changed))
        assert [s.action.key for s in found.steps if isinstance(s.action, Delete)] == [
            ObjectKey("StatefulSet", "cart-2")
        ]

    def test_s1_it_stays_while_one_that_ran_once_does_not_answer(self) -> None:
        ended = replace(waiting("CrashLoopBackOff"), restarts=1, last_termination="Error, exit code 1")
        cluster = drained(shrinking()).with_node(2, 1, answers=False, container=ended)
        assert not of_type(cluster, Delete)


def known(snap: Snapshot) -> dict[str, Any]:
    return {pod: view for pod in snap.views if (view := snap.view(pod)) is not None}


class TestProgress:
    def status(self, cluster: Cluster, written: dict[str, Any] | None, *, at: float = NOW, keys: int = 0) -> Any:
        snap = replace(cluster.snapshot(), now=at, status={"resharding": written} if written else {})
        return derive(snap, plan(snap), keys_moved=keys)

    def test_it_begins_with_what_is_to_move(self) -> None:
        found = self.status(joined(), None).resharding
        assert (found.slots, found.slots_moved, found.progress_percent, found.to) == (5461, 0, 0, 3)
        assert found.model_dump(by_alias=True)["from"] == 2

    def test_it_is_written_every_ten_seconds_at_most(self) -> None:
        first = self.status(joined(), None).resharding.model_dump(by_alias=True, mode="json", exclude_none=True)
        half = moved(joined())
        assert self.status(half, first, at=NOW + 9, keys=70).resharding == Resharding.model_validate(first)
        later = self.status(half, first, at=NOW + 12, keys=70).resharding
        assert (later.slots_moved, later.keys_moved, later.progress_percent) == (2731, 70, 50)
        assert (later.elapsed_seconds, later.eta_seconds) == (12, 11)

    def test_it_goes_when_nothing_is_left(self) -> None:
        first = self.status(joined(), None).resharding.model_dump(by_alias=True, mode="json", exclude_none=True)
        assert self.status(formed(3), first, at=NOW + 60).resharding is None

    def test_the_scale_subresource_counts_shards_with_slots(self) -> None:
        status = self.status(joined(), None)
        assert status.replicas == 2
        assert status.selector == "cachecluster.dev/cluster=cart,cachecluster.dev/role=primary"

    def test_news_are_the_start_the_quarters_and_the_end(self) -> None:
        facts = {"from": 2, "to": 3, "slots": 100, "slots_moved": 0, "keys_moved": 0, "progress_percent": 0}
        first = Resharding.model_validate({**facts, "started_at": "2026-01-01T00:00:00Z"})
        steps = [first.model_copy(update={"progress_percent": p, "slots_moved": p}) for p in (10, 30, 40, 80)]
        heard = [resharding_news(a, b) for a, b in zip([None, first, *steps], [first, *steps, None], strict=True)]
        assert heard == [
            "resharding from 2 shards to 3 shards: 100 slots are to move",
            None,
            "resharding to 3 shards: 30 % done, 30 of 100 slots, 0 keys",
            None,
            "resharding to 3 shards: 80 % done, 80 of 100 slots, 0 keys",
            "resharding to 3 shards is done",
        ]


def moved(cluster: Cluster) -> Cluster:
    """Half of the new shard's slots have come, all from shard 0."""
    came = SlotSet.from_ranges([(8192 - 2731, 8191)])
    return cluster.with_node(0, 0, slots=HALVES[0] - came).with_node(2, 0, slots=came, epoch=30)
