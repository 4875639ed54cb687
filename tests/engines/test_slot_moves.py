"""Slots that move between real nodes: every key arrives with its value, whoever is killed at whatever step."""

import contextlib
from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from cachecluster.domain.slots import SlotSet
from tests.engines.fleet import Nodes
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.moving import Shop, keys_of

SOME: Final = SlotSet.from_ranges([(0, 39)])
OTHER: Final = SlotSet.from_ranges([(100, 139)])


@pytest_asyncio.fixture
async def fleet(nodes: ProcessCluster) -> AsyncIterator[Nodes]:
    """Nodes of each family in turn; connections are closed before the nodes are killed."""
    async with contextlib.AsyncExitStack() as stack:
        yield Nodes(nodes, stack)


async def shop_of(fleet: Nodes, *, owning: int = 2, replicas: bool = False) -> Shop:
    """Two shards, of which ``owning`` share the slots; each with a replica or none."""
    await fleet.form(2, (0, 1) if replicas else (), owning=owning)
    return Shop(fleet, {"n0": 0, "n1": 1} | ({"n2": 0, "n3": 1} if replicas else {}))


@pytest.mark.parametrize("replicas", [False, True], ids=["alone", "replicated"])
async def test_every_key_arrives_with_its_value(fleet: Nodes, replicas: bool) -> None:
    shop = await shop_of(fleet, owning=1, replicas=replicas)
    values = keys_of(SOME, 200) | keys_of(OTHER, 3)
    await shop.fill(values)
    assert await shop.move(SOME, 0, 1) == 200 * len(SOME)
    topology = await shop.topology()
    assert topology.owners[shop.leader(topology, 1).target.node_id] == SOME
    assert await shop.stored() == values
