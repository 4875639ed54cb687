"""The algebra of slot sets agrees with sets of integers."""

from hypothesis import given
from hypothesis import strategies as st

from cachecluster.domain.slots import ALL_SLOTS, SLOT_COUNT, SlotSet, share

slots = st.integers(0, SLOT_COUNT - 1)
near = st.integers(0, 40)
sets = st.one_of(st.sets(near), st.sets(slots, max_size=30))


@given(sets, sets)
def test_operations_are_those_of_sets(a: set[int], b: set[int]) -> None:
    left, right = SlotSet.of(a), SlotSet.of(b)
    for found, expected in ((left | right, a | b), (left & right, a & b), (left - right, a - b)):
        assert set(found) == expected
        assert found == SlotSet.of(expected)  # in its one form, however it was made
    assert len(left) == len(a)
    assert all(s in left for s in a)


@given(st.sets(slots, min_size=20, max_size=60), st.sets(slots, max_size=3), st.sets(slots, max_size=3))
def test_sets_that_differ_in_a_few_slots(base: set[int], more: set[int], fewer: set[int]) -> None:
    a, b = base | more, base - fewer
    left, right = SlotSet.of(a), SlotSet.of(b)
    for found, expected in ((left - right, a - b), (right - left, b - a), (left & right, a & b), (left | right, a | b)):
        assert found == SlotSet.of(expected)


@given(sets)
def test_equal_sets_are_equal_values(a: set[int]) -> None:
    assert SlotSet.of(a) == SlotSet.of(sorted(a, reverse=True))
    assert SlotSet.parse(str(SlotSet.of(a))) == SlotSet.of(a)


@given(st.integers(1, 500))
def test_shares_cover_everything_once_and_evenly(shards: int) -> None:
    parts = share(shards)
    assert sum(len(p) for p in parts) == SLOT_COUNT
    whole = SlotSet.from_ranges(r for p in parts for r in p.ranges)
    assert whole == ALL_SLOTS
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
