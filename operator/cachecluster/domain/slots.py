"""Sets of hash slots as sorted ranges, and how slots are shared out over shards."""

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

    def __len__(self) -> int:
        return sum(b - a + 1 for a, b in self.ranges)

    def __iter__(self) -> Iterator[int]:
        for a, b in self.ranges:
            yield from range(a, b + 1)

    def __contains__(self, slot: int) -> bool:
        return any(a <= slot <= b for a, b in self.ranges)

    def __or__(self, other: "SlotSet") -> "SlotSet":
        if not other.ranges or not self.ranges:
            return self if self.ranges else other
        return SlotSet.from_ranges((*self.ranges, *other.ranges))

    def __and__(self, other: "SlotSet") -> "SlotSet":
        pairs = ((max(a, c), min(b, d)) for a, b in self.ranges for c, d in other.ranges)
        # Parts of disjoint ranges with gaps between them, in order: there is nothing to sort or to merge.
        return SlotSet(tuple((a, b) for a, b in pairs if a <= b))

    def __sub__(self, other: "SlotSet") -> "SlotSet":
        if not other.ranges:
            return self
        kept: list[tuple[int, int]] = []
        for a, b in self.ranges:
            start = a
            for c, d in other.ranges:
                if d < start or c > b:
                    continue
                if c > start:
                    kept.append((start, c - 1))
                start = d + 1
            if start <= b:
                kept.append((start, b))
        return SlotSet(tuple(kept))


ALL_SLOTS: Final = SlotSet(((0, SLOT_COUNT - 1),))
NO_SLOTS: Final = SlotSet()


def union(sets: Iterable[SlotSet]) -> SlotSet:
    """All slots of all the sets."""
    return SlotSet.from_ranges(pair for slots in sets for pair in slots.ranges)


def share(shards: int) -> tuple[SlotSet, ...]:
    """Share all slots out over ``shards`` contiguous ranges whose sizes differ by at most one."""
    bounds = [SLOT_COUNT * i // shards for i in range(shards + 1)]
    return tuple(SlotSet(((a, b - 1),)) for a, b in pairwise(bounds))
