"""Slots that the engine moves by itself (Valkey >= 9.0): a job goes on, is repeated or given up, and loses nothing."""

import contextlib
from typing import Final

import pytest

from cachecluster.api import names
from cachecluster.domain.slots import SlotSet
from cachecluster.engines import valkey
from cachecluster.engines.client import NodeError, NodeRefused
from cachecluster.reconcile.atomic_moves import GIVE_UP_AFTER
from cachecluster.reconcile.context import Doubt
from cachecluster.reconcile.slot_moves import move_slots
from tests.engines.fleet import PASSWORDS, Nodes, as_operator
from tests.engines.harness.waiting import until
from tests.engines.moving import Counting, keys_of, shop_of

SOME: Final = SlotSet.from_ranges([(0, 39)])
able = pytest.mark.parametrize("engine", ["9.1"], indirect=True)


async def slow_down(fleet: Nodes, microseconds: int = 1000) -> None:
    """The snapshot that n0 sends of its slots takes that long for each key: what a large data set is like."""
    await as_operator(fleet.cluster["n0"], "CONFIG", "SET", "rdb-key-save-delay", str(microseconds))


async def amid_the_snapshot(fleet: Nodes) -> None:
    """Wait until n0 has begun to send keys."""
    source = await fleet.client(fleet.cluster["n0"])

    async def sends() -> bool:
        return any(job.state == "snapshotting" for job in await source.migrations())

    await until(sends, "n0 sends its snapshot")


class Stop(Exception):
    """The operator's process ends here."""


@able
async def test_a_job_outlives_its_operator(fleet: Nodes) -> None:
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


@able
@pytest.mark.parametrize("victim", [0, 1], ids=["source", "destination"])
async def test_either_end_may_die_meanwhile(fleet: Nodes, victim: int) -> None:
    shop = await shop_of(fleet, replicas=True)
    values = keys_of(SOME, 50)
    await shop.fill(values)
    await slow_down(fleet)

    async def hook(_: int, what: str, done: bool) -> None:
        if done:
            await amid_the_snapshot(fleet)
            await fleet.cluster[f"n{victim}"].kill()

    with pytest.raises(NodeError):
        await move_slots(await shop.action(SOME, 0, 1), shop.context(Counting(hook, atomic=True)))
    await shop.take_over(f"n{victim + 2}")
    await shop.move(SOME, 0, 1)
    assert await shop.stored() == values


@able
async def test_a_job_can_be_called_off_and_loses_nothing(fleet: Nodes) -> None:
    shop = await shop_of(fleet)
    values = keys_of(SOME, 50)
    await shop.fill(values)
    await slow_down(fleet)
    source = await fleet.client(fleet.cluster["n0"])

    async def hook(_: int, what: str, done: bool) -> None:
        if done:
            await amid_the_snapshot(fleet)
            await as_operator(fleet.cluster["n0"], "CLUSTER", "CANCELSLOTMIGRATIONS")

    with pytest.raises(Doubt, match="called off"):
        await move_slots(await shop.action(SOME, 0, 1), shop.context(Counting(hook, atomic=True)))
    assert [job.state for job in await source.migrations()] == ["cancelled"]
    assert await shop.stored() == values


@able
async def test_s3_a_source_may_copy_nothing_where_it_hands_slots_over(fleet: Nodes) -> None:
    shop = await shop_of(fleet)
    user = names.user_of(names.USER_REPLICATION, 0)
    assert user not in (await (await fleet.client(fleet.cluster["n1"])).view()).users
    await shop.move(SOME, 0, 1)
    for command in (("PSYNC", "?", "-1"), ("SYNC",), ("GET", "k")):
        answer = await as_operator(fleet.cluster["n1"], "ACL", "DRYRUN", user, *command)
        assert b"has no permissions" in answer


@able
@pytest.mark.parametrize("less", ["-select", "-@write", "resetkeys", "-cluster|syncslots"])
async def test_with_any_right_less_a_source_hands_nothing_over(fleet: Nodes, less: str) -> None:
    shop = await shop_of(fleet)
    values = keys_of(SOME, 5)
    await shop.fill(values)

    async def hook(_: int, what: str, done: bool) -> None:
        if not done:
            user = names.user_of(names.USER_REPLICATION, 0)
            await as_operator(fleet.cluster["n1"], "ACL", "SETUSER", user, less)

    with pytest.raises(NodeRefused, match="did not move"):
        await move_slots(await shop.action(SOME, 0, 1), shop.context(Counting(hook, atomic=True)))
    assert await shop.stored() == values


@able
async def test_a_failure_is_told_in_the_engines_words_and_the_third_ends_the_attempts(fleet: Nodes) -> None:
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
    assert await shop.move(SOME, 0, 1) == len(values)
    assert len(await source.migrations()) == GIVE_UP_AFTER
    assert await shop.stored() == values


@able
async def test_below_the_fixed_release_it_is_used_without_io_threads_alone(fleet: Nodes) -> None:
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
