"""Slots follow the number of shards: to new shards, away from those that are to go, evened out over those that stay."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.open_slots import move_between, recover_open_slots
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.resharding import Move, plan_moves
from cachecluster.domain.slots import NO_SLOTS, SlotSet, union
from cachecluster.domain.topology import Shard, Topology

FILL_PERCENT: Final = 95
"""Of maxmemory: so full may a node be after it has taken the slots of shards that go."""
AGAIN_SECONDS: Final = 0.05


def move_slots(now: Situation) -> Iterator[Verdict]:
    """Moves that were begun come to their end first; then as many at once as there are shards that give."""
    open_slots = recover_open_slots(now.topology)
    for action in open_slots.actions:
        yield Do(action, Reason.MOVING_SLOTS, "slots are half moved; their move is brought to an end")
    for why in open_slots.waiting:
        yield Wait(Reason.MOVING_SLOTS, why, 0.5)
    if open_slots:
        yield Wait(Reason.MOVING_SLOTS, "new moves begin when no slot is half moved", AGAIN_SECONDS, stops_rest=True)
        return
    moves = wanted_moves(now.topology, now.snap.slot_bytes)
    if moves:
        yield from _begin(now, moves)


def wanted_moves(topology: Topology, slot_bytes: Mapping[int, int] | None = None) -> tuple[Move, ...]:
    """What is left to move; nothing while a slot has no owner or a shard that stays has nobody to give it to. How many
    slots those are does not depend on what they hold.
    """
    staying = [s for s in topology.shards if not s.leaving]
    if not topology.ever_formed or topology.uncovered or not staying:
        return ()
    return plan_moves(owned_by_shard(topology), [s.index for s in staying], slot_bytes)


def moves_are_due(topology: Topology) -> bool:
    """Slots are to move, and nothing keeps new moves from being begun."""
    return bool(wanted_moves(topology)) and not recover_open_slots(topology) and _obstacle(topology) is None


def owned_by_shard(topology: Topology) -> dict[int, SlotSet]:
    """Slots that the members of each shard own."""
    ids = {s.index: [m.node.node_id for m in s.members if m.node is not None] for s in topology.shards}
    return {index: union(topology.owners.get(i, NO_SLOTS) for i in some) for index, some in ids.items()}


def _begin(now: Situation, moves: tuple[Move, ...]) -> Iterator[Verdict]:
    obstacle = _obstacle(now.topology)
    if obstacle is not None:
        yield Wait(Reason.MOVING_SLOTS, f"slots are to move; {obstacle}", 0.5, stops_rest=True)
        return
    shards = {s.index: s for s in now.topology.shards}
    tight = _too_full(shards, moves, now.snap.slot_bytes)
    if tight is not None:
        yield tight
        return
    for source in sorted({m.source for m in moves}):
        move = max((m for m in moves if m.source == source), key=lambda m: (len(m.slots), -m.destination))
        giver, taker = shards[source].head, shards[move.destination].head
        if giver is not None and taker is not None:
            message = f"shard {source} gives slots to shard {move.destination}"
            action = move_between(now.topology, move.slots, giver, taker)
            yield Do(action, Reason.MOVING_SLOTS, message)
    yield Wait(Reason.MOVING_SLOTS, "slots are on their way to other shards", AGAIN_SECONDS, stops_rest=True)


def _obstacle(topology: Topology) -> str | None:
    """Why nothing moves yet: every shard has to be whole, or a node that fails on the way could cost data (S7)."""
    return next((why for shard in topology.shards if (why := _unready(shard)) is not None), None)


def _unready(shard: Shard) -> str | None:
    if shard.leaving and shard.empty:
        return None
    if not shard.healthy:
        return f"waiting until every node of shard {shard.index} is in step"
    if shard.refuses_writes:  # it would take no keys, and give none by MIGRATE
        return f"shard {shard.index} refuses writes until a replica is in step (durability.mode)"
    if shard.head is not None and shard.head.node is not None and not shard.head.node.cluster_state_ok:
        return f"{shard.head.pod.name} does not see the whole cluster yet"
    return None


@dataclass(frozen=True, slots=True)
class _Load:
    used: int
    limit: int
    """0: none."""


def _too_full(shards: Mapping[int, Shard], moves: tuple[Move, ...], slot_bytes: Mapping[int, int]) -> Block | None:
    """Shards are about to go, and the data does not fit into those that stay. What a move brings is the part of its
    source's memory that the slots hold; if that is not known, each holds as much as any other.
    """
    if not any(s.leaving for s in shards.values()):
        return None
    heads = {i: s.head.node for i, s in shards.items() if s.head is not None and s.head.node is not None}
    loads = {i: _Load(node.used_memory, node.max_memory) for i, node in heads.items()}
    coming = dict.fromkeys(shards, 0)
    sizes = {m: sum(slot_bytes.get(s, 0) for s in m.slots) if slot_bytes else len(m.slots) for m in moves}
    owned = {i: sum(size for m, size in sizes.items() if m.source == i) for i in shards}
    for move, size in sizes.items():
        if shards[move.source].leaving:
            coming[move.destination] += loads[move.source].used * size // max(owned[move.source], 1)
    for index, load in loads.items():
        after = load.used + coming[index]
        if load.limit and coming[index] and after > load.limit * FILL_PERCENT // 100:
            going = ", ".join(str(i) for i, s in shards.items() if s.leaving)
            message = (
                f"shard {index} would hold about {_mebibytes(after)} MiB of at most {_mebibytes(load.limit)} once "
                f"shards {going} are gone. Raise resources.limits.memory, remove keys, or set topology.shards back"
            )
            return Block(Reason.INSUFFICIENT_MEMORY, message)
    return None


def _mebibytes(amount: int) -> int:
    return amount // 2**20


POLICIES: Final = (move_slots,)
