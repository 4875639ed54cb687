"""Many troubles one after another, the operator's own death among them."""

import random

import pytest

from tests.simulation import events
from tests.simulation.conftest import Seeds
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import random_shape, version_of
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World


def _befall(seed: int, choice: tuple[events.Event, ...], gap: tuple[float, float], **more: object) -> None:
    chance = random.Random(seed)  # noqa: S311
    with World(seed) as world:
        world.kubelets.reuse_addresses = events.delete_all_pods not in choice
        running = Running(world, random_shape(chance, replicas=True), version=version_of(seed), **more)
        world.disturb(Faults(crash=chance.choice((0, 0.05)), lost_reply=0.05, stale_list=0.1, conflict=0.02))
        for _ in range(chance.randint(2, 5)):
            chance.choice(choice)(world, running.ref, chance)
            world.wait(chance.uniform(*gap))
        world.calm()
        world.wait(40)
        running.recovers(600)


@pytest.mark.share(0.03)
def test_gentle_faults_far_apart_lose_nothing_that_a_copy_still_has(seeds: Seeds) -> None:
    for seed in seeds:
        _befall(seed, events.GENTLE, (20, 45))


@pytest.mark.share(0.03)
def test_gentle_faults_in_a_row(seeds: Seeds) -> None:
    for seed in seeds:
        _befall(seed, events.GENTLE, (0.1, 12))


@pytest.mark.share(0.03)
def test_machines_and_networks_fail(seeds: Seeds) -> None:
    for seed in seeds:
        _befall(seed, events.BLUNT, (0.1, 20))


@pytest.mark.share(0.03)
def test_rough_faults_with_append_only_files(seeds: Seeds) -> None:
    for seed in seeds:
        _befall(seed, events.ROUGH, (0.1, 20), persistence=PERSISTENT["AppendOnly"])


@pytest.mark.share(0.03)
def test_rough_faults_without_persistence(seeds: Seeds) -> None:
    for seed in seeds:
        _befall(seed, events.ROUGH, (0.1, 20))
