"""Sets of hash slots, and how slots are shared out over shards."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

SLOT_COUNT: Final = 16384
"""Number of hash slots (Valkey cluster specification, "Key distribution model")."""


@dataclass(frozen=True, slots=True)
class SlotSet:
    """An immutable set of slots, kept as one bit for each: the cost of its algebra does not grow with its gaps."""

    bits: int = 0

    @classmethod
    def of(cls, slots: Iterable[int]) -> Self:
        """Build from single slots; raises ValueError outside 0..16383."""
        return cls.from_ranges((s, s) for s in slots)

    @classmethod
    def from_ranges(cls, ranges: Iterable[tuple[int, int]]) -> Self:
        """Build from inclusive ranges in any order, overlapping or not; raises ValueError outside 0..16383."""
        bits = 0
        for first, last in ranges:
            if not 0 <= first <= last < SLOT_COUNT:
                raise ValueError(f"slot range {first}-{last} is outside 0-{SLOT_COUNT - 1}")
            bits |= (2 << last) - (1 << first)
        return cls(bits)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``"0-5460,5462"``, the form of ``str()``; raises ValueError."""
        parts = [p for p in text.replace(" ", ",").split(",") if p]
        return cls.from_ranges((int(a), int(b or a)) for a, _, b in (p.partition("-") for p in parts))

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """Inclusive, in order, with gaps between them."""
        found: list[tuple[int, int]] = []
        bits, at = self.bits, 0
        while bits:
            gap = (bits & -bits).bit_length() - 1
            bits >>= gap
            run = (~bits & (bits + 1)).bit_length() - 1
            bits >>= run
            found.append((at + gap, at + gap + run - 1))
            at += gap + run
        return tuple(found)

    def __str__(self) -> str:
        return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in self.ranges)

    def __repr__(self) -> str:
        return f"SlotSet({self})"

    def __bool__(self) -> bool:
        return self.bits != 0

    def __len__(self) -> int:
        return self.bits.bit_count()

    def __iter__(self) -> Iterator[int]:
        for a, b in self.ranges:
            yield from range(a, b + 1)

    def __contains__(self, slot: int) -> bool:
        return self.bits >> slot & 1 == 1

    def __or__(self, other: "SlotSet") -> "SlotSet":
        return SlotSet(self.bits | other.bits)

    def __and__(self, other: "SlotSet") -> "SlotSet":
        return SlotSet(self.bits & other.bits)

    def __sub__(self, other: "SlotSet") -> "SlotSet":
        common = self.bits & other.bits
        return SlotSet(self.bits ^ common) if common else self


ALL_SLOTS: Final = SlotSet.from_ranges([(0, SLOT_COUNT - 1)])
NO_SLOTS: Final = SlotSet()


def union(sets: Iterable[SlotSet]) -> SlotSet:
    """All slots of all the sets."""
    bits = 0
    for slots in sets:
        bits |= slots.bits
    return SlotSet(bits)


def share(shards: int) -> tuple[SlotSet, ...]:
    """Share all slots out over ``shards`` contiguous ranges whose sizes differ by at most one."""
    bounds = [SLOT_COUNT * i // shards for i in range(shards + 1)]
    return tuple(SlotSet.from_ranges([(a, b - 1)]) for a, b in pairwise(bounds))
