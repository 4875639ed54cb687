"""The leader freezes in the middle of a failover, and wakes up beside a successor that has carried it through."""

from typing import Any

import pytest

from tests.simulation.engine.node import Node
from tests.simulation.test_faults import Running
from tests.simulation.world import World

STEP_SECONDS = 0.016
"""A promotion takes about ten of them, from the end of the process to the writes of its successor."""


@pytest.mark.parametrize("moment", range(12))
@pytest.mark.parametrize("shape", [(3, 1), (1, 1)], ids=str)
def test_s10_leader_frozen_in_a_promotion_changes_nothing_when_it_thaws(shape: tuple[int, int], moment: int) -> None:
    with World(moment) as world:
        running = Running(world, shape)
        box, stuck = world.primary(0), world.leader["cart"]
        world.kubelets.kill(box)
        world.wait(STEP_SECONDS * moment)
        world.replace_stuck_leader(running.ref, seconds=2.0 + moment % 3)
        successor, known = world.leader["cart"], world.watch.living("cart")
        late: list[str] = []

        def note(node: Node, name: str, arguments: tuple[Any, ...]) -> None:
            if successor.passes > 1 and node in known:
                late.append(f"{name} on {node.ip}")
            world.watch.command(node, name, arguments)

        stuck.way.before_command = note
        world.wait(6)  # it has thawed by then
        running.recovers()
        assert not late, late
        assert world.primary(0).key != box.key
        assert not world.watch.losses


@pytest.mark.parametrize("moment", range(4))
def test_leader_frozen_in_a_pass_does_not_write_over_the_status_when_it_thaws(moment: int) -> None:
    with World(moment) as world:
        running = Running(world)
        stuck = world.leader["cart"]
        world.wake_all()
        world.wait(0.004 * (1 + moment))
        world.replace_stuck_leader(running.ref, seconds=5.0)
        replica = next(b for b in world.boxes("cart") if b.node is not None and not b.node.me.primary)
        world.cut_off(replica)
        world.wait(4.9)
        written = sum(f"op{stuck.number} status" in line for line in world.trace)
        world.wait(4)
        assert sum(f"op{stuck.number} status" in line for line in world.trace) == written
        world.network.heal()
        running.recovers()
