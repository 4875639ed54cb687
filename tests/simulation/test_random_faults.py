"""Schedules of everything that can go wrong at once: the rules hold after every step, what must not be lost is not, and
the cluster becomes whole when it is over. What may be lost by what is said in docs/durability.md.
"""

import random
from typing import Any, Final

import pytest

from cachecluster.api import names
from tests.simulation.conftest import Seeds
from tests.simulation.operating.clients import JUST_NOW_SECONDS
from tests.simulation.schedules import version_of
from tests.simulation.sieges import SIEGES
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.troubles import HARMLESS, SEPARATING, Scene
from tests.simulation.world import World

SETTLED_SECONDS: Final = 600.0
AFTERWARDS_SECONDS: Final = 3.0
PARTING: Final = 4
"""Of so many schedules all but one part nodes from each other."""


def random_cluster(chance: random.Random) -> tuple[tuple[int, int], dict[str, Any]]:
    """Shape and the rest of a spec. Larger ones less often: they take longer."""
    shape = chance.choices(range(1, 7), (4, 4, 8, 2, 1, 1))[0], chance.choices(range(3), (1, 5, 4))[0]
    more: dict[str, Any] = {
        "persistence": PERSISTENT.get(chance.choice(("None", "None", *PERSISTENT)), {"mode": "None"})
    }
    if shape[1] == 2 and chance.random() < 0.5:
        more["durability"] = {"mode": "AtLeastOneReplica"}
    if chance.random() < 0.5:
        more["placement"] = {"nodeLossGraceSeconds": chance.choice((10, 20))}
    return shape, more


def _schedule(seed: int, world: World) -> None:
    chance = random.Random(seed)  # noqa: S311
    shape, more = random_cluster(chance)
    world.kubelets.reuse_addresses = False
    world.note(f"{shape} {more}")
    running = Running(world, shape, version=version_of(seed), **more)
    parting = HARMLESS + SEPARATING + 2 * SIEGES
    began = world.loop.time()
    scene = Scene(world, running.ref, chance)
    for _ in range(chance.randint(3, 9)):
        scene.begin(chance.choice(parting if seed % PARTING else HARMLESS), chance.choice((1, 4, 12, 12, 20, 40)))
        world.wait(chance.choice((0.05, 0.5, 2.0, 6.0, 12.0)))
    while world.loop.time() < scene.over_at:
        world.wait(scene.over_at - world.loop.time())
    world.wait(AFTERWARDS_SECONDS)
    world.annotate(running.ref, names.ANNOTATION_FAILOVER, None)  # its pod may be gone by now
    world.calm()
    world.wake_all()
    world.wait(10)
    running.recovers(SETTLED_SECONDS)
    settled = world.history.acknowledged_before((scene.parted_at or began) - JUST_NOW_SECONDS)
    kept = [loss for loss in world.watch.losses if loss.token not in world.watch.thrown_away]
    gone = [loss for loss in kept if scene.parted_at is None or loss.token in settled]
    assert not gone, world.report(f"lost: {gone[0]}")


@pytest.mark.share(0.025, whole_from=10_000)
def test_random_fault_schedules(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"faults {seed}") as world:
            _schedule(seed, world)
