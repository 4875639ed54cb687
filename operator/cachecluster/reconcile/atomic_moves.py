"""Slot moves by the engine itself, all keys of some slots at one stroke: Valkey >= 9.0 (engine-facts §1.5)."""

import asyncio
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from cachecluster.api import names
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from cachecluster.engines.client import NodeRefused, SlotMigration
from cachecluster.manifests import Passwords, acl
from cachecluster.reconcile.context import Doubt
from cachecluster.reconcile.slot_ends import End, Followers
from cachecluster.reconcile.together import together

KEYS_PER_JOB: Final = 80_000
"""The end of a job stops the source's clients for some 0.1 s, and longer the more keys it has to delete."""
SLOTS_PER_LOOK: Final = 256
POLL_SECONDS: Final = 0.05
GIVE_UP_AFTER: Final = 3
"""So many jobs in a row must have failed before keys are moved one by one instead."""


async def is_possible(source: End, destination: End) -> bool:
    """Whether both ends can do it, no slot is open by hand, and it has not failed again and again."""
    if any((*e.view.migrating, *e.view.importing) for e in (source, destination)):
        return False
    if not all(await together(source.client.moves_atomically(), destination.client.moves_atomically())):
        return False
    jobs = [j for j in await source.client.migrations() if j.outgoing and j.target == destination.target.node_id]
    return len(list(takewhile(lambda job: job.state == "failed", jobs))) < GIVE_UP_AFTER


async def admit(source: End, destination: End, passwords: Passwords) -> None:
    """Let the source in at the destination: it logs in as its own shard's user, whom no other shard knows (ADR 0022).

    There it may copy nothing, and is known for as long as the process runs.
    """
    if source.target.shard != destination.target.shard:
        user = names.user_of(names.USER_REPLICATION, source.target.shard)
        await destination.client.set_users({user: acl.migration_guest(passwords)})


@dataclass
class AtomicMover:
    """Runs one job after another until a deadline. A job outlives its operator; the next slice waits for its end."""

    source: End
    destination: End
    followers: Followers
    deadline: float
    """In the event loop's time."""

    async def move(self, slots: SlotSet) -> int:
        """Move slots that the source owns; how many keys were moved. Raises NodeRefused if a job fails."""
        running = [job for job in await self.source.client.migrations() if job.outgoing and job.running]
        for job in running:  # an earlier slice's: it knows whereto, and its keys are counted by nobody
            await self._await(job.name)
        moved = 0
        left = NO_SLOTS if running else slots
        while left and self._time_left() and await self.followers.keep_up(self.deadline):
            part, keys = await self._next(left)
            job = await self._start(part)
            if not await self._await(job.name):
                break
            moved, left = moved + keys, left - part
        return moved

    async def _next(self, slots: SlotSet) -> tuple[SlotSet, int]:
        """The first of the slots, one at least, that together have as many keys as a job may have; and how many."""
        every, taken, keys = list(slots), 0, 0
        for start in range(0, len(every), SLOTS_PER_LOOK):
            look = every[start : start + SLOTS_PER_LOOK]
            counts = await self.source.client.count_keys(SlotSet.of(look))
            for slot in look:
                if taken and keys + counts.get(slot, 0) > KEYS_PER_JOB:
                    return SlotSet.of(every[:taken]), keys
                taken, keys = taken + 1, keys + counts.get(slot, 0)
        return slots, keys

    async def _start(self, slots: SlotSet) -> SlotMigration:
        await self.source.client.start_migration(slots, self.destination.target.node_id)
        for job in await self.source.client.migrations():
            if job.outgoing and job.slots == slots and job.target == self.destination.target.node_id:
                return job
        raise Doubt(f"{self.source.target.pod} has forgotten a migration that it has just begun")

    async def _await(self, name: str) -> bool:
        """Whether the job came to a good end before the deadline."""
        while True:
            job = next((j for j in await self.source.client.migrations() if j.name == name), None)
            if job is None or job.state == "cancelled":
                raise Doubt(f"the migration of slots from {self.source.target.pod} was called off")
            if job.state == "failed":
                raise NodeRefused(f"slots {job.slots} did not move from {self.source.target.pod}: {job.message}")
            if not job.running:
                return True
            if not self._time_left():
                return False
            await asyncio.sleep(POLL_SECONDS)

    def _time_left(self) -> bool:
        return asyncio.get_running_loop().time() < self.deadline
