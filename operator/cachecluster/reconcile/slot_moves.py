"""Move slots with their keys between living primaries, a slice of time per pass: engine-facts §1.3 and §1.4.

Nothing is remembered between slices: marks and keys on the nodes say how far a move has come. A key is at the source
until the destination has it, and a slot changes hands only when the source holds none of its keys (S2).
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import chain, islice
from typing import Final

from cachecluster.api import names
from cachecluster.domain.actions import MoveSlots, SettleSlots, Target
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from cachecluster.engines.client import Login, SlotState
from cachecluster.reconcile import atomic_moves
from cachecluster.reconcile.atomic_moves import AtomicMover
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.key_moves import KeyMover
from cachecluster.reconcile.slot_ends import End, Followers, open_end
from cachecluster.reconcile.together import together

SLICE_SECONDS: Final = 2.0
"""After so long no further group of slots is begun; the next pass looks around and goes on."""
FINISH_SECONDS: Final = 2.0
"""So much longer may a group take that is under way: what stays half moved costs a pass of its own."""
ACTION_SECONDS: Final = 35.0
"""Bound on a slice with a value that takes the engines long."""
GOSSIP_SECONDS: Final = 3.0
"""A node that has something to tell does so within a second."""
POLL_SECONDS: Final = 0.01
GROUP_SLOTS: Final = 128
"""Slots that are open at once: their marks cost a few writes of nodes.conf at each end (engine-facts §1.2)."""
GROUP_KEYS: Final = 4096
"""The same with so many keys is smaller, unless it is a single slot."""
EMPTY_GROUP: Final = 128
"""How many slots without keys are open at first: for no longer than it takes to mark them."""
EMPTY_GROUP_BOUNDS: Final = (32, 512)
EMPTY_GROUP_SECONDS: Final = 0.3
"""How long a group of those should take: its four rounds of marks hold up the clients of both ends."""


async def move_slots(action: MoveSlots, context: Context) -> int:
    """Move slots for two to four seconds; how many keys were moved.

    Raises Doubt if the ends are not what they were or the destination's replicas are not in step, NodeRefused in the
    engine's words if it cannot move a key, NodeUnreachable and TimeoutError as ever. Whatever happens, the marks on
    the nodes say where to go on.
    """
    async with asyncio.timeout(ACTION_SECONDS), AsyncExitStack() as stack:
        move = await _Move.open(action, context, stack)
        ours, theirs = (action.slots & end.view.myself.slots for end in (move.source, move.destination))
        # Redis keeps the source's mark although it has heard of the new owner.
        marked = SlotSet.of(mark.slot for mark in move.source.view.migrating)
        await move.finish(theirs & (ours | marked))
        return await move.carry(ours - theirs)


class _Move:
    """One slice."""

    def __init__(
        self, action: MoveSlots, context: Context, stack: AsyncExitStack, source: End, destination: End
    ) -> None:
        self.action, self.context, self.stack = action, context, stack
        self.source, self.destination = source, destination
        self.handed_over = NO_SLOTS
        self.deadline = asyncio.get_running_loop().time() + SLICE_SECONDS

    @classmethod
    async def open(cls, action: MoveSlots, context: Context, stack: AsyncExitStack) -> "_Move":
        """Connect to both ends and look whether the move still makes sense."""
        source, destination = await together(
            open_end(stack, context, action.source), open_end(stack, context, action.destination)
        )
        for one, other in ((source, destination), (destination, source)):
            row = one.view.peer(other.target.node_id)
            if row is None or "handshake" in row.flags or not row.is_primary:
                raise Doubt(f"{one.target.pod} does not know {other.target.pod} as a primary")
            if not one.view.cluster_state_ok:
                raise Doubt(f"{one.target.pod} does not see the whole cluster")
            if one.view.refuses_writes:  # MIGRATE would fail, and three failures give atomic migration up
                raise Doubt(f"paused: {one.target.pod} refuses writes until a replica is in step with it")
        if strange := action.slots - source.view.myself.slots - destination.view.myself.slots:
            raise Doubt(f"slots {strange} are not {source.target.pod}'s any more")
        for mark in source.view.migrating:
            if mark.slot in action.slots and not source.means(mark.peer, destination.target.node_id):
                raise Doubt(f"slot {mark.slot} is on its way to another node")
        return cls(action, context, stack, source, destination)

    async def carry(self, slots: SlotSet) -> int:
        """Move the slots, as the engine does it best; how many keys were moved."""
        if not slots:
            await self._spread()
            return 0
        followers = await Followers.of(self.stack, self.context, self.destination, self.action.replicas)
        if await atomic_moves.is_possible(self.source, self.destination):
            await atomic_moves.admit(self.source, self.destination, self.context.known_passwords())
            return await AtomicMover(self.source, self.destination, followers, self.deadline).move(slots)
        return await self._by_keys(slots, followers)

    async def _by_keys(self, slots: SlotSet, followers: Followers) -> int:
        """Group by group with MIGRATE; what is open already comes first."""
        user = names.user_of(names.USER_REPLICATION, self.destination.target.shard)
        login = Login(user, self.context.known_passwords().replication)
        finish = self.deadline + FINISH_SECONDS
        mover = KeyMover(self.source, self.destination, followers, login, self.hand_over, finish)
        marks = (*self.source.view.migrating, *self.destination.view.importing)
        begun = slots & SlotSet.of(mark.slot for mark in marks)
        counts = await self.source.client.count_keys(slots)
        pace = GroupPace()
        for part in (begun, slots - begun):
            empty = [slot for slot in part if slot not in counts]
            for group in chain(_empty_groups(empty, pace), _groups([s for s in part if s in counts], counts)):
                began = asyncio.get_running_loop().time()
                if not await mover.move(group) or asyncio.get_running_loop().time() >= self.deadline:
                    await self._spread()
                    return mover.keys_moved
                if not any(slot in counts for slot in group):
                    pace.took(len(group), asyncio.get_running_loop().time() - began)
        await self._spread()
        return mover.keys_moved

    async def finish(self, slots: SlotSet) -> None:
        """The destination owns them already, and the source has not heard of it."""
        if slots:
            await self._nothing_left(slots)
            await self._tell(slots)

    async def hand_over(self, slots: SlotSet) -> None:
        """The slots change hands: the destination first, so that there is always somebody who serves them."""
        await self._nothing_left(slots)
        self.context.require_leadership()
        await self.destination.mark(slots, SlotState.NODE, self.destination.target.node_id)
        await self._tell(slots)

    async def _nothing_left(self, slots: SlotSet) -> None:
        """S2: the source drops what it still holds of a slot as soon as it hears that the slot is another's."""
        left = await self.source.client.count_keys(slots)
        if left:
            raise Doubt(f"{self.source.target.pod} holds keys of slots {SlotSet.of(left)} again")

    async def _tell(self, slots: SlotSet) -> None:
        """The source keeps its marks until it is told, whatever it hears."""
        await self._until_heard(slots)
        await self.source.mark(slots, SlotState.NODE, self.destination.target.node_id)
        self.handed_over |= slots

    async def _spread(self) -> None:
        """The destination has told everybody; who has not heard would send clients astray, and is told again."""
        if self.handed_over:
            await together(*(self._remind(other) for other in self.action.others))

    async def _remind(self, other: Target) -> None:
        owner = self.destination.target.node_id
        async with self.context.node(other) as client:
            row = (await client.view()).peer(owner)
            unheard = self.handed_over - (row.slots if row is not None else NO_SLOTS)
            await client.set_slots(unheard, SlotState.NODE, owner)

    async def _until_heard(self, slots: SlotSet) -> None:
        """Engines announce a group in parts: each slot on its own, before it is the destination's, and Valkey 8.0 after
        that. A source that is told of the whole group before it has heard the last part takes an earlier part for the
        news that the rest has no owner any more; told to import that rest back, it takes it at once, without its keys
        (Valkey, cluster_legacy.c: clusterUpdateSlotsConfigWith). The last slot of all but 8.0 comes with a heartbeat.
        """
        unannounced = 0 if self.source.view.version.split(".")[:2] == ["8", "0"] else 1
        async with asyncio.timeout(GOSSIP_SECONDS):
            while True:
                view = await self.source.client.view()
                row = view.peer(self.destination.target.node_id)
                if row is not None and len(slots - row.slots) <= unannounced:
                    return
                await asyncio.sleep(POLL_SECONDS)


@dataclass
class GroupPace:
    """How many slots without keys to move at once, from how long the last ones took."""

    slots: int = EMPTY_GROUP

    def took(self, slots: int, seconds: float) -> None:
        """Move as many as should take the time aimed at, at most twice as many as so far."""
        fitting = int(slots * EMPTY_GROUP_SECONDS / max(seconds, 1e-6))
        fewest, most = EMPTY_GROUP_BOUNDS
        self.slots = max(fewest, min(most, 2 * self.slots, fitting))


def _empty_groups(slots: Sequence[int], pace: GroupPace) -> Iterator[SlotSet]:
    """Slots without keys, as many at once as the pace says when each group is asked for."""
    rest = iter(slots)
    while group := SlotSet.of(islice(rest, pace.slots)):
        yield group


def _groups(slots: Sequence[int], counts: Mapping[int, int]) -> Iterator[SlotSet]:
    """Slots with so many keys each, in groups whose marks are worth the while and that do not stay open for long."""
    group: list[int] = []
    for slot in slots:
        if len(group) == GROUP_SLOTS or (group and sum(counts[s] for s in (*group, slot)) > GROUP_KEYS):
            yield SlotSet.of(group)
            group = []
        group.append(slot)
    if group:
        yield SlotSet.of(group)


async def settle_slots(action: SettleSlots, context: Context) -> None:
    """Ask where the slots' keys are: both ends are opened again for slots of which another node holds keys, the rest is
    closed.

    A move goes on from there. Raises Doubt if the nodes are not what they were, or if a slot's keys are in more places
    than a move can explain.
    """
    async with asyncio.timeout(ACTION_SECONDS), AsyncExitStack() as stack:
        opening = (open_end(stack, context, t) for t in (action.owner, *action.others))
        owner, *others = await together(*opening)
        if action.slots - owner.view.myself.slots:
            raise Doubt(f"{owner.target.pod} does not own all of slots {action.slots} any more")
        holders = await _holders(action.slots, others)
        for holder in others:
            held = SlotSet.of(slot for slot, by in holders.items() if by == holder.target.node_id)
            await holder.mark(held, SlotState.IMPORTING, owner.target.node_id)
            await owner.mark(held, SlotState.MIGRATING, holder.target.node_id)
        idle = action.slots - SlotSet.of(holders)
        # The owner first: from then on it sends nobody elsewhere, and what had arrived elsewhere until then is found.
        await owner.mark(idle & _marked(owner), SlotState.STABLE)
        idle -= SlotSet.of(await _holders(idle, others))
        for other in others:
            await other.mark(idle & _marked(other), SlotState.STABLE)


async def _holders(slots: SlotSet, others: list[End]) -> dict[int, NodeId]:
    """Which of the nodes holds keys of a slot."""
    holders: dict[int, NodeId] = {}
    for end, counts in zip(others, await together(*(e.client.count_keys(slots) for e in others)), strict=True):
        for slot in counts:
            if slot in holders:
                raise Doubt(f"several nodes hold keys of slot {slot} beside its owner")
            holders[slot] = end.target.node_id
    return holders


def _marked(end: End) -> SlotSet:
    return SlotSet.of(mark.slot for mark in (*end.view.migrating, *end.view.importing))
