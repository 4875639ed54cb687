"""Elections that the operator has no part in, and that end none of its connections."""

from collections.abc import Iterator

import pytest

from cachecluster.api import names
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.schedules import VERSIONS
from tests.simulation.test_failover import until_replaced
from tests.simulation.test_faults import Running
from tests.simulation.world import World

NOTICE_SECONDS = 40.0
"""A question every five seconds to one of six nodes, of which one has not heard of the election."""


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Any."""
    with World(request.param) as world:
        yield world


@pytest.mark.parametrize("version", VERSIONS)
def test_an_election_is_noticed_though_the_operator_hears_the_old_primary_all_the_time(
    world: World, version: str
) -> None:
    running = Running(world, (3, 1), version=version)
    running.recovers()
    old = world.primary(0)
    world.partitioned = True
    world.network.isolate(old.ip or "", {b.ip for b in world.boxes("cart") if b is not old and b.ip is not None})
    until_replaced(world, old)
    heir = next(b for b in world.boxes("cart") if b is not old and b.key.name.startswith("cart-0-"))
    world.until(lambda: role_of(world, heir) == "primary", "the heir is called the primary", NOTICE_SECONDS)
    world.until(lambda: role_of(world, old) != "primary", "the old one is called so no more", NOTICE_SECONDS)
    world.network.heal()
    running.recovers()
    assert role_of(world, old) == "replica"


def role_of(world: World, box: Sandbox) -> str | None:
    """The label that the operator gives."""
    pod = world.store.look(box.key)
    return pod["metadata"]["labels"].get(names.LABEL_ROLE) if pod is not None else None
