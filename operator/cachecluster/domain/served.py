"""Which slots have ever held data, and whose they were (S2, ADR 0002).

The StatefulSets tell. Where one has been deleted, with its pods, the status still does: it is only ever believed that
there had been data, and only of slots that no StatefulSet and no node claims.
"""

from collections.abc import Iterable, Mapping

from cachecluster.api import names
from cachecluster.domain.layout import Layout
from cachecluster.domain.records import formed_slots
from cachecluster.domain.slots import NO_SLOTS, SlotSet, union
from cachecluster.domain.snapshot import InvalidSpec, Snapshot


def slots_served_before(
    snap: Snapshot, layout: Layout, planned: Mapping[int, SlotSet], serving: Iterable[SlotSet]
) -> dict[int, SlotSet]:
    """What each shard has served, as it is written down; ``serving`` is what the nodes that answer serve.

    Slots of a shard that nobody asks for any more are remembered by the shard that they fall to, once that is known.
    """
    named = {index: names.shard_name(snap.ref.name, index) for index in layout.members}
    recorded = {index: SlotSet.parse(formed_slots(snap.children, name)) for index, name in named.items()}
    told = slots_told(snap)
    forgotten = union(told.values()) - union(recorded.values()) - union(serving)
    if not forgotten:
        return recorded
    homeless = forgotten - union(told.get(name, NO_SLOTS) for name in named.values())
    if isinstance(snap.spec, InvalidSpec):
        homeless = NO_SLOTS
    return {
        index: recorded[index] | forgotten & told.get(name, NO_SLOTS) | homeless & planned.get(index, NO_SLOTS)
        for index, name in named.items()
    }


def slots_told(snap: Snapshot) -> dict[str, SlotSet]:
    """Slots of each shard, by its name, as the status has them; what cannot be read tells nothing."""
    return {shard["name"]: _read(shard.get("slots", "")) for shard in snap.status.get("shards", ())}


def _read(text: str) -> SlotSet:
    try:
        return SlotSet.parse(text)
    except ValueError:
        return NO_SLOTS
