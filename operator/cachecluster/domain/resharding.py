"""Which slots move from which shard to which: every slot at most once, straight to its final owner. Pure.

How many slots a shard gives or takes follows from the numbers of slots alone; which ones, also from what they hold
(ADR 0015; `slot_choice.py` and `slot_weights.py`). Who carries a move out, and in which steps, is
`reconcile/slot_moves.py`; what to do about moves that were interrupted is `open_slots.py`. Those come first: plan only
while no slot is open.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachecluster.domain.slot_choice import Task, by_number
from cachecluster.domain.slot_weights import by_weight
from cachecluster.domain.slots import NO_SLOTS, SlotSet


@dataclass(frozen=True, slots=True)
class Move:
    """Slots that go from one shard to another."""

    slots: SlotSet
    source: int
    """Index of the shard that owns them."""
    destination: int
    """Index of the shard that keeps them."""


def plan_moves(
    owned: Mapping[int, SlotSet], staying: Collection[int], slot_bytes: Mapping[int, int] | None = None
) -> tuple[Move, ...]:
    """The moves after which the shards of ``staying`` own everything, evened out to within one slot.

    No other plan moves fewer slots, and none is empty unless there is nothing to do. The plan depends on its arguments
    alone. Planned again after any part of it was done, the rest leads to an end of the same kind, and no slot that has
    moved moves again, whatever the slots hold by then: a shard that gives never becomes one that takes, nor the other
    way round.

    Args:
        owned: slots by shard index, disjoint; shards that own nothing may be left out.
        staying: shards that are to own slots; each other shard gives all of its own away.
        slot_bytes: what each slot holds; nothing, if it is left out. None or empty: not known. The heaviest shard is
            never heavier in the end than it would be had that not been known.

    Raises:
        ValueError: there are slots, and no shard stays.
    """
    held = {shard: owned.get(shard, NO_SLOTS) for shard in sorted({*owned, *staying})}
    if not staying and any(held.values()):
        raise ValueError("no shard is left to take the slots")
    target = _targets({shard: len(slots) for shard, slots in held.items()}, staying)
    lacking = {shard: target.get(shard, 0) - len(slots) for shard, slots in held.items()}
    task = Task(held, lacking, frozenset(target))
    choice = by_number(task)
    if slot_bytes and choice.given:
        choice = by_weight(task, slot_bytes, choice)
    return tuple(
        Move(slots, source, destination)
        for source, given in choice.given.items()
        for destination, taken in choice.taken.items()
        if (slots := given & taken)
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
