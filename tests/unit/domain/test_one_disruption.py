"""What may follow a disruptive step in one plan."""

from cachecluster.api.reasons import FailoverCause, Reason
from cachecluster.domain.actions import Action, FailoverKind, Forget, MoveSlots, Promote, SwitchOver, Target
from cachecluster.domain.loss import Lost
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.plan import Do
from cachecluster.domain.planner import _one_disruption
from cachecluster.domain.slots import SlotSet

A, B = (Target(f"pod-{i}", f"uid-{i}", f"10.0.0.{i}", NodeId(f"id-{i}"), 0) for i in range(2))
QUIET = Forget(NodeId("gone"), (A, B))
SWITCH = SwitchOver(0, A, B)
MOVES = [MoveSlots(SlotSet.of([slot]), A, B, (), ()) for slot in range(3)]


def kept(*actions: Action) -> list[Action]:
    return [s.action for s in _one_disruption([Do(a, Reason.CLUSTER_READY, "") for a in actions])]


def loss(node_id: str) -> Lost:
    return Lost(NodeId(node_id), FailoverCause.PROCESS_ENDED, "it is dead")


def test_nothing_follows_a_disruptive_step() -> None:
    assert kept(QUIET, SWITCH, QUIET, *MOVES) == [QUIET, SWITCH]


def test_moves_of_slots_go_side_by_side_and_nothing_follows_them() -> None:
    assert kept(QUIET, *MOVES, QUIET, SWITCH) == [QUIET, *MOVES]
    assert kept(*MOVES[:2], SWITCH, MOVES[2]) == MOVES[:2]


def test_shards_that_have_lost_their_primaries_get_new_ones_in_one_pass() -> None:
    promotions = [Promote(s, A, FailoverKind.FORCE, loss(f"lost-{s}")) for s in range(3)]
    assert kept(QUIET, *promotions, SWITCH, *MOVES) == [QUIET, *promotions]
