"""Slots that an interrupted move has left open, with half of the keys at the destination: engine-facts §1.4."""

from typing import Final

from cachecluster.api import names
from cachecluster.domain.open_slots import recover_open_slots
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from cachecluster.engines.client import Login, NodeClient, SlotState
from cachecluster.reconcile.slot_moves import move_slots
from tests.engines.fleet import PASSWORDS, Nodes
from tests.engines.harness.waiting import until
from tests.engines.moving import EVERY_ENGINE, Shop, keys_of, shop_of

SLOT: Final = SlotSet.of([0])
LOGIN: Final = Login(names.user_of(names.USER_REPLICATION, 1), PASSWORDS.replication)
pytestmark = EVERY_ENGINE


async def half_moved(fleet: Nodes) -> tuple[Shop, dict[bytes, bytes], NodeClient, NodeClient]:
    """Both sides open, 5 of 10 keys moved."""
    shop = await shop_of(fleet)
    values = keys_of(SLOT, 10)
    await shop.fill(values)
    source, destination = [await fleet.client(fleet.cluster[n]) for n in ("n0", "n1")]
    await destination.set_slots(SLOT, SlotState.IMPORTING, await source.node_id())
    await source.set_slots(SLOT, SlotState.MIGRATING, await destination.node_id())
    await source.migrate(fleet.cluster["n1"].address, (await source.keys_in_slots({0: 5}))[0], LOGIN)
    return shop, values, source, destination


async def recovered(shop: Shop, values: dict[bytes, bytes], owner: int = 1) -> None:
    """Nothing is open any more, every key is there, and the slot is where it should be."""
    await shop.move(NO_SLOTS, 0, 1)
    topology = await shop.topology()
    assert not recover_open_slots(topology)
    assert 0 in topology.owners[shop.leader(topology, owner).target.node_id]
    assert await shop.stored() == values


async def test_both_sides_open(fleet: Nodes) -> None:
    shop, values, _, _ = await half_moved(fleet)
    await recovered(shop, values)


async def test_only_the_destination_is_marked(fleet: Nodes) -> None:
    shop, values, source, _ = await half_moved(fleet)
    await source.set_slots(SLOT, SlotState.STABLE)
    await recovered(shop, values)


async def test_only_the_destination_is_marked_and_has_nothing(fleet: Nodes) -> None:
    shop = await shop_of(fleet)
    values = keys_of(SLOT, 10)
    await shop.fill(values)
    source, destination = [await fleet.client(fleet.cluster[n]) for n in ("n0", "n1")]
    await destination.set_slots(SLOT, SlotState.IMPORTING, await source.node_id())
    await recovered(shop, values, owner=0)


async def test_only_the_source_is_marked(fleet: Nodes) -> None:
    shop, values, _, destination = await half_moved(fleet)
    await destination.set_slots(SLOT, SlotState.STABLE)
    await recovered(shop, values)


async def test_destination_owns_it_and_the_source_has_not_heard(fleet: Nodes) -> None:
    shop, values, source, destination = await half_moved(fleet)
    await source.migrate(fleet.cluster["n1"].address, (await source.keys_in_slots({0: 5}))[0], LOGIN)
    action = await shop.action(SLOT, 0, 1)
    fleet.cluster["n0"].pause()
    await destination.set_slots(SLOT, SlotState.NODE, await destination.node_id())
    fleet.cluster["n0"].resume()
    assert await move_slots(action, shop.context()) == 0
    await recovered(shop, values)


async def test_destination_owns_it_and_the_source_has_heard(fleet: Nodes) -> None:
    """Its mark is gone, unless it is Redis: that one keeps it."""
    shop, values, source, destination = await half_moved(fleet)
    await source.migrate(fleet.cluster["n1"].address, (await source.keys_in_slots({0: 5}))[0], LOGIN)
    await destination.set_slots(SLOT, SlotState.NODE, await destination.node_id())

    async def has_heard() -> bool:
        return 0 not in (await source.view()).myself.slots

    await until(has_heard, "the source has heard")
    assert bool((await source.view()).migrating) == (fleet.cluster.binary.name == "redis")
    await recovered(shop, values)


async def test_what_is_wanted_back_is_completed_and_moved_back(fleet: Nodes) -> None:
    shop, values, _, _ = await half_moved(fleet)
    await shop.move(SLOT, 1, 0)
    await recovered(shop, values, owner=0)
