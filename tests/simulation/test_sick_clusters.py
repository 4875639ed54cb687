"""A cluster that is as sick as can be costs little, and another one nothing (S13). How long a pass may take is an
invariant of every simulation.
"""

import pytest

from tests.simulation.schedules import spec
from tests.simulation.test_faults import Running
from tests.simulation.world import World

WATCHED_SECONDS = 120


def _make_sick(world: World, how: str) -> None:
    for box in world.boxes("cart"):
        match how:
            case "hangs":
                if box.node is not None:
                    box.node.freeze()
            case "cut off":
                world.cut_off(box)


@pytest.mark.parametrize("how", ["hangs", "cut off"])
def test_s13_a_sick_cluster_is_looked_at_now_and_then(how: str) -> None:
    with World(f"sick {how}") as world:
        running = Running(world, (3, 1))
        _make_sick(world, how)
        operator = world.leader["cart"]
        world.wait(20)
        passes, requests = operator.passes, operator.way.requests
        world.wait(WATCHED_SECONDS)
        assert 3 < operator.passes - passes < WATCHED_SECONDS
        assert operator.way.requests - requests < WATCHED_SECONDS
        assert world.exists(running.ref)


@pytest.mark.parametrize("how", ["hangs", "cut off"])
def test_s13_another_cluster_is_looked_after_beside_a_sick_one(how: str) -> None:
    with World(f"sick beside {how}") as world:
        Running(world, (3, 1))
        _make_sick(world, how)
        other = world.create(spec((3, 1)), "till")
        world.converge(other, 60)
        box = world.primary(0, "till")
        world.kubelets.kill(box)
        siblings = [b for b in world.boxes("till") if b.key.name.startswith("till-0-") and b is not box]
        world.until(lambda: any(b.node is not None and b.node.me.primary for b in siblings), "another leads", 5)
        world.check()
