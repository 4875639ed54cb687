"""Slot moves key by key, which every engine can do: SETSLOT and MIGRATE (engine-facts §1.3)."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from cachecluster.domain.slots import SlotSet
from cachecluster.engines.client import Login, NodeRefused, SlotState
from cachecluster.reconcile.slot_ends import End, Followers

BATCH: Final = 100
"""Keys of the first MIGRATE."""
BATCH_BOUNDS: Final = (10, 1000)
TARGET_SECONDS: Final = 0.005
"""How long one MIGRATE should hold up the source's clients."""
BIG_KEY_SECONDS: Final = 8.0
"""Patience with a single key whose value takes the destination long to build."""


@dataclass
class Pace:
    """How many keys to move at once, from how long the last ones took."""

    keys: int = BATCH

    def took(self, keys: int, seconds: float) -> None:
        """Move as many as should take the time aimed at; a single measurement never changes that by more than half."""
        fitting = int(keys * TARGET_SECONDS / max(seconds, 1e-6))
        fewest, most = BATCH_BOUNDS
        self.keys = max(fewest, min(most, max(self.keys // 2, min(self.keys * 2, fitting))))


@dataclass
class KeyMover:
    """Moves groups of slots from one end to the other until a deadline."""

    source: End
    destination: End
    followers: Followers
    login: Login
    hand_over: Callable[[SlotSet], Awaitable[None]]
    """Gives slots of which the source holds no key to the destination."""
    deadline: float
    """In the event loop's time."""
    pace: Pace = field(default_factory=Pace)
    keys_moved: int = 0

    async def move(self, slots: SlotSet) -> bool:
        """Move one group; False if the deadline came first. The marks then stay, and say where to go on."""
        source_id, destination_id = self.source.target.node_id, self.destination.target.node_id
        taken = SlotSet.of(m.slot for m in self.destination.view.importing if m.peer == source_id)
        given = SlotSet.of(m.slot for m in self.source.view.migrating if m.peer == destination_id)
        # In this order: a client that the source sends on is expected at the destination.
        await self.destination.mark(slots - taken, SlotState.IMPORTING, source_id)
        await self.source.mark(slots - given, SlotState.MIGRATING, destination_id)
        for slot in await self.source.client.count_keys(slots):
            if not await self._empty(slot):
                return False
        await self.hand_over(slots)
        return True

    async def _empty(self, slot: int) -> bool:
        """Move all keys of a slot; False if the deadline came first."""
        clock = asyncio.get_running_loop().time
        while True:
            if clock() >= self.deadline or not await self.followers.keep_up(self.deadline):
                return False
            asked, wanted = clock(), self.pace.keys
            keys = await self.source.client.keys_in_slot(slot, wanted)
            answered = clock()
            if not keys:
                return True
            moved = await self._send(keys)
            # The way to the source and back is no time during which it stands still.
            self.pace.took(moved, clock() - answered - (answered - asked))
            self.keys_moved += moved
            if moved == len(keys) < wanted:
                return True

    async def _send(self, keys: Sequence[bytes]) -> int:
        """Move some of the keys, all if it can be; their number.

        An IOERR may leave copies at both ends: the source's is the true one and replaces the other when it is sent
        again. Values too big to go together are sent in smaller groups, at last one by one with more patience.
        """
        ip = self.destination.target.ip
        while len(keys) > 1:
            try:
                await self.source.client.migrate(ip, keys, self.login)
            except NodeRefused as e:
                await self._was_it_size(e)
                keys = keys[: len(keys) // 2]
                self.pace.keys = max(1, len(keys))
            else:
                return len(keys)
        await self.source.client.migrate(ip, keys, self.login, BIG_KEY_SECONDS)
        return len(keys)

    async def _was_it_size(self, error: NodeRefused) -> None:
        """Raise the error again unless the destination went silent over what it was sent, and answers otherwise."""
        if "IOERR" not in str(error) or "connecting" in str(error):
            raise error
        await self.destination.client.position()
