"""Shards are added to a running cluster and taken away under load: no write is lost, and nobody else restarts."""

import random
from collections.abc import Iterator

import pytest

from tests.simulation.conftest import Seeds
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import version_of
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World

SETTLED_SECONDS = 600.0


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.node.name) as world:
        yield world


def scale(running: Running, shards: int) -> None:
    """kubectl scale."""
    running.world.edit(running.ref, lambda spec: spec["topology"].update(shards=shards))


def resharding(running: Running) -> bool:
    """Whether slots of the cluster are moving."""
    status = running.world.cluster(running.ref).get("status", {})
    return "resharding" in status


def assert_shared_evenly(world: World) -> None:
    """Every shard owns as many slots as any other, or one more."""
    sizes = [len(n.me.slots) for n in world.watch.living("cart") if n.me.primary and n.me.slots]
    assert max(sizes) - min(sizes) <= 1, sizes


@pytest.mark.parametrize(
    ("version", "before", "after"),
    [
        *(("8.1", 3, 6), ("8.1", 6, 3), ("8.0", 3, 1), ("8.0", 1, 3), ("8.1", 5, 4), ("8.0", 2, 3)),
        *(("9.1", 3, 6), ("9.1", 6, 3), ("9.1", 3, 1), ("9.1", 1, 3)),
    ],
)
def test_slots_and_keys_follow_the_number_of_shards(world: World, version: str, before: int, after: int) -> None:
    running = Running(world, (before, 1), version=version)
    pods = running.pods()
    scale(running, after)
    running.recovers(SETTLED_SECONDS)
    assert len(running.pods()) == after * 2
    assert all(uid == pods[name] for name, uid in running.pods().items() if name in pods)
    assert_shared_evenly(world)
    assert not world.watch.losses


def shares_of_keys(world: World) -> list[float]:
    """How much of all keys each shard has, most first."""
    keys = [n.keys for n in world.watch.living("cart") if n.me.primary and n.me.slots]
    return sorted((k / sum(keys) for k in keys), reverse=True)


@pytest.mark.parametrize("version", ["8.1", "9.1"])
def test_slots_that_hold_much_do_not_all_go_to_the_same_shard(world: World, version: str) -> None:
    """Applications write to the first and the last slot of each shard; by number, the new one gets all of the last."""
    running = Running(world, (3, 1), version=version)
    world.wait(40)
    scale(running, 4)
    running.recovers(SETTLED_SECONDS)
    assert_shared_evenly(world)
    assert shares_of_keys(world)[0] < 0.4
    assert not world.watch.losses


@pytest.mark.parametrize("version", ["8.1", "9.1"])
def test_there_and_back_again(world: World, version: str) -> None:
    running = Running(world, (3, 1), version=version)
    for shards in (6, 3):
        scale(running, shards)
        running.recovers(SETTLED_SECONDS)
        assert_shared_evenly(world)
    assert not world.watch.losses


@pytest.mark.parametrize(("version", "after"), [("8.1", 1), ("8.0", 2), ("8.1", 3), ("8.1", 5), ("9.1", 1), ("9.1", 3)])
def test_another_edit_in_the_middle_is_picked_up(world: World, version: str, after: int) -> None:
    running = Running(world, (3, 1), version=version)
    scale(running, 6)
    world.until(lambda: resharding(running), "slots are on their way", 30)
    scale(running, after)
    running.recovers(SETTLED_SECONDS)
    assert len(running.pods()) == after * 2
    assert_shared_evenly(world)
    assert not world.watch.losses


@pytest.mark.parametrize("mode", PERSISTENT)
def test_shards_with_volumes_go_and_come_back(world: World, mode: str) -> None:
    running = Running(world, (3, 1), persistence=PERSISTENT[mode])
    for shards in (2, 3):
        scale(running, shards)
        running.recovers(SETTLED_SECONDS)
    assert not world.watch.losses


def test_shards_without_replicas(world: World) -> None:
    running = Running(world, (2, 0))
    for shards in (4, 1, 2):
        scale(running, shards)
        running.recovers(SETTLED_SECONDS)
    assert not world.watch.losses


@pytest.mark.share(0.015)
def test_scaling_under_crashes_and_losses(seeds: Seeds) -> None:
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        with World(seed) as world:
            running = Running(world, (chance.randint(1, 4), chance.randint(0, 2)), version=version_of(seed))
            faults = Faults(crash=chance.choice((0.02, 0.1)), lost_reply=0.1, lost_request=0.02, stale_list=0.1)
            world.disturb(faults)
            for _ in range(chance.randint(1, 3)):
                scale(running, chance.randint(1, 6))
                world.wait(chance.uniform(1, 25))
            world.calm()
            running.recovers(SETTLED_SECONDS)
            assert_shared_evenly(world)
            assert not world.watch.losses


@pytest.mark.parametrize("version", ["8.1", "9.1"])
def test_more_shards_than_there_is_room_for_are_taken_back(world: World, version: str) -> None:
    """Their pods have never come up, and nobody waits for them to answer."""
    running = Running(world, (2, 1), version=version)
    pods = running.pods()
    for name in world.hosts.by_name:
        world.hosts.cordon(name)
    scale(running, 4)
    world.until(lambda: world.condition(running.ref, "Stalled") == "True", "no place is found", 60)
    scale(running, 2)
    world.until(lambda: len(world.boxes("cart")) == 4 and len(list(running.pods())) == 4, "they go", 60)
    for name in world.hosts.by_name:
        world.hosts.cordon(name, on=False)
    world.wake_all()
    running.recovers(SETTLED_SECONDS)
    assert running.pods() == pods
    assert not world.watch.losses
