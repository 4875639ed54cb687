"""Which slots leave the shards that have too many, and who gets them: in few ranges, whatever they hold. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cachecluster.domain.slots import SlotSet

Shares = Mapping[int, SlotSet]
"""Slots by the index of a shard, in its order."""


@dataclass(frozen=True, slots=True)
class Task:
    """Slots that are to be shared out anew: how many each shard gives or gets is settled."""

    held: Shares
    """What every shard owns."""
    lacking: Mapping[int, int]
    """How many slots a shard is to get; below zero: to give. Together they come to nothing."""
    staying: frozenset[int]
    """Shards that are to own slots in the end."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The same slots, by the shards that give them and by those that get them."""

    given: Shares
    taken: Shares


def by_number(task: Task) -> Choice:
    """Whole ranges if possible, and next to what the takers own."""
    given = {
        shard: _spare(slots, -task.lacking[shard]) for shard, slots in task.held.items() if task.lacking[shard] < 0
    }
    return Choice(given, share_out(task, given))


def share_out(task: Task, given: Shares) -> Shares:
    """Who gets what of the slots that are given."""
    takers = _Takers(task)
    for piece in takers.beside(sorted(pair for slots in given.values() for pair in slots.ranges)):
        takers.fill(*piece)
    return {shard: SlotSet.from_ranges(ranges) for shard, ranges in sorted(takers.taken.items())}


def _spare(slots: SlotSet, count: int) -> SlotSet:
    """``count`` slots to give away: whole ranges, small ones first, then the end of the next."""
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

    def __init__(self, task: Task) -> None:
        self.need = {shard: n for shard, n in task.lacking.items() if n > 0}
        self.taken: dict[int, list[tuple[int, int]]] = {}
        self._after = {last + 1: shard for shard in self.need for _, last in task.held[shard].ranges}
        self._before = {first - 1: shard for shard in self.need for first, _ in task.held[shard].ranges}

    def _give(self, first: int, last: int, taker: int) -> None:
        self.taken.setdefault(taker, []).append((first, last))
        self.need[taker] -= last - first + 1

    def beside(self, pieces: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Give to a taker what adjoins its own ranges, as far as it needs it; yields what is left of each piece."""
        for start, end in pieces:
            first, last = start, end
            left, right = self._after.get(first), self._before.get(last)
            if left is not None and (size := min(self.need[left], last - first + 1)):
                self._give(first, first + size - 1, left)
                first += size
            if right is not None and (size := min(self.need[right], last - first + 1)):
                self._give(last - size + 1, last, right)
                last -= size
            if first <= last:
                yield first, last

    def fill(self, first: int, last: int) -> None:
        """Give a piece to the takers in turn; together they need just what there is."""
        for taker in sorted(self.need):
            if first > last:
                return
            if size := min(self.need[taker], last - first + 1):
                self._give(first, first + size - 1, taker)
                first += size
