"""A replica loses its link long before its primary's process ends: what was written since is kept."""

from collections.abc import Iterator

import pytest

from tests.simulation.engine.network import Port
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World

BEHIND_SECONDS = 150.0
"""Longer than Valkey's own election would still accept such a replica: it gives its silent link up after a minute
(repl-timeout), and may have been without one for another (cluster-replica-validity-factor).
"""


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def behind(world: World) -> None:
    """The first shard's primary writes alone: no stream reaches a replica, whose bus is heard."""
    primary = world.primary(0)
    replica = next(b for b in world.boxes("cart") if b.key.name.startswith("cart-0-") and b is not primary)
    assert primary.ip
    assert replica.ip
    for one, other in ((primary.ip, replica.ip), (replica.ip, primary.ip)):
        world.network.cut(one, other, (Port.CLIENT,))
    world.wait(BEHIND_SECONDS)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1)], ids=str)
def test_s1_s5_a_log_on_a_volume_outlives_a_replica_that_is_behind(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape, persistence=PERSISTENT["AppendOnly"])
    before = world.primary(0).key
    behind(world)
    world.kubelets.kill(world.primary(0))
    world.wait(1)
    world.network.heal()
    running.recovers(180)
    assert not world.watch.losses
    assert world.primary(0).key == before


def test_s1_in_memory_the_newest_copy_goes_on_and_it_is_told(world: World) -> None:
    running = Running(world, (3, 1))
    behind(world)
    world.kubelets.kill(world.primary(0))
    world.wait(1)
    world.network.heal()
    running.recovers(180)
    assert any(" has the newest copy that is left" in line for line in world.trace)
