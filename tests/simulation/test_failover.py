"""How soon a lost primary is replaced, and what looks like a loss and is none."""

from collections.abc import Iterator

import pytest

from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.schedules import VERSIONS
from tests.simulation.test_faults import Running
from tests.simulation.world import World

PROCESS_SECONDS = 0.25
"""From the end of a primary's process to its successor; a request takes 1 to 7 ms here."""


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Its kubelets are slow to tell that a container has ended: until it starts again."""
    with World(request.param) as world:
        world.kubelets.report_delay = 20.0
        yield world


def promotions(world: World) -> list[str]:
    """Commands that made a replica a primary."""
    return [line for line in world.trace if " failover " in line]


def until_replaced(world: World, box: Sandbox, shard: int = 0) -> float:
    """Seconds until another node leads the shard."""
    began = world.loop.time()
    while True:
        leaders = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-") and b is not box]
        if any(b.node is not None and b.node.me.primary and b.node.me.slots for b in leaders):
            return world.loop.time() - began
        assert world.loop.time() - began < 60, world.report("nobody leads the shard")
        world.wait(0.005)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1), (3, 2)], ids=str)
def test_killed_primary_is_replaced_before_its_kubelet_reports(
    world: World, shape: tuple[int, int], version: str
) -> None:
    running = Running(world, shape, version=version)
    box = world.primary(0)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS
    running.recovers()
    assert not world.watch.losses


def test_two_primaries_killed_at_once_are_replaced_without_a_quorum(world: World) -> None:
    running = Running(world)
    boxes = [world.primary(0), world.primary(1)]
    for box in boxes:
        world.kubelets.kill(box)
    assert max(until_replaced(world, box, shard) for shard, box in enumerate(boxes)) < 2 * PROCESS_SECONDS
    running.recovers()
    assert not world.watch.losses


def test_killed_primary_is_replaced_while_a_sibling_is_out_of_reach(world: World) -> None:
    running = Running(world, (3, 2))
    box = world.primary(0)
    sibling = next(b for b in world.boxes("cart") if b.key.name.startswith("cart-0-") and b is not box)
    world.network.cut("operator", sibling.ip or "")
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS + 0.3
    world.network.heal()
    running.recovers()


def test_killed_primary_is_replaced_while_the_operator_backs_off(world: World) -> None:
    running = Running(world)
    world.leader["cart"].way.api_down = True
    world.wake_all()
    world.wait(30)
    world.leader["cart"].way.api_down = False
    box = world.primary(0)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS
    running.recovers()
    assert not world.watch.losses


def test_s1_hanging_up_on_the_operator_is_no_death(world: World) -> None:
    """CLIENT KILL USER, or an ACL file that is loaded anew."""
    running = Running(world)
    for box in world.boxes("cart"):
        assert box.node is not None
        box.node.operator_sessions += 1
    world.wait(5)
    assert not promotions(world)
    box = world.primary(0)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS
    running.recovers()


def test_s1_a_primary_hidden_from_the_operator_alone_is_not_replaced(world: World) -> None:
    running = Running(world)
    world.network.cut("operator", world.primary(0).ip or "")
    world.wait(30)
    assert not promotions(world)
    world.network.heal()
    running.recovers()
