"""Edits that reach the pod template: one pod at a time, no write lost, and a way back from a bad one."""

from collections.abc import Iterator

import pytest

from cachecluster.domain.policies.rollout import STALL_SECONDS
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.kubernetes.statefulset import ready
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import spec
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        world.server.resources.clear()  # no pods/resize: every edit of the template is a roll
        yield world


def _new_template(running: Running, memory: str = "512Mi") -> None:
    running.world.edit(running.ref, lambda s: s["resources"]["limits"].update(memory=memory))


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (3, 2)], ids=str)
def test_s7_s8_roll_loses_no_write(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    before = running.pods()
    _new_template(running)
    running.recovers(400)
    assert all(uid != before[name] for name, uid in running.pods().items())
    assert not world.watch.losses


@pytest.mark.parametrize("mode", PERSISTENT)
def test_roll_with_volumes(world: World, mode: str) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT[mode])
    _new_template(running)
    running.recovers(400)
    assert not world.watch.losses


@pytest.mark.parametrize("crash", [0.05, 0.3])
def test_roll_under_crashes_of_the_operator(world: World, crash: float) -> None:
    running = Running(world)
    world.disturb(Faults(crash=crash, lost_reply=0.1, stale_list=0.2, conflict=0.05))
    _new_template(running)
    world.wait(40)
    world.calm()
    running.recovers(400)
    assert not world.watch.losses


def test_edited_again_in_the_middle_of_a_roll(world: World) -> None:
    running = Running(world)
    _new_template(running)
    world.wait(7)
    _new_template(running, "1Gi")
    world.wait(3)
    _new_template(running, "256Mi")
    running.recovers(500)
    assert not world.watch.losses


@pytest.mark.parametrize("kind", ["missing", "crashing"])
def test_s11_bad_image_stops_at_the_first_pod_and_goes_back(world: World, kind: str) -> None:
    running = Running(world)
    images = world.kubelets.bad_images if kind == "missing" else world.kubelets.crashing_images
    images.add("example/bad:8.1")
    before = running.pods()
    world.edit(running.ref, lambda s: s.update(image="example/bad:8.1"))
    world.wait(60)
    assert sum(uid != before[name] for name, uid in running.pods().items()) == 1
    assert world.condition(running.ref, "Stalled") == "True"
    assert world.condition(running.ref, "Ready") == "True"
    world.edit(running.ref, lambda s: s.pop("image"))
    running.recovers(300)
    assert not world.watch.losses


def test_s1_a_pod_of_a_revoked_template_that_is_only_hidden_from_the_operator_is_left_in_peace(world: World) -> None:
    running = Running(world)
    before = running.pods()
    _new_template(running)
    world.until(lambda: _replaced(running, before) is not None, "the first pod has the new template", 60)
    hidden = _replaced(running, before)
    assert hidden is not None
    world.network.cut("operator", hidden.ip or "")
    _new_template(running, "256Mi")
    world.wait(STALL_SECONDS + 60)
    assert running.pods()[hidden.key.name] == hidden.uid
    status = world.cluster(running.ref)["status"]
    assert status["reason"] == "NodeUnreachable"
    assert "its kubelet no longer reports it as ready" in status["message"]
    world.network.heal()
    running.recovers(400)
    assert not world.watch.losses


def _replaced(running: Running, before: dict[str, str]) -> Sandbox | None:
    """A pod that has come since and is ready."""
    boxes = running.world.boxes("cart")
    return next((b for b in boxes if b.ready and before.get(b.key.name) != b.uid), None)


@pytest.mark.parametrize("when", [3, 20])
def test_s11_pod_lost_during_a_stalled_roll_returns_with_the_old_template(world: World, when: int) -> None:
    running = Running(world, (2, 2))
    world.kubelets.bad_images.add("example/bad:8.1")
    _new_template(running)
    world.edit(running.ref, lambda s: s.update(image="example/bad:8.1"))
    world.wait(when)
    healthy = [b for b in world.boxes("cart") if b.node is not None and b.key.name.startswith("cart-0-")]
    world.store.delete(healthy[0].key)
    world.wait(40)
    pod = world.server.read("Pod", *healthy[0].key[1:])
    assert pod["spec"]["containers"][0]["image"] == "valkey/valkey:8.1"
    assert ready(pod)
    world.edit(running.ref, lambda s: s.pop("image"))
    running.recovers(300)
    assert not world.watch.losses


def test_bad_image_from_the_start_is_corrected(world: World) -> None:
    world.kubelets.bad_images.add("example/bad:8.1")
    ref = world.create(spec(image="example/bad:8.1"))
    world.wait(30)
    assert world.condition(ref, "Ready") != "True"
    world.edit(ref, lambda s: s.pop("image"))
    world.converge(ref, 60)


def test_s8_sole_copy_is_not_restarted_without_leave(world: World) -> None:
    running = Running(world, (1, 0))
    before = running.pods()
    _new_template(running)
    world.wait(60)
    assert running.pods() == before
    assert world.condition(running.ref, "Stalled") == "True"
    world.accept_loss(running.ref)
    running.recovers(120)
    assert running.pods() != before
