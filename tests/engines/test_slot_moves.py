"""Slots that move between real nodes: every key arrives with its value, whoever is killed at whatever step."""

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest
from redis import RedisCluster
from redis.backoff import NoBackoff
from redis.retry import Retry

from cachecluster.api import names
from cachecluster.domain.slots import SlotSet, share
from cachecluster.engines import valkey
from cachecluster.engines.client import Login, NodeError, NodeRefused
from cachecluster.reconcile import slot_moves, slot_sizes
from cachecluster.reconcile.context import Doubt
from cachecluster.reconcile.slot_ends import lanes_for
from cachecluster.reconcile.slot_moves import move_slots
from tests.engines.fleet import PASSWORDS, Nodes, as_operator
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.tags import tag
from tests.engines.harness.waiting import until
from tests.engines.moving import EVERY_ENGINE, Counting, Shop, keys_of, shop_of

SOME: Final = SlotSet.from_ranges([(0, 39)])
OTHER: Final = SlotSet.from_ranges([(100, 139)])
GROUP: Final = 32


@pytest.fixture(autouse=True)
def _two_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """A group of slots is done and the next one begun before SOME have moved."""
    monkeypatch.setattr(slot_moves, "GROUP_SLOTS", GROUP)


@EVERY_ENGINE
@pytest.mark.parametrize("replicas", [False, True], ids=["alone", "replicated"])
async def test_every_key_arrives_with_its_value(fleet: Nodes, replicas: bool) -> None:
    shop = await shop_of(fleet, owning=1, replicas=replicas)
    values = keys_of(SOME, 200) | keys_of(OTHER, 3)
    await shop.fill(values)
    assert await shop.move(SOME, 0, 1) == 200 * len(SOME)
    topology = await shop.topology()
    assert topology.owners[shop.leader(topology, 1).target.node_id] == SOME
    assert await shop.stored() == values


async def weigh_alike(shop: Shop) -> bool:
    """Whether a key takes the same memory at every node that has any, as the engines tell it."""
    nodes = [m.node for m in (await shop.topology()).members if m.node is not None and m.node.keys]
    sizes = [node.dataset_bytes / node.keys for node in nodes]
    return max(sizes) < 1.05 * min(sizes)


@EVERY_ENGINE
@pytest.mark.parametrize("weighing", [False, True], ids=["by number", "by weight"])
async def test_a_new_shard_gets_its_share_of_the_memory(
    fleet: Nodes, weighing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All data is in the last six slots of each of two shards. By number, just those go to the third one."""
    monkeypatch.setattr(slot_sizes, "COUNT_SECONDS", 30.0)  # a slow answer would make it a move by number
    await fleet.form(3, (), owning=2)
    shop = Shop(fleet, {"n0": 0, "n1": 1, "n2": 2})
    full = SlotSet.from_ranges((slots.ranges[-1][1] - 5, slots.ranges[-1][1]) for slots in share(2))
    values = {key: bytes(20_000) for key in keys_of(full, 100)}
    await shop.fill(values)
    await until(lambda: weigh_alike(shop), "the engines count no buffer as data any more")
    await shop.reshard(weighing=weighing)
    shards = [s.primary.node for s in (await shop.topology()).shards if s.primary is not None]
    assert sorted(len(node.myself.slots) for node in shards if node is not None) == [5461, 5461, 5462]
    keys = [node.keys for node in shards if node is not None]  # all of them take the same
    unevenness = max(keys) / (sum(keys) / 3)
    assert unevenness < 1.1 if weighing else unevenness > 2.5
    assert await shop.stored() == values


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice goes on until it is done: how many commands it has does not depend on how fast the machine is."""
    monkeypatch.setattr(slot_moves, "SLICE_SECONDS", 30.0)


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


@EVERY_ENGINE
@pytest.mark.usefixtures("unhurried")
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


@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize("engine", ["8.0"], indirect=True)
async def test_s2_slots_that_have_just_come_may_go_back_at_once(fleet: Nodes) -> None:
    """Engine-facts §1.3: Valkey 8.0 announces a group in parts. The move back stops before its last key."""
    shop = await shop_of(fleet)
    values = keys_of(SOME, 3)
    await shop.fill(values)
    for _ in range(10):
        await shop.move(SOME, 0, 1)
        assert await interrupted_at(shop, 45, after=False, source=1, destination=0)
        await shop.move(SOME, 1, 0)
        assert await shop.stored() == values


MOMENTS: Final = (("set_slots IMPORTING", 1), ("set_slots MIGRATING", 1), ("migrate", 7))
"""After the n-th of these commands somebody dies."""


@EVERY_ENGINE
@pytest.mark.usefixtures("unhurried")
@pytest.mark.parametrize(
    ("victim", "handing_over"),
    [(0, 1), (1, lanes_for(GROUP) + 1)],  # not before the destination itself owns the slots: engine-facts §1.4
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


@EVERY_ENGINE
async def test_clients_that_follow_redirects_notice_nothing(fleet: Nodes) -> None:
    """They try nothing twice: every error is noticed. Slots move to and fro until each key has been written often.

    They are threads, because redis-py's cluster client for asyncio leaves connections open when slots have moved.
    """
    shop = await shop_of(fleet, replicas=True)
    await shop.fill(keys_of(SOME, 300))
    tags = [tag(slot) for slot in SOME]
    acknowledged: dict[bytes, int] = dict.fromkeys(tags, 0)
    stop = threading.Event()

    def write(mine: Sequence[bytes]) -> None:
        with RedisCluster(
            host=fleet.cluster["n0"].address,
            username=names.USER_APPLICATION,
            password=PASSWORDS.application,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=60,
        ) as client:
            for key in itertools.cycle(mine):
                if stop.is_set():
                    return
                client.incr(key)
                acknowledged[key] += 1

    async def all_written(times: int) -> bool:
        return min(acknowledged.values()) >= times

    async with asyncio.TaskGroup() as group:
        for start in range(4):
            group.create_task(asyncio.to_thread(write, tags[start::4]))
        try:
            await until(lambda: all_written(1), "every key was written")
            moves = 0
            while moves < 4 or not await all_written(6):
                await shop.move(SOME, moves % 2, 1 - moves % 2)
                moves += 1
        finally:
            stop.set()
    stored = await shop.stored()
    assert {key: int(stored[key]) for key in tags} == acknowledged


@pytest.mark.usefixtures("unhurried")
async def test_a_value_too_big_to_go_with_others_goes_alone(fleet: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience is shortened so that a value of this size takes too long together with others, and not alone."""
    shop = await shop_of(fleet)
    values = keys_of(SlotSet.of([0]), 20)
    await shop.fill(values)
    big = tag(0) + b"big"
    async with shop.application("n0") as client:
        pipe = client.pipeline(transaction=False)
        for start in range(0, 400_000, 1000):
            pipe.zadd(big, {b"%d" % i: i for i in range(start, start + 1000)})
        await pipe.execute()
    sent: list[int] = []
    patient = valkey.ValkeyClient.migrate

    async def migrate(
        self: valkey.ValkeyClient, ip: str, keys: Sequence[bytes], login: Login, silence: float = 0.03
    ) -> None:
        sent.append(len(keys))
        await patient(self, ip, keys, login, silence)

    monkeypatch.setattr(valkey.ValkeyClient, "migrate", migrate)

    async def hook(_: int, what: str, done: bool) -> None:
        """Only so that the engine cannot do it by itself."""

    await shop.move(SlotSet.of([0]), 0, 1, connector=Counting(hook))
    assert max(sent) == 21
    assert 1 in sent
    async with shop.application("n1") as client:
        assert await client.zcard(big) == 400_000
        await client.delete(big)
    assert await shop.stored() == values


async def test_a_key_that_cannot_be_moved_ends_the_slice_in_the_engines_words(fleet: Nodes) -> None:
    shop = await shop_of(fleet)
    values = keys_of(SlotSet.of([0]), 3)
    await shop.fill(values)

    async def hook(_: int, what: str, done: bool) -> None:
        """The destination is full."""
        if what == "migrate" and not done:
            await as_operator(fleet.cluster["n1"], "CONFIG", "SET", "maxmemory", "1")

    with pytest.raises(NodeRefused, match="OOM"):
        await move_slots(await shop.action(SlotSet.of([0]), 0, 1), shop.context(Counting(hook)))
    await as_operator(fleet.cluster["n1"], "CONFIG", "SET", "maxmemory", "0")
    await shop.move(SlotSet.of([0]), 0, 1)
    assert await shop.stored() == values
