"""Which slots move from which shard to which: every slot at most once, straight to its final owner. Pure.

Who carries a move out, and in which steps, is `reconcile/slot_moves.py`; what to do about moves that were interrupted
is `open_slots.py`. Those come first: plan only while no slot is open.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from cachecluster.domain.slots import NO_SLOTS, SlotSet


@dataclass(frozen=True, slots=True)
class Move:
    """Slots that go from one shard to another."""

    slots: SlotSet
    source: int
    """Index of the shard that owns them."""
    destination: int
    """Index of the shard that keeps them."""


def plan_moves(owned: Mapping[int, SlotSet], staying: Collection[int]) -> tuple[Move, ...]:
    """The moves after which the shards of ``staying`` own everything, evened out to within one slot.

    No other plan moves fewer slots, and none is empty unless there is nothing to do. The plan depends on who owns
    what alone. Planned again after any part of it was done, the rest leads to an end of the same kind, and no slot
    that has moved moves again: a shard that gives never becomes one that takes, nor the other way round.

    Args:
        owned: slots by shard index, disjoint; shards that own nothing may be left out.
        staying: shards that are to own slots; each other shard gives all of its own away.

    Raises:
        ValueError: there are slots, and no shard stays.
    """
    held = {shard: owned.get(shard, NO_SLOTS) for shard in sorted({*owned, *staying})}
    if not staying and any(held.values()):
        raise ValueError("no shard is left to take the slots")
    target = _targets({shard: len(slots) for shard, slots in held.items()}, staying)
    pieces = [
        (first, last, shard)
        for shard, slots in held.items()
        for first, last in _spare(slots, len(slots) - target.get(shard, 0)).ranges
    ]
    takers = _Takers(held, {shard: target.get(shard, 0) - len(slots) for shard, slots in held.items()})
    for piece in takers.beside(sorted(pieces)):
        takers.fill(*piece)
    return tuple(
        Move(SlotSet.from_ranges(ranges), source, destination)
        for (source, destination), ranges in sorted(takers.moves.items())
    )


def _targets(sizes: Mapping[int, int], staying: Collection[int]) -> dict[int, int]:
    """How many slots each staying shard ends with. Where they do not divide evenly, the largest keep one more: each of
    them then gives one slot less, and one that has taken its last slot never has to give it back.
    """
    if not staying:
        return {}
    each, extra = divmod(sum(sizes.values()), len(set(staying)))
    order = sorted(set(staying), key=lambda shard: (-sizes[shard], shard))
    return {shard: each + (rank < extra) for rank, shard in enumerate(order)}


def _spare(slots: SlotSet, count: int) -> SlotSet:
    """``count`` slots to give away (none if negative): whole ranges, small ones first, then the end of the next."""
    given: list[tuple[int, int]] = []
    for first, last in sorted(slots.ranges, key=lambda r: (r[1] - r[0], r)):
        if count <= 0:
            break
        size = min(count, last - first + 1)
        given.append((last - size + 1, last))
        count -= size
    return SlotSet.from_ranges(given)


class _Takers:
    """Shards that need slots, and what they have been given."""

    def __init__(self, held: Mapping[int, SlotSet], need: Mapping[int, int]) -> None:
        self.need = {shard: n for shard, n in need.items() if n > 0}
        self.moves: dict[tuple[int, int], list[tuple[int, int]]] = {}
        self._after = {last + 1: shard for shard in self.need for _, last in held[shard].ranges}
        self._before = {first - 1: shard for shard in self.need for first, _ in held[shard].ranges}

    def _give(self, first: int, last: int, source: int, taker: int) -> None:
        self.moves.setdefault((source, taker), []).append((first, last))
        self.need[taker] -= last - first + 1

    def beside(self, pieces: list[tuple[int, int, int]]) -> Iterator[tuple[int, int, int]]:
        """Give to a taker what adjoins its own ranges, as far as it needs it; yields what is left of each piece."""
        for start, end, source in pieces:
            first, last = start, end
            left, right = self._after.get(first), self._before.get(last)
            if left is not None and (size := min(self.need[left], last - first + 1)):
                self._give(first, first + size - 1, source, left)
                first += size
            if right is not None and (size := min(self.need[right], last - first + 1)):
                self._give(last - size + 1, last, source, right)
                last -= size
            if first <= last:
                yield first, last, source

    def fill(self, first: int, last: int, source: int) -> None:
        """Give a piece to the takers in turn; together they need just what there is."""
        for taker in sorted(self.need):
            if first > last:
                return
            if size := min(self.need[taker], last - first + 1):
                self._give(first, first + size - 1, source, taker)
                first += size
