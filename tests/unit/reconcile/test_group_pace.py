"""How many empty slots go at once."""

from cachecluster.reconcile.slot_moves import EMPTY_GROUP, GROUP, GroupPace


def test_groups_grow_while_they_are_quick() -> None:
    pace, seen = GroupPace(), []
    for _ in range(6):
        seen.append(pace.slots)
        pace.took(pace.slots, 0.01)
    assert seen == [32, 64, 128, 256, 512, EMPTY_GROUP]


def test_a_slow_engine_gets_small_groups_at_once() -> None:
    pace = GroupPace(slots=EMPTY_GROUP)
    pace.took(EMPTY_GROUP, 2.0)
    assert pace.slots == 51
    pace.took(51, 2.0)
    assert pace.slots == GROUP
