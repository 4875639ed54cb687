"""Slots that move between real nodes: every key arrives with its value, whoever is killed at whatever step."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio
from redis.asyncio import RedisCluster

from cachecluster.api import names
from cachecluster.domain.slots import SlotSet
from cachecluster.engines import valkey
from cachecluster.engines.client import NodeError, NodeRefused
from cachecluster.reconcile.atomic_moves import GIVE_UP_AFTER
from cachecluster.reconcile.context import Doubt
from cachecluster.reconcile.slot_ends import LANES
from cachecluster.reconcile.slot_moves import move_slots
from tests.engines.fleet import PASSWORDS, Nodes, as_operator
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.moving import Counting, Shop, keys_of, tag

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


class Stop(Exception):
    """The operator's process ends here."""


async def interrupted_at(shop: Shop, number: int, *, after: bool, source: int, destination: int) -> bool:
    """One slice that ends before or after its n-th command; whether there was such a command."""
    reached = False

    async def hook(count: int, _: str, done: bool) -> None:
        nonlocal reached
        if (count, done) == (number, after):
            reached = True
            raise Stop

    action = await shop.action(SOME, source, destination)
    with contextlib.suppress(Stop):
        await move_slots(action, shop.context(Counting(hook)))
    return reached


@pytest.mark.parametrize("replicas", [False, True], ids=["alone", "replicated"])
async def test_s2_mover_may_end_around_any_command(fleet: Nodes, replicas: bool) -> None:
    shop = await shop_of(fleet, replicas=replicas)
    values = keys_of(SOME, 3)
    await shop.fill(values)
    source, destination = 0, 1
    number = 0
    while True:
        reached = [
            await interrupted_at(shop, number, after=after, source=source, destination=destination)
            for after in (False, True)
        ]
        await shop.move(SOME, source, destination)
        assert await shop.stored() == values
        if not any(reached):
            break
        source, destination = destination, source
        number += 1 if number < 10 else 7
    assert number > 30


MOMENTS: Final = (("set_slots IMPORTING", 1), ("set_slots MIGRATING", 1), ("migrate", 7))
"""After the n-th of these commands somebody dies."""


@pytest.mark.parametrize(
    ("victim", "handing_over"),
    [(0, 1), (1, LANES + 1)],  # not before the destination itself owns the slots: engine-facts §1.4
    ids=["source", "destination"],
)
async def test_either_end_may_die_at_any_step(
    engine: EngineBinary, tmp_path: Path, victim: int, handing_over: int
) -> None:
    async def at(moment: str, nth: int) -> None:
        async with (
            ProcessCluster(engine, tmp_path / f"{moment} {nth}") as cluster,
            contextlib.AsyncExitStack() as stack,
        ):
            shop = await shop_of(Nodes(cluster, stack), replicas=True)
            values = keys_of(SOME, 30)
            await shop.fill(values)
            seen = 0

            async def hook(_: int, what: str, done: bool) -> None:
                nonlocal seen
                seen += what == moment and done
                if seen == nth:
                    seen += 1
                    await cluster[f"n{victim}"].kill()

            action = await shop.action(SOME, 0, 1)
            with contextlib.suppress(NodeError, Doubt):
                await move_slots(action, shop.context(Counting(hook)))
            assert seen > nth
            await shop.take_over(f"n{victim + 2}")
            await shop.move(SOME, 0, 1)
            assert await shop.stored() == values, f"{moment} {nth}"

    await asyncio.gather(*(at(*moment) for moment in (*MOMENTS, ("set_slots NODE", handing_over))))


@pytest.mark.parametrize("engine", ["9.1"], indirect=True)
class TestAtomic:
    async def test_a_job_outlives_its_operator(self, fleet: Nodes) -> None:
        shop = await shop_of(fleet, replicas=True)
        values = keys_of(SOME, 50)
        await shop.fill(values)

        async def hook(_: int, what: str, done: bool) -> None:
            assert what == "start_migration"
            if done:
                raise Stop

        with contextlib.suppress(Stop):
            await move_slots(await shop.action(SOME, 0, 1), shop.context(Counting(hook, atomic=True)))
        await shop.move(SOME, 0, 1)
        assert await shop.stored() == values

    @pytest.mark.parametrize("victim", [0, 1], ids=["source", "destination"])
    async def test_either_end_may_die_meanwhile(self, fleet: Nodes, victim: int) -> None:
        shop = await shop_of(fleet, replicas=True)
        values = keys_of(SOME, 2000)
        await shop.fill(values)

        async def hook(_: int, what: str, done: bool) -> None:
            if done:
                await fleet.cluster[f"n{victim}"].kill()

        with pytest.raises(NodeError):
            await move_slots(await shop.action(SOME, 0, 1), shop.context(Counting(hook, atomic=True)))
        await shop.take_over(f"n{victim + 2}")
        await shop.move(SOME, 0, 1)
        assert await shop.stored() == values

    async def test_a_failure_is_told_in_the_engines_words_and_the_third_ends_the_attempts(self, fleet: Nodes) -> None:
        shop = await shop_of(fleet)
        values = keys_of(SOME, 50)
        await shop.fill(values)
        right, wrong = PASSWORDS.replication, "another"
        source = await fleet.client(fleet.cluster["n0"])
        await as_operator(fleet.cluster["n0"], "CONFIG", "SET", "primaryauth", wrong)
        for _ in range(GIVE_UP_AFTER):
            with pytest.raises(NodeRefused, match="did not move"):
                await move_slots(await shop.action(SOME, 0, 1), shop.context())
        assert all(job.state == "failed" for job in await source.migrations())
        await as_operator(fleet.cluster["n0"], "CONFIG", "SET", "primaryauth", right)
        assert await move_slots(await shop.action(SOME, 0, 1), shop.context()) == len(values)
        assert len(await source.migrations()) == GIVE_UP_AFTER
        assert await shop.stored() == values

    async def test_below_the_fixed_release_it_is_used_without_io_threads_alone(self, fleet: Nodes) -> None:
        client = await fleet.client(await fleet.start("one"))
        assert await client.moves_atomically()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(valkey, "_ATOMIC_SINCE", (99,))
            assert await client.moves_atomically()
            await as_operator(fleet.cluster["one"], "CONFIG", "SET", "io-threads", "2")
            assert not await client.moves_atomically()


@pytest.mark.parametrize("engine", ["8.0", "8.1"], indirect=True)
async def test_older_engines_do_not_move_slots_at_one_stroke(fleet: Nodes) -> None:
    assert not await (await fleet.client(await fleet.start("one"))).moves_atomically()


async def test_clients_that_follow_redirects_notice_nothing(fleet: Nodes) -> None:
    shop = await shop_of(fleet, replicas=True)
    await shop.fill(keys_of(SOME, 300))
    tags = [tag(slot) for slot in SOME]
    acknowledged: dict[bytes, int] = dict.fromkeys(tags, 0)
    stop = asyncio.Event()

    async def write(mine: Sequence[bytes]) -> None:
        async with RedisCluster(
            host=fleet.cluster["n0"].address, username=names.USER_APPLICATION, password=PASSWORDS.application
        ) as client:
            for key in itertools.cycle(mine):
                if stop.is_set():
                    return
                await client.incr(key)
                acknowledged[key] += 1

    async with asyncio.TaskGroup() as group:
        for start in range(4):
            group.create_task(write(tags[start::4]))
        await asyncio.sleep(0.2)
        for _ in range(2):
            await shop.move(SOME, 0, 1)
            await shop.move(SOME, 1, 0)
        stop.set()
    stored = await shop.stored()
    assert {key: int(stored[key]) for key in tags} == acknowledged
    assert min(acknowledged.values()) > 5
