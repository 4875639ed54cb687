"""durability.mode on real nodes: when writes are refused, what ends it, and that slots wait meanwhile."""

import asyncio
import itertools
import time
from typing import Final

import pytest
from redis.exceptions import ResponseError

from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.domain import durability
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.slots import SlotSet
from cachecluster.engines.valkey import ValkeyConnector
from cachecluster.reconcile.context import Doubt
from cachecluster.reconcile.slot_moves import move_slots
from tests.engines.fleet import Nodes, as_operator, in_step, leads
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.moving import keys_of, shop_of
from tests.engines.pods import PASSWORDS, Pods

SOME: Final = SlotSet.from_ranges([(0, 9)])


async def pods_of(nodes: ProcessCluster, engine: EngineBinary) -> Pods:
    """A formed cluster of one shard with two replicas, as the operator configures it."""
    spec = {
        "engine": "Valkey",
        "version": engine.family,
        "topology": {"mode": "Cluster", "shards": 1, "replicasPerShard": 2},
        "resources": {"limits": {"memory": "128Mi"}},
        "durability": {"mode": "AtLeastOneReplica"},
    }
    pods = Pods(nodes, spec)
    await pods.form()
    return pods


class Counter:
    """A client that counts, and knows how far it has got."""

    def __init__(self, pods: Pods, node: NodeProcess) -> None:
        self.client = pods.application(node)
        self.acked = 0

    async def takes(self) -> bool:
        """Whether the node takes one more write; raises ResponseError if it refuses that for another reason."""
        try:
            self.acked = int(await self.client.incr("count"))
        except ResponseError as error:
            if not str(error).startswith("NOREPLICAS"):
                raise
            return False
        return True

    async def refused(self) -> bool:
        """Whether it takes no more."""
        return not await self.takes()

    async def stored(self) -> int:
        """What the node has counted."""
        return int(await self.client.get("count") or 0)


async def test_writes_are_refused_soon_after_the_last_replica_falls_silent_and_taken_again_with_the_first(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await pods_of(nodes, engine)
    counter = Counter(pods, pods[0, 0])
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        await until(counter.takes, "the first write is taken")
        pods[0, 1].pause()
        await asyncio.sleep(MAX_LAG_SECONDS + 2)  # so long one alone has to do
        assert await counter.takes()
        assert (await client.view()).good_replicas == 1

        pods[0, 2].pause()
        began = time.monotonic()
        await until(counter.refused, "writes are refused", every=0.01)
        assert time.monotonic() - began <= MAX_LAG_SECONDS + 2 + 1, "a second for a busy machine"
        assert (await client.view()).refuses_writes
        assert await counter.stored() == counter.acked, "reads go on, and nothing refused has been carried out"

        pods[0, 1].resume()
        await until(counter.takes, "writes are taken again", every=0.01)
        assert not (await client.view()).refuses_writes
        assert await counter.stored() == counter.acked
    pods[0, 2].resume()
    await counter.client.aclose()


async def test_taking_it_back_ends_a_refusal_at_once(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = await pods_of(nodes, engine)
    counter = Counter(pods, pods[0, 0])
    for ordinal in (1, 2):
        await pods[0, ordinal].kill()
    await until(counter.refused, "writes are refused")
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        await client.configure(tuple(durability.ENGINE_DEFAULTS.items()))
        assert (await client.view()).good_replicas is None
    assert await counter.takes()
    await counter.client.aclose()


async def test_after_a_hand_over_a_replica_follows_the_new_primary_and_nothing_is_lost(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await pods_of(nodes, engine)
    before = Counter(pods, pods[0, 0])
    await until(before.takes, "a write is taken")
    after = Counter(pods, pods[0, 1])
    async with ValkeyConnector().connect(pods[0, 1].address, PASSWORDS.operator) as heir:
        await until(lambda: in_step(heir), "the heir is in step")
        await heir.failover(FailoverKind.GRACEFUL)
        await until(lambda: leads(heir), "it leads")
        await until(after.takes, "it takes writes", within=5)
    assert after.acked == before.acked + 1
    await before.client.aclose()
    await after.client.aclose()


@pytest.mark.parametrize("end", [0, 1], ids=["source", "destination"])
async def test_slots_wait_for_the_replica_of_either_end(fleet: Nodes, end: int) -> None:
    """Also where the engine moves them by itself: a job that fails would count towards giving that up."""
    shop = await shop_of(fleet)
    values = keys_of(SOME, 20)
    await shop.fill(values)
    node = fleet.cluster[f"n{end}"]
    asked = {durability.MAX_LAG: str(MAX_LAG_SECONDS), durability.TO_WRITE: "1"}
    await as_operator(node, "CONFIG", "SET", *itertools.chain(*asked.items()))
    with pytest.raises(Doubt, match=f"n{end} refuses writes until a replica is in step"):
        await move_slots(await shop.action(SOME, 0, 1), shop.context())
    source = await fleet.client(fleet.cluster["n0"])
    assert not (await source.view()).migrating
    if await source.moves_atomically():
        assert await source.migrations() == []

    await as_operator(node, "CONFIG", "SET", durability.TO_WRITE, "0")
    await shop.move(SOME, 0, 1)
    assert await shop.stored() == values
