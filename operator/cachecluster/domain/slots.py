"""Sets of hash slots as sorted ranges, and how slots are shared out over shards."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

SLOT_COUNT: Final = 16384
"""Number of hash slots (Valkey cluster specification, "Key distribution model")."""


@dataclass(frozen=True, slots=True)
class SlotSet:
    """An immutable set of slots, kept as sorted, disjoint, non-adjacent inclusive ranges."""

    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, slots: Iterable[int]) -> Self:
        """Build from single slots; raises ValueError outside 0..16383."""
        return cls.from_ranges((s, s) for s in slots)

    @classmethod
    def from_ranges(cls, ranges: Iterable[tuple[int, int]]) -> Self:
        """Build from inclusive ranges in any order, overlapping or not; raises ValueError outside 0..16383."""
        merged: list[tuple[int, int]] = []
        for first, last in sorted(ranges):
            if not 0 <= first <= last < SLOT_COUNT:
                raise ValueError(f"slot range {first}-{last} is outside 0-{SLOT_COUNT - 1}")
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(merged[-1][1], last))
            else:
                merged.append((first, last))
        return cls(tuple(merged))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"0-5460,5462"``, the form of ``str()``; raises ValueError."""
        parts = [p for p in text.replace(" ", ",").split(",") if p]
        return cls.from_ranges((int(a), int(b or a)) for a, _, b in (p.partition("-") for p in parts))

    def __str__(self) -> str:
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ranges)

    def __bool__(self) -> bool:
        return bool(self.ranges)

    def __len__(self) -> int:
        return sum(b - a + 1 for a, b in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for a, b in self.ranges:
            yield from range(a, b + 1)

    def __contains__(self, slot: int) -> bool:
        at = bisect_right(self.ranges, (slot, SLOT_COUNT)) - 1
        return at >= 0 and slot <= self.ranges[at][1]

    def __or__(self, other: "SlotSet") -> "SlotSet":
        if not other.ranges or not self.ranges:
            return self if self.ranges else other
        return SlotSet.from_ranges((*self.ranges, *other.ranges))

    def __and__(self, other: "SlotSet") -> "SlotSet":
        if self._is_apart_from(other):
            return NO_SLOTS
        # Parts of disjoint ranges with gaps between them, in order: there is nothing to sort or to merge.
        both: list[tuple[int, int]] = []
        i = j = 0
        while i < len(self.ranges) and j < len(other.ranges):
            (a, b), (c, d) = self.ranges[i], other.ranges[j]
            if a <= d and c <= b:
                both.append((max(a, c), min(b, d)))
            if b < d:
                i += 1
            else:
                j += 1
        return SlotSet(tuple(both))

    def __sub__(self, other: "SlotSet") -> "SlotSet":
        if self._is_apart_from(other):
            return self
        kept: list[tuple[int, int]] = []
        j = 0
        for a, b in self.ranges:
            start = a
            while j < len(other.ranges) and other.ranges[j][1] < start:
                j += 1
            at = j
            while at < len(other.ranges) and other.ranges[at][0] <= b:
                c, d = other.ranges[at]
                if c > start:
                    kept.append((start, c - 1))
                start = d + 1
                at += 1
            if start <= b:
                kept.append((start, b))
        return SlotSet(tuple(kept))

    def _is_apart_from(self, other: "SlotSet") -> bool:
        """One of them is empty, or ends before the other begins."""
        ours, theirs = self.ranges, other.ranges
        return not ours or not theirs or ours[-1][1] < theirs[0][0] or theirs[-1][1] < ours[0][0]


ALL_SLOTS: Final = SlotSet(((0, SLOT_COUNT - 1),))
NO_SLOTS: Final = SlotSet()


def union(sets: Iterable[SlotSet]) -> SlotSet:
    """All slots of all the sets."""
    return SlotSet.from_ranges(pair for slots in sets for pair in slots.ranges)


def share(shards: int) -> tuple[SlotSet, ...]:
    """Share all slots out over ``shards`` contiguous ranges whose sizes differ by at most one."""
    bounds = [SLOT_COUNT * i // shards for i in range(shards + 1)]
    return tuple(SlotSet(((a, b - 1),)) for a, b in pairwise(bounds))
