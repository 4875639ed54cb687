"""Engine processes on loopback with keys in every slot, and slot moves on them as the operator makes them."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from redis.asyncio import Redis

from cachecluster.domain.actions import MoveSlots, SettleSlots
from cachecluster.domain.open_slots import move_between, recover_open_slots
from cachecluster.domain.policies.resharding import wanted_moves
from cachecluster.domain.slots import SlotSet, share
from cachecluster.reconcile.slot_moves import move_slots, settle_slots
from cachecluster.reconcile.together import together
from tests.engines.fleet import Nodes, as_operator
from tests.engines.harness.binaries import engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.tags import tag
from tests.engines.moving import Shop

VALUE: Final = "x" * 100
SLOTS_AT_ONCE: Final = 32
ADMIN: Final = "bench"
"""A user that may do all that `valkey-cli --cluster` does, for the other side of the comparison; also its password."""


@asynccontextmanager
async def shop(family: str, primaries: int, owning: int, replicas: int) -> AsyncIterator[Shop]:
    """Shards of which the first ``owning`` share all slots; each primary has that many replicas, in step."""
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        async with (
            ProcessCluster(engine_binary(family), Path(directory)) as cluster,
            contextlib.AsyncExitStack() as stack,
        ):
            nodes = Nodes(cluster, stack)
            followed = [shard for shard in range(primaries) for _ in range(replicas)]
            members = [node for node, _ in await nodes.form(primaries, followed, owning=owning)]
            for node in members:
                await as_operator(node, "ACL", "SETUSER", ADMIN, "on", f">{ADMIN}", "~*", "&*", "+@all")
            shards = [*range(primaries), *followed]
            yield Shop(nodes, dict(zip((n.name for n in members), shards, strict=True)))


def leaders(place: Shop) -> list[NodeProcess]:
    """The nodes that led each shard at first."""
    return [place.fleet.cluster[f"n{i}"] for i in range(1 + max(place.shard_of.values()))]


async def fill(place: Shop, owning: int, per_slot: int) -> None:
    """Give every slot the same number of keys."""
    parts = zip(leaders(place), share(owning), strict=False)
    await asyncio.gather(*(_fill_node(node, slots, per_slot) for node, slots in parts))


async def _fill_node(node: NodeProcess, slots: SlotSet, per_slot: int) -> None:
    every = list(slots)
    async with admin(node) as client:
        for start in range(0, len(every), SLOTS_AT_ONCE):
            pipeline = client.pipeline(transaction=False)
            for slot in every[start : start + SLOTS_AT_ONCE]:
                pipeline.mset({tag(slot) + b"%d" % i: VALUE for i in range(per_slot)})
            await pipeline.execute()


def admin(node: NodeProcess) -> Redis:
    """A client that may do everything."""
    return Redis(host=node.address, username=ADMIN, password=ADMIN, protocol=2, decode_responses=True)


async def keys(place: Shop) -> list[int]:
    """Number of keys at each leader."""
    counts = []
    for node in leaders(place):
        async with admin(node) as client:
            counts.append(int(await client.dbsize()))
    return counts


async def rebalance(place: Shop) -> None:
    """What the operator's passes do, one after another, until nothing is left to move; any failure is raised."""
    while True:
        topology = await place.topology()
        recovery = recover_open_slots(topology)
        actions: list[MoveSlots | SettleSlots] = list(recovery.actions)
        if not recovery:
            moves = wanted_moves(topology)
            if not moves:
                return
            for source in sorted({m.source for m in moves}):
                move = max((m for m in moves if m.source == source), key=lambda m: (len(m.slots), -m.destination))
                ends = (place.leader(topology, i) for i in (source, move.destination))
                actions.append(move_between(topology, move.slots, *ends))
        await together(*(_act(place, action) for action in actions))


async def _act(place: Shop, action: MoveSlots | SettleSlots) -> None:
    if isinstance(action, MoveSlots):
        await move_slots(action, place.context())
    else:
        await settle_slots(action, place.context())
