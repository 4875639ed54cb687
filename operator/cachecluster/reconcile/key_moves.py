"""Slot moves key by key, which every engine can do: SETSLOT and MIGRATE (engine-facts §1.3)."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
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
ROUND_KEYS: Final = 500
"""Names of about so many keys are asked for at once: of several slots, though MIGRATE takes keys of one."""
ROUND_SECONDS: Final = 0.05
"""After so long the destination's replicas are asked again whether they keep up."""
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
        while left := dict(await self.source.client.count_keys(slots)):
            if not await self._send_all(left):
                return False
        await self.hand_over(slots)
        return True

    async def _send_all(self, left: dict[int, int]) -> bool:
        """Move so many keys of each slot, or fewer where values are too big; False if the deadline comes first."""
        clock = asyncio.get_running_loop().time
        while left:
            if clock() >= self.deadline or not await self.followers.keep_up(self.deadline):
                return False
            asked = clock()
            wanted = self._next(left)
            found = await self.source.client.keys_in_slots(wanted)
            answered = clock()
            for slot, keys in found.items():
                if keys and not await self._send(keys, answered - asked):
                    return True
                left[slot] -= wanted[slot]
                if clock() - answered >= ROUND_SECONDS:
                    break
            for slot in [slot for slot, count in left.items() if count <= 0]:
                del left[slot]
        return True

    def _next(self, left: Mapping[int, int]) -> dict[int, int]:
        """The slots of the next round, and how many keys of each one MIGRATE may take."""
        wanted: dict[int, int] = {}
        for slot, count in left.items():
            if sum(wanted.values()) >= ROUND_KEYS:
                break
            wanted[slot] = min(count, self.pace.keys)
        return wanted

    async def _send(self, keys: Sequence[bytes], way: float) -> bool:
        """Move keys of one slot; False if their values are too big to go together, and fewer are to be tried.

        ``way`` is how long it takes to the source and back, during which it does not stand still.

        An IOERR may leave copies at both ends: the source's is the true one and replaces the other when it is sent
        again. One by one they get more patience.
        """
        ip, began = self.destination.target.ip, asyncio.get_running_loop().time()
        if len(keys) == 1:
            await self.source.client.migrate(ip, keys, self.login, BIG_KEY_SECONDS)
        else:
            try:
                await self.source.client.migrate(ip, keys, self.login)
            except NodeRefused as e:
                await self._was_it_size(e)
                self.pace.keys = len(keys) // 2
                return False
        self.pace.took(len(keys), asyncio.get_running_loop().time() - began - way)
        self.keys_moved += len(keys)
        return True

    async def _was_it_size(self, error: NodeRefused) -> None:
        """Raise the error again unless the destination went silent over what it was sent, and answers otherwise."""
        if "IOERR" not in str(error) or "connecting" in str(error):
            raise error
        await self.destination.client.position()
