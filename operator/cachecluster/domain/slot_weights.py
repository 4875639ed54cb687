"""Which slots to choose where they hold much or little, so that the shards' memory comes out even. Pure.

A cut into a range has to pay: keys are spread by a hash, so the slots of most clusters weigh much the same, and the
choice by number is good. Hash tags put many keys into one slot; then others are chosen, still neighbours of each other.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Final, Self

from cachecluster.domain.slot_choice import Choice, Shares, Task, share_out
from cachecluster.domain.slots import NO_SLOTS, SLOT_COUNT, SlotSet, union

SLACK_PERCENT: Final = 5
"""Of a shard's fair share of the memory: what differs by less weighs the same."""
SLACK_BYTES: Final = 2**20
"""The same for shards that hold next to nothing."""


def by_weight(task: Task, slot_bytes: Mapping[int, int], plain: Choice) -> Choice:
    """The choice that leaves the shards more even than ``plain`` and all others that are tried, if there is one that
    makes a difference; never one with a heavier shard.
    """
    scales = _Scales.of(task, slot_bytes)
    if scales.ends(plain)[0] - scales.fair < scales.slack:
        return plain
    given = scales.given(plain.given)
    others = (
        Choice(plain.given, scales.taken(plain.given)),
        Choice(given, share_out(task, given)),
        Choice(given, scales.taken(given)),
    )
    best = plain
    for other in others:
        if scales.are_more_even(other, best):
            best = other
    return best


@dataclass(frozen=True, slots=True)
class _Scales:
    """Weighs slots, in bytes."""

    task: Task
    slot_bytes: tuple[int, ...]
    """Of every slot there is."""
    total: int
    fair: int
    """What each shard that stays would hold if all held the same."""
    slack: int
    """What makes no difference."""

    @classmethod
    def of(cls, task: Task, slot_bytes: Mapping[int, int]) -> Self:
        every = tuple(slot_bytes.get(slot, 0) for slot in range(SLOT_COUNT))
        total = sum(every[slot] for slots in task.held.values() for slot in slots)
        fair = total // len(task.staying)
        return cls(task, every, total, fair, max(fair * SLACK_PERCENT // 100, SLACK_BYTES))

    def weigh(self, slots: SlotSet) -> int:
        return sum(sum(self.slot_bytes[first : last + 1]) for first, last in slots.ranges)

    def ends(self, choice: Choice) -> list[int]:
        """What the shards that stay hold in the end, the heaviest first."""
        given, taken = choice.given, choice.taken
        held = (
            (self.task.held[shard] - given.get(shard, NO_SLOTS)) | taken.get(shard, NO_SLOTS)
            for shard in self.task.staying
        )
        return sorted(map(self.weigh, held), reverse=True)

    def are_more_even(self, one: Choice, other: Choice) -> bool:
        """From the heaviest down, the first shard that makes a difference is lighter; the heaviest is no heavier."""
        ends = list(zip(self.ends(one), self.ends(other), strict=True))
        lighter = (mine < theirs for mine, theirs in ends if abs(mine - theirs) >= self.slack)
        return ends[0][0] <= ends[0][1] and next(lighter, False)

    def given(self, plain: Shares) -> Shares:
        """As many slots as in ``plain``, such that who gives them keeps a fair share; who is to go gives all.

        The lightest choose first: what they lack of a fair share when they have given their lightest slots falls to
        the others.
        """
        held = {shard: self.weigh(self.task.held[shard]) for shard in plain if shard in self.task.staying}
        found = dict(plain)
        left, sharing = self.total, len(self.task.staying)
        for shard, weight in sorted(held.items(), key=lambda item: (item[1], item[0])):
            found[shard] = self._choose(self.task.held[shard], len(plain[shard]), weight - left // sharing)
            left, sharing = left - weight + self.weigh(found[shard]), sharing - 1
        return found

    def taken(self, given: Shares) -> Shares:
        """Each taker in turn, the heaviest first, gets what it lacks of a fair share; the last one gets the rest."""
        pool = union(given.values())
        held = {shard: self.weigh(self.task.held[shard]) for shard, n in self.task.lacking.items() if n > 0}
        found: dict[int, SlotSet] = {}
        left = self.weigh(pool) + sum(held.values())
        for shard, weight in sorted(held.items(), key=lambda item: (-item[1], item[0])):
            goal = left // (len(held) - len(found)) - weight
            found[shard] = self._choose(pool, self.task.lacking[shard], goal)
            pool -= found[shard]
            left -= weight + self.weigh(found[shard])
        return dict(sorted(found.items()))

    def _choose(self, slots: SlotSet, count: int, goal: int) -> SlotSet:
        """So many neighbours, the first slot coming after the last, that their weight is nearest to the goal; of those
        that are about as near, the ones with the fewest cuts into ranges.
        """
        order = list(slots)
        ring = (*order, *order[:count])
        sums = list(accumulate((self.slot_bytes[slot] for slot in ring), initial=0))
        misses = [abs(end - start - goal) // self.slack for start, end in zip(sums, sums[count:], strict=False)]
        least = min(misses)
        bounds = set(accumulate((last - first + 1 for first, last in slots.ranges), initial=0))

        def cuts(at: int) -> int:
            return (at not in bounds) + ((at + count) % len(order) not in bounds)

        at = min((at for at, miss in enumerate(misses) if miss == least), key=cuts)
        return SlotSet.of(ring[at : at + count])
