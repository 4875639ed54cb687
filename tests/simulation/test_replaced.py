"""A primary that has been replaced and has not heard of it: it takes no write, whoever of the two can be asked."""

from collections.abc import Iterator

import pytest

from tests.simulation.engine.network import OPERATOR, Port
from tests.simulation.test_failover import until_replaced
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.test_fence import asking, fences, replicas
from tests.simulation.world import World


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(f"replaced {request.param}") as world:
        yield world


def test_s10_who_was_replaced_and_has_not_heard_of_it_goes_on_refusing_writes(world: World) -> None:
    """The operator reaches it again, and its successor does not; that neither takes a write is an invariant."""
    running = Running(world, (1, 1))
    box, (heir,) = world.primary(0), replicas(world)
    world.cut_off(box)
    until_replaced(world, box)
    world.network.mend(OPERATOR, box.ip or "")
    world.network.mend(box.ip or "", OPERATOR)
    world.wait(30)
    assert {box.key.name, heir.key.name} & asking(world) == {box.key.name}
    world.network.heal()
    running.recovers()


def test_s10_who_comes_back_with_its_volume_and_cannot_hear_of_its_successor_refuses_writes(world: World) -> None:
    """Only the bus is cut, so that the operator reaches both and no node can tell it."""
    running = Running(world, (1, 1), persistence=PERSISTENT["AppendOnly"])
    box, (heir,) = world.primary(0), replicas(world)
    world.partitioned = True
    world.network.isolate(box.ip or "", {heir.ip or ""}, (Port.BUS,))
    world.kubelets.kill(box)
    until_replaced(world, box)
    world.until(lambda: asking(world) == {box.key.name}, "it asks for a replica, and has none", 60)
    world.wait(30)
    assert asking(world) == {box.key.name}
    world.network.heal()
    running.recovers()


@pytest.mark.parametrize("leader", ["the same operator", "another operator"])
def test_s10_nor_does_it_take_writes_while_its_successor_cannot_be_asked(world: World, leader: str) -> None:
    """The cut comes to run between the operator and the successor."""
    running = Running(world, (1, 1))
    box, (heir,) = world.primary(0), replicas(world)
    world.cut_off(box)
    until_replaced(world, box)
    world.network.isolate(heir.ip or "", {OPERATOR})
    world.network.mend(OPERATOR, box.ip or "")
    world.network.mend(box.ip or "", OPERATOR)
    if leader == "another operator":
        world.kill_operator(running.ref)
    world.wait(30)
    assert box.key.name in asking(world)
    world.network.heal()
    running.recovers()
    assert len(fences(world)) == 1


def test_s10_nor_while_its_successor_is_down_and_may_come_back(world: World) -> None:
    running = Running(world, (1, 1), persistence=PERSISTENT["AppendOnly"])
    box, (heir,) = world.primary(0), replicas(world)
    world.cut_off(box)
    until_replaced(world, box)
    world.wait(3)
    world.power_off(heir.host)
    world.wait(10)
    world.network.heal()
    world.power_on(heir.host)
    world.wait(5)
    running.recovers(200)
    assert not world.watch.leading.beside


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1)], ids=str)
def test_s5_who_comes_back_with_its_volume_while_its_successor_is_down_takes_no_write(
    world: World, shape: tuple[int, int]
) -> None:
    """It has learnt from its successor's client port that it is replaced, and finds nobody at the bus port."""
    running = Running(world, shape, persistence=PERSISTENT["AppendOnly"])
    box, (heir,) = world.primary(0), replicas(world)
    world.partitioned = True
    for other in world.boxes("cart"):
        if other is not box:
            world.network.isolate(box.ip or "", {other.ip or ""}, (Port.BUS,))
    world.kubelets.kill(box)
    until_replaced(world, box)
    world.until(lambda: box.node is not None and box.node.alive, "its process has started", 60)
    world.power_off(heir.host)
    before = len(world.history.acked)
    world.network.heal()
    world.wait(10)
    assert not world.watch.leading.beside
    world.power_on(heir.host)
    world.wait(5)
    running.recovers(300)
    assert len(world.history.acked) > before
    assert not world.watch.losses


@pytest.mark.parametrize("persistence", [None, *PERSISTENT])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 1)], ids=str)
def test_s10_whoever_takes_over_gets_a_newer_epoch(
    world: World, shape: tuple[int, int], persistence: str | None
) -> None:
    """Else the old primary would take no other node's word for it (Valkey cluster_legacy.c, UPDATE messages)."""
    Running(world, shape, **({} if persistence is None else {"persistence": PERSISTENT[persistence]}))
    nodes = [box.node for box in world.boxes("cart") if box.node is not None]
    leading = {n.me.config_epoch for n in nodes if n.me.primary}
    assert min(leading) > max(n.me.config_epoch for n in nodes if not n.me.primary)
