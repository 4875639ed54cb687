"""Plans of slot moves: complete, balanced, minimal, and the same wherever an earlier one was interrupted; and where it
is known what the slots hold, no heavier shard in the end than without that.
"""

from collections.abc import Mapping
from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachecluster.domain.resharding import Move, plan_moves
from cachecluster.domain.slots import NO_SLOTS, SLOT_COUNT, SlotSet, share, union

Owned = dict[int, SlotSet]
MIB = 2**20


@st.composite
def layouts(draw: st.DrawFn, slots: int = 40, shards: int = 6) -> tuple[Owned, frozenset[int]]:
    """Some slots over some shards, in runs as real clusters have them, and the shards that stay."""
    count = draw(st.integers(1, slots))
    runs = draw(st.lists(st.integers(1, count), max_size=12))
    bounds = sorted({0, count, *runs})
    owned: dict[int, list[tuple[int, int]]] = {}
    for first, end in pairwise(bounds):
        owned.setdefault(draw(st.integers(0, shards - 1)), []).append((first, end - 1))
    staying = draw(st.frozensets(st.integers(0, shards - 1), min_size=1))
    return {shard: SlotSet.from_ranges(ranges) for shard, ranges in owned.items()}, staying


@st.composite
def weighed_layouts(draw: st.DrawFn, slots: int = 40, shards: int = 6) -> tuple[Owned, frozenset[int], dict[int, int]]:
    """The same with what each slot holds: nothing, about the same, or far more than others."""
    owned, staying = draw(layouts(slots, shards))
    return owned, staying, draw(contents(owned))


def contents(owned: Mapping[int, SlotSet]) -> st.SearchStrategy[dict[int, int]]:
    """Bytes of some of the slots. They count from a MiB on."""
    size = st.one_of(st.integers(1, 3), st.integers(1, 100)).map(lambda n: n * MIB)
    return st.dictionaries(st.sampled_from(sorted(union(owned.values()))), size)


def after(owned: Mapping[int, SlotSet], moves: tuple[Move, ...]) -> Owned:
    """Who owns what once the moves are done; each slot comes from the shard that has it."""
    result = dict(owned)
    for move in moves:
        assert not move.slots - result.get(move.source, NO_SLOTS)
        result[move.source] -= move.slots
        result[move.destination] = result.get(move.destination, NO_SLOTS) | move.slots
    return result


def heaviest(owned: Mapping[int, SlotSet], staying: frozenset[int], slot_bytes: Mapping[int, int]) -> int:
    """Bytes of the shard that holds most."""
    return max(sum(slot_bytes.get(slot, 0) for slot in owned.get(shard, NO_SLOTS)) for shard in staying)


def amount(moves: tuple[Move, ...]) -> int:
    return sum(len(m.slots) for m in moves)


def is_settled(owned: Mapping[int, SlotSet], staying: frozenset[int]) -> bool:
    sizes = [len(owned.get(s, NO_SLOTS)) for s in staying]
    return max(sizes) - min(sizes) <= 1 and not any(slots for s, slots in owned.items() if s not in staying)


@given(layouts())
def test_a_plan_settles_everything_in_one_go(layout: tuple[Owned, frozenset[int]]) -> None:
    owned, staying = layout
    moves = plan_moves(owned, staying)
    assert is_settled(after(owned, moves), staying)
    assert all(m.source != m.destination and m.slots and m.destination in staying for m in moves)
    assert len({(m.source, m.destination) for m in moves}) == len(moves)


@given(layouts())
def test_the_order_in_which_shards_are_named_does_not_matter(layout: tuple[Owned, frozenset[int]]) -> None:
    owned, staying = layout
    turned = dict(reversed(owned.items()))
    assert plan_moves(owned, sorted(staying)) == plan_moves(turned, sorted(staying, reverse=True))


@given(layouts())
def test_what_is_settled_stays(layout: tuple[Owned, frozenset[int]]) -> None:
    owned, staying = layout
    assert (plan_moves(owned, staying) == ()) == is_settled(owned, staying)


@given(layouts(slots=7, shards=4))
def test_no_plan_moves_fewer_slots(layout: tuple[Owned, frozenset[int]]) -> None:
    owned, staying = layout
    holder = {slot: shard for shard, slots in owned.items() for slot in slots}
    least = min(
        sum(holder[slot] != shard for slot, shard in enumerate(ends))
        for ends in product(sorted(staying), repeat=len(holder))
        if max(ends.count(s) for s in staying) - min(ends.count(s) for s in staying) <= 1
    )
    assert amount(plan_moves(owned, staying)) == least


@given(layouts(), st.data())
def test_an_interrupted_plan_is_continued_and_nothing_moves_twice(
    layout: tuple[Owned, frozenset[int]], data: st.DataObject
) -> None:
    owned, staying = layout
    least = amount(plan_moves(owned, staying))
    moved: list[int] = []
    while moves := plan_moves(owned, staying):
        pending = [(slot, m) for m in moves for slot in m.slots]
        done = data.draw(st.lists(st.sampled_from(pending), min_size=1, unique_by=lambda p: p[0]))
        owned = after(owned, tuple(Move(SlotSet.of([slot]), m.source, m.destination) for slot, m in done))
        moved += [slot for slot, _ in done]
    assert is_settled(owned, staying)
    assert len(moved) == len(set(moved)) == least


@given(weighed_layouts())
def test_what_slots_hold_does_not_change_how_many_move(layout: tuple[Owned, frozenset[int], dict[int, int]]) -> None:
    owned, staying, slot_bytes = layout
    moves, plain = plan_moves(owned, staying, slot_bytes), plan_moves(owned, staying)
    assert is_settled(after(owned, moves), staying)
    assert amount(moves) == amount(plain)
    assert {s: len(slots) for s, slots in after(owned, moves).items()} == {
        s: len(slots) for s, slots in after(owned, plain).items()
    }


@given(weighed_layouts())
def test_no_shard_gets_heavier_than_if_nobody_had_looked(layout: tuple[Owned, frozenset[int], dict[int, int]]) -> None:
    owned, staying, slot_bytes = layout
    moves, plain = plan_moves(owned, staying, slot_bytes), plan_moves(owned, staying)
    assert heaviest(after(owned, moves), staying, slot_bytes) <= heaviest(after(owned, plain), staying, slot_bytes)


@given(layouts(slots=400), st.integers(0, 50))
def test_slots_that_hold_the_same_are_chosen_by_their_number(layout: tuple[Owned, frozenset[int]], each: int) -> None:
    owned, staying = layout
    alike = dict.fromkeys(union(owned.values()), each * MIB)
    assert plan_moves(owned, staying, alike) == plan_moves(owned, staying, {}) == plan_moves(owned, staying)


@given(weighed_layouts(slots=7, shards=4))
def test_the_heaviest_shard_is_at_most_a_slot_heavier_than_in_the_best_of_all_plans(
    layout: tuple[Owned, frozenset[int], dict[int, int]],
) -> None:
    owned, staying, slot_bytes = layout
    holder = {slot: shard for shard, slots in owned.items() for slot in slots}
    moves = plan_moves(owned, staying, slot_bytes)
    best = min(
        heaviest(
            {s: SlotSet.of(slot for slot, end in enumerate(ends) if end == s) for s in staying}, staying, slot_bytes
        )
        for ends in product(sorted(staying), repeat=len(holder))
        if max(ends.count(s) for s in staying) - min(ends.count(s) for s in staying) <= 1
        and sum(holder[slot] != shard for slot, shard in enumerate(ends)) == amount(moves)
    )
    assert heaviest(after(owned, moves), staying, slot_bytes) <= best + max(slot_bytes.values(), default=0)


@given(weighed_layouts(), st.data(), st.booleans())
def test_an_interrupted_plan_is_continued_whatever_the_slots_hold_by_then(
    layout: tuple[Owned, frozenset[int], dict[int, int]], data: st.DataObject, changing: bool
) -> None:
    owned, staying, slot_bytes = layout
    least = amount(plan_moves(owned, staying))
    moved: list[int] = []
    while moves := plan_moves(owned, staying, slot_bytes):
        pending = [(slot, m) for m in moves for slot in m.slots]
        done = data.draw(st.lists(st.sampled_from(pending), min_size=1, unique_by=lambda p: p[0]))
        owned = after(owned, tuple(Move(SlotSet.of([slot]), m.source, m.destination) for slot, m in done))
        moved += [slot for slot, _ in done]
        if changing:
            slot_bytes = data.draw(contents(owned))
    assert is_settled(owned, staying)
    assert len(moved) == len(set(moved)) == least


@given(weighed_layouts(slots=400), st.integers(1, 6))
def test_a_choice_by_weight_costs_few_more_ranges(
    layout: tuple[Owned, frozenset[int], dict[int, int]], takers: int
) -> None:
    owned, staying, slot_bytes = layout
    staying |= frozenset(range(6, 6 + takers))
    moves, plain = plan_moves(owned, staying, slot_bytes), plan_moves(owned, staying)
    ranges = [sum(len(slots.ranges) for slots in after(owned, m).values()) for m in (moves, plain)]
    assert ranges[0] <= ranges[1] + 2 * len({*owned, *staying})


@given(layouts(slots=400), st.integers(1, 6))
def test_ranges_stay_few(layout: tuple[Owned, frozenset[int]], takers: int) -> None:
    owned, _ = layout
    staying = frozenset(range(6, 6 + takers))
    moves = plan_moves(owned, staying)
    pieces = sum(len(slots.ranges) for slots in owned.values())
    assert sum(len(m.slots.ranges) for m in moves) <= pieces + takers - 1


@pytest.mark.parametrize(("before", "now"), [(3, 4), (1, 6), (4, 3), (6, 1), (10, 11), (500, 499)])
def test_scaling_shares_all_slots_and_keeps_ranges_whole(before: int, now: int) -> None:
    owned = dict(enumerate(share(before)))
    moves = plan_moves(owned, range(now))
    assert is_settled(after(owned, moves), frozenset(range(now)))
    assert amount(moves) <= SLOT_COUNT * abs(now - before) // max(now, before) + max(now, before)
    assert all(len(m.slots.ranges) <= 2 for m in moves)


def test_a_shard_that_leaves_gives_back_where_it_took() -> None:
    owned = dict(enumerate(share(4)))
    grown = after(owned, plan_moves(owned, range(8)))
    assert after(grown, plan_moves(grown, range(4))) == {**owned, **dict.fromkeys(range(4, 8), NO_SLOTS)}


def test_what_cannot_be_evened_out_is_not_carried_about() -> None:
    """Half of everything is in one slot: whoever gets that holds too much, so it stays where it is."""
    owned = dict(enumerate(share(2)))
    slot_bytes = {**dict.fromkeys(range(SLOT_COUNT), 100_000), 4000: 100_000 * SLOT_COUNT}
    assert plan_moves(owned, range(3), slot_bytes) == plan_moves(owned, range(3))


def test_slots_that_hold_much_are_spread() -> None:
    """Ten full slots, of which seven are at the end of the first shard: what goes first if only the number counts."""
    owned = dict(enumerate(share(2)))
    slot_bytes = dict.fromkeys((*range(8185, 8192), 100, 9000, 16000), 100 * MIB)
    ends = [
        sorted(sum(slot_bytes.get(slot, 0) // (100 * MIB) for slot in slots) for slots in after(owned, moves).values())
        for moves in (plan_moves(owned, range(3)), plan_moves(owned, range(3), slot_bytes))
    ]
    assert ends == [[1, 1, 8], [2, 4, 4]]


def test_somebody_has_to_stay() -> None:
    assert plan_moves({}, ()) == ()
    with pytest.raises(ValueError, match="no shard is left"):
        plan_moves({0: SlotSet.of([1])}, ())
