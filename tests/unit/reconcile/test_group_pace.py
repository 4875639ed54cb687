"""How many empty slots go at once."""

from cachecluster.reconcile.slot_moves import EMPTY_GROUP_BOUNDS, GroupPace


def test_groups_grow_while_they_are_quick() -> None:
    pace, seen = GroupPace(), []
    for _ in range(4):
        seen.append(pace.slots)
        pace.took(pace.slots, 0.01)
    assert seen == [128, 256, 512, 512]


def test_a_slow_engine_gets_small_groups_at_once() -> None:
    fewest, most = EMPTY_GROUP_BOUNDS
    pace = GroupPace(slots=most)
    pace.took(most, 2.0)
    assert pace.slots == most * 0.3 // 2
    pace.took(pace.slots, 2.0)
    assert pace.slots == fewest
