"""Replicas are added to a running cluster and taken away: no write is lost, and nobody else restarts."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.simulation.operating.faults import Faults
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def _wants(running: Running, replicas: int) -> None:
    running.world.edit(running.ref, lambda spec: spec["topology"].update(replicasPerShard=replicas))


def _assert_others_untouched(before: dict[str, str], after: dict[str, str]) -> None:
    assert all(after[name] == before[name] for name in before.keys() & after.keys())


@pytest.mark.parametrize(("shape", "wanted"), [((1, 0), 2), ((3, 1), 2), ((2, 1), 3)], ids=str)
def test_added_replicas_join_and_nobody_restarts(world: World, shape: tuple[int, int], wanted: int) -> None:
    running = Running(world, shape)
    before = running.pods()
    _wants(running, wanted)
    running.recovers()
    after = running.pods()
    assert len(after) == shape[0] * (1 + wanted)
    _assert_others_untouched(before, after)
    assert not world.watch.losses


@pytest.mark.parametrize(("shape", "wanted"), [((1, 2), 1), ((3, 2), 1), ((3, 1), 0), ((2, 2), 0)], ids=str)
def test_s6_removed_replicas_take_nothing_with_them(world: World, shape: tuple[int, int], wanted: int) -> None:
    """Also where the one that goes is the primary at that moment."""
    running = Running(world, shape)
    world.kubelets.kill(world.primary(0))
    running.recovers()
    before = running.pods()
    _wants(running, wanted)
    running.recovers(200)
    after = running.pods()
    assert len(after) == shape[0] * (1 + wanted)
    _assert_others_untouched(before, after)
    assert not world.watch.losses


def test_s7_nothing_is_removed_while_who_stays_is_behind(world: World) -> None:
    running = Running(world, (2, 2))
    staying = next(b for b in world.boxes("cart") if b.key.name == "cart-1-1")
    world.network.cut("operator", staying.ip or "")
    _wants(running, 1)
    world.wait(30)
    assert len(world.boxes("cart")) == 6
    world.calm()
    running.recovers(200)
    assert len(world.boxes("cart")) == 4


@pytest.mark.parametrize("crash", [0.05, 0.3])
def test_edits_to_and_fro_under_crashes_of_the_operator(world: World, crash: float) -> None:
    running = Running(world, (3, 1))
    world.disturb(Faults(crash=crash, lost_reply=0.1, stale_list=0.2, conflict=0.05))
    for wanted in (2, 1, 3, 1):
        _wants(running, wanted)
        world.wait(7)
    world.calm()
    running.recovers(400)
    assert len(world.boxes("cart")) == 6
    assert not world.watch.losses


@pytest.mark.parametrize("mode", PERSISTENT)
def test_replicas_with_volumes_go_and_come_back(world: World, mode: str) -> None:
    """A replica that comes back to its old volume starts under its old id, with old data, and is synced anew."""
    running = Running(world, (2, 2), persistence=PERSISTENT[mode])
    _wants(running, 1)
    running.recovers(200)
    world.wait(5)
    _wants(running, 2)
    running.recovers(200)
    assert not world.watch.losses


@pytest.mark.parametrize(("policy", "left"), [("Delete", 4), ("Retain", 6), (None, 6)])
def test_s6_volumes_of_removed_replicas_go_only_by_policy(world: World, policy: str | None, left: int) -> None:
    more = {"deletionPolicy": policy} if policy else {}
    running = Running(world, (2, 2), persistence=PERSISTENT["AppendOnly"], **more)
    _wants(running, 1)
    running.recovers(200)
    assert len(world.store.select("PersistentVolumeClaim", running.ref.namespace)) == left


def test_template_and_replicas_edited_at_once(world: World) -> None:
    running = Running(world, (2, 2))

    def change(spec: dict[str, Any]) -> None:
        spec["topology"].update(replicasPerShard=1)
        spec["resources"]["limits"].update(memory="512Mi")

    world.edit(running.ref, change)
    running.recovers(400)
    assert len(world.boxes("cart")) == 4
    assert not world.watch.losses
