"""Anything that people may edit, in any order, taken back in the middle, while the operator dies around its actions.

Schedules of one world follow each other: what one of them has left behind is where the next one begins.
"""

import random
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

import pytest

from cachecluster.api import names
from cachecluster.api.durability import MIN_REPLICAS
from tests.simulation import events
from tests.simulation.conftest import Seeds
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import version_of
from tests.simulation.test_faults import Running
from tests.simulation.world import World

PER_WORLD: Final = 10
SHAPES: Final = ((1, 1), (2, 1), (1, 2))
POINTS: Final = 48
"""The operator dies before or after one of so many halves of its writes: two to each."""
SETTLED_SECONDS: Final = 400.0


def rescale(spec: dict[str, Any], chance: random.Random) -> None:
    """Another number of shards."""
    spec["topology"]["shards"] = chance.choice((1, 2, 2, 3))


def more_or_fewer_copies(spec: dict[str, Any], chance: random.Random) -> None:
    """Another number of replicas; at least one, so that every write has a copy."""
    spec["topology"]["replicasPerShard"] = count = chance.randint(1, 2)
    if count < MIN_REPLICAS:  # else the API server refuses it
        spec.pop("durability", None)


def other_durability(spec: dict[str, Any], chance: random.Random) -> None:
    """Writes ask for a replica, or do not any more."""
    if spec.pop("durability", None) is None:
        spec["durability"] = {"mode": "AtLeastOneReplica"}
        spec["topology"]["replicasPerShard"] = MIN_REPLICAS


def other_image(spec: dict[str, Any], chance: random.Random) -> None:
    """The same engine from another registry, or from the usual one."""
    spec["image"] = chance.choice(("mirror.example", "example")) + f"/valkey:{spec['version']}"


def other_limit(spec: dict[str, Any], chance: random.Random) -> None:
    """More memory, or less."""
    spec["resources"]["limits"]["memory"] = chance.choice(("256Mi", "512Mi", "1Gi"))


def restarting_parameter(spec: dict[str, Any], chance: random.Random) -> None:
    """One that takes effect at a start, before Valkey 9."""
    spec.setdefault("parameters", {})["io-threads"] = chance.randint(1, 4)


def live_parameter(spec: dict[str, Any], chance: random.Random) -> None:
    """One that takes effect at once."""
    spec.setdefault("parameters", {})[chance.choice(("hz", "timeout"))] = chance.randint(1, 60)


def no_parameters(spec: dict[str, Any], chance: random.Random) -> None:
    """None of them any more."""
    spec.pop("parameters", None)


def pause(spec: dict[str, Any], chance: random.Random) -> None:
    """The operator is to leave it alone, or to go on."""
    spec["paused"] = not spec.get("paused", False)


EDITS: Final = (
    *(rescale, more_or_fewer_copies, live_parameter, live_parameter, no_parameters, pause),
    *(other_image, other_limit, restarting_parameter, other_durability),
)
REQUESTS: Final = (events.request_failover, events.request_failover, events.request_restart)


def _edit(running: Running, chance: random.Random) -> None:
    """One or two things at once; every third time taken back soon."""
    world, ref = running.world, running.ref
    before = deepcopy(world.cluster(ref)["spec"])
    picked = chance.sample(EDITS, chance.choice((1, 1, 2)))

    def change(spec: dict[str, Any]) -> None:
        for one in picked:
            one(spec, chance)

    def take_back(spec: dict[str, Any]) -> None:
        spec.clear()
        spec.update(before)

    world.edit(ref, change)
    if chance.random() < 1 / 3:
        world.wait(chance.choice((0.05, 0.5, 2.0, 6.0)))
        world.edit(ref, take_back)


def _schedule(seed: int, running: Running) -> None:
    """A few edits and requests, under faults of one kind or another; then everything as the last spec says."""
    chance, world = random.Random(seed), running.world  # noqa: S311
    trouble = Faults(lost_reply=0.1, stale_list=0.1, conflict=0.02)
    if seed % 2:
        way = world.leader[running.ref.name].way
        way.die_at = 2 * way.requests + seed // 2 % POINTS
    else:
        trouble = Faults(crash=chance.choice((0.05, 0.2)), lost_reply=0.1, lost_request=0.02, stale_list=0.2)
    world.disturb(trouble)
    for _ in range(chance.choice((1, 1, 2, 3))):
        if chance.random() < 0.25:
            chance.choice(REQUESTS)(world, running.ref, chance)
        else:
            _edit(running, chance)
        world.wait(chance.choice((0.05, 0.5, 2.0, 6.0)))
    world.edit(running.ref, lambda spec: spec.pop("paused", None))
    world.annotate(running.ref, names.ANNOTATION_FAILOVER, None)  # its pod may be gone by now
    world.calm()
    world.wake_all()  # who was told of a time before the last edit would look again at its resync only
    world.wait(3)
    running.recovers(SETTLED_SECONDS)
    assert not world.watch.losses, world.report(f"schedule {seed}: {world.watch.losses[0]}")


def _worlds(seeds: Seeds) -> Iterator[tuple[int, int]]:
    """First and last schedule of each world; a single one is led up to by those before it."""
    for first in range(seeds.first - seeds.first % PER_WORLD, seeds.last, PER_WORLD):
        yield first, min(first + PER_WORLD, seeds.last)


@pytest.mark.share(0.3)
def test_random_edits_converge_and_lose_nothing(seeds: Seeds) -> None:
    for first, last in _worlds(seeds):
        with World(f"edits {first}") as world:
            running = Running(world, SHAPES[first // PER_WORLD % 3], version=version_of(first // PER_WORLD))
            for seed in range(first, last):
                _schedule(seed, running)
