"""A copy of the data that takes long is waited for, and nothing else waits with it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from cachecluster.domain.policies.rollout import STALL_SECONDS
from tests.simulation import events
from tests.simulation.engine.node import Node
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.test_faults import Running
from tests.simulation.world import World

SYNC_SECONDS = 1300.0
"""On average; never less than half of it, which is longer than a roll waits for a pod that does nothing."""


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.node.name) as world:
        world.server.resources.clear()  # no pods/resize: every edit of the template is a roll
        yield world


def slow_down(world: World, pod: str) -> None:
    """From its next start on, a full sync of the pod takes long."""

    def started(box: Sandbox, node: Node) -> None:
        if box.key.name == pod:
            node.config = replace(node.config, sync_seconds=SYNC_SECONDS)

    world.kubelets.on_node.append(started)


def rolling(world: World, shards: int) -> tuple[Running, Node]:
    """A roll has come to its first pod, which copies its primary's data for long."""
    running = Running(world, (shards, 1))
    slow_down(world, "cart-0-1")
    world.edit(running.ref, lambda spec: spec["resources"]["limits"].update(memory="512Mi"))
    box = next(b for b in world.boxes("cart") if b.key.name == "cart-0-1")
    if box.node is not None and box.node.me.primary:
        raise AssertionError("the roll begins with a replica")

    def copies() -> bool:
        found = world.kubelets.of("cart-0-1")
        return found is not None and found is not box and found.node is not None and found.node.repl.syncing

    world.until(copies, "cart-0-1 copies its data", 60)
    found = world.kubelets.of("cart-0-1")
    assert found is not None
    assert found.node is not None
    return running, found.node


def leads(world: World, shard: int, box: Sandbox) -> bool:
    """Another one than ``box`` leads the shard."""
    boxes = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-") and b is not box]
    return any(b.node is not None and b.node.me.primary and b.node.me.slots for b in boxes)


def message(running: Running) -> str:
    return str(running.world.cluster(running.ref)["status"]["message"])


def test_s7_a_roll_waits_for_a_slow_sync_and_says_so(world: World) -> None:
    running, node = rolling(world, 2)
    attempt, before = node.repl.attempt, running.pods()
    for seconds in (100, STALL_SECONDS - 60):
        world.wait(seconds)
        assert (node.alive, node.repl.syncing, node.repl.attempt) == (True, True, attempt)
        assert running.pods() == before
        assert "cart-0-1" in message(running)
        assert "MiB so far" in message(running)
        assert world.condition(running.ref, "Stalled") == "False"
    world.until(lambda: not node.repl.syncing, "the sync ends", 2 * SYNC_SECONDS)
    assert node.repl.attempt == attempt
    running.recovers(400)
    assert not before.items() & {n: u for n, u in running.pods().items() if n != "cart-0-1"}.items()
    assert not world.watch.losses


def test_other_shards_are_looked_after_meanwhile(world: World) -> None:
    running, node = rolling(world, 3)
    attempt = node.repl.attempt
    lost = world.primary(1)
    world.kubelets.kill(lost)
    world.until(lambda: leads(world, 1, lost), "another one leads shard 1", 30)
    world.until(lambda: lost.node is not None and lost.node.repl.up, "the old one follows it", 60)
    led = world.primary(2)
    world.edit(running.ref, lambda spec: spec.update(parameters={"hz": 50}))
    world.until(
        lambda: all(b.node is None or b.node.parameters["hz"] == "50" for b in world.boxes("cart")), "hz is set", 30
    )
    world.store.delete(events.children(world, running.ref, "PodDisruptionBudget")[0])
    world.until(lambda: len(events.children(world, running.ref, "PodDisruptionBudget")) == 4, "it comes back", 30)
    world.annotate(running.ref, "cachecluster.dev/failover-from", f"{led.key.name}@1")
    world.until(lambda: leads(world, 2, led), "another one leads shard 2", 30)
    assert (node.repl.syncing, node.repl.attempt) == (True, attempt)
    assert not world.watch.losses
