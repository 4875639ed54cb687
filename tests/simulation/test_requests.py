"""Failovers and restarts that people ask for: done once, no write lost, whatever happens to the operator meanwhile."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.plan import plan
from cachecluster.cli.kubectl_cache.screen import Screen
from cachecluster.cli.kubectl_cache.session import Session
from cachecluster.domain.requests import failover_request
from tests.simulation.operating.connector import Connector
from tests.simulation.operating.faults import NO_FAULTS, Faults, Interference
from tests.simulation.operating.kube import Kube
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World

CRASHES = Faults(crash=0.1, lost_reply=0.1, stale_list=0.2, conflict=0.05)


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def _ask(running: Running, pod: str, moment: str = "noon") -> str:
    """Ask the pod to stop being a primary."""
    request = failover_request(pod, moment)
    running.world.annotate(running.ref, names.ANNOTATION_FAILOVER, request)
    return request


def _handled(running: Running) -> str | None:
    """The request that the status confirms."""
    value: str | None = running.world.cluster(running.ref).get("status", {}).get("lastHandledFailover")
    return value


def _restart(running: Running, moment: str = "noon") -> None:
    running.world.annotate(running.ref, names.ANNOTATION_RESTARTED, moment)


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 2)], ids=str)
def test_requested_failover_loses_no_write_and_restarts_nobody(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    pods, leader = running.pods(), world.primary(0)
    request = _ask(running, leader.key.name)
    world.until(lambda: _handled(running) == request, "the status confirms the failover", 10)
    running.recovers()
    assert world.primary(0) is not leader
    assert running.pods() == pods
    assert not world.watch.losses


def test_request_that_was_carried_out_is_not_carried_out_again(world: World) -> None:
    running = Running(world)
    first = world.primary(0)
    request = _ask(running, first.key.name)
    running.recovers()
    world.kubelets.kill(world.primary(0))  # the role comes back, with the annotation still in its place
    running.recovers()
    assert world.primary(0) is first
    assert _handled(running) == request
    later = _ask(running, first.key.name, "later")
    running.recovers()
    assert world.primary(0) is not first
    assert _handled(running) == later


def test_requested_failover_under_crashes_of_the_operator(world: World) -> None:
    running = Running(world)
    leader = world.primary(1)
    world.disturb(CRASHES)
    request = _ask(running, leader.key.name)
    world.wait(20)
    world.calm()
    running.recovers(200)
    assert _handled(running) == request
    assert world.primary(1) is not leader
    assert not world.watch.losses


def test_s8_requested_failover_waits_for_the_replica(world: World) -> None:
    running = Running(world)
    leader = world.primary(0)
    follower = next(b for b in world.boxes("cart") if b.key.name.startswith("cart-0-") and b is not leader)
    world.store.delete(follower.key)
    world.wait(0.2)
    request = _ask(running, leader.key.name)
    running.recovers()
    assert _handled(running) == request
    assert not world.watch.losses


def test_requested_failover_in_the_middle_of_a_roll(world: World) -> None:
    running = Running(world)
    before = running.pods()
    _restart(running)
    for pause in (2, 3, 5):
        world.wait(pause)
        _ask(running, world.primary(0).key.name, f"after {pause}")
    running.recovers(500)
    assert not before.items() & running.pods().items()
    assert not world.watch.losses


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (2, 2)], ids=str)
def test_s7_s8_requested_restart_replaces_every_pod_and_loses_no_write(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    before = running.pods()
    _restart(running)
    running.recovers(400)
    assert not before.items() & running.pods().items()
    after = running.pods()
    world.annotate(running.ref, names.ANNOTATION_RESTARTED, None)
    running.recovers()
    assert running.pods() == after, "to take the request away restarted somebody"
    assert not world.watch.losses


def test_requested_restart_under_crashes_of_the_operator(world: World) -> None:
    running = Running(world)
    before = running.pods()
    world.disturb(CRASHES)
    _restart(running)
    world.wait(40)
    world.calm()
    running.recovers(400)
    assert not before.items() & running.pods().items()
    assert not world.watch.losses


@pytest.mark.parametrize("mode", PERSISTENT)
def test_requested_restart_with_volumes(world: World, mode: str) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT[mode])
    _restart(running)
    running.recovers(400)
    assert not world.watch.losses


def test_s8_requested_restart_of_sole_copies_needs_leave_of_its_own(world: World) -> None:
    running = Running(world, (1, 0))
    world.accept_loss(running.ref)  # for an edit of the spec; it was not meant for this
    before = running.pods()
    world.watch.loss_accepted = False
    _restart(running)
    world.wait(60)
    assert running.pods() == before
    assert world.condition(running.ref, "Stalled") == "True"
    world.accept_loss(running.ref)
    running.recovers(120)
    assert running.pods() != before


class TestPlan:
    """``kubectl cache plan`` runs the operator's own gather and planner, and leaves no trace."""

    def plan(self, running: Running) -> dict[str, Any]:
        world, out = running.world, io.StringIO()
        way = Interference(world.clock, NO_FAULTS, "somebody with kubectl")
        session = Session(
            kube=Kube(world.server, world.hosts, way),
            namespace=running.ref.namespace,
            screen=Screen(out, "json"),
            operator_namespace=world.operator_namespace,
            now=world.clock.now,
        )
        sessions = [n.operator_sessions for n in world.watch.living("cart")]
        assert world.loop.run_until_complete(plan(session, running.ref.name, Connector(world.network, way))) == 0
        assert way.writes == 0
        assert [n.operator_sessions for n in world.watch.living("cart")] == sessions, "the operator was disconnected"
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def test_of_a_converged_cluster_is_empty(self, world: World) -> None:
        found = self.plan(Running(world))
        assert (found["nodes"], found["unreachable"]) == (6, {})
        assert [found[part] for part in ("steps", "waits", "blocks")] == [[], [], []]

    def test_is_what_the_operator_does_next(self, world: World) -> None:
        running = Running(world)
        world.stop_operators()
        _restart(running)
        assert {step["action"] for step in self.plan(running)["steps"]} == {"Apply"}
        assert not [p for p in world.passwords if p in str(self.plan(running))]
        world.start_operator(running.ref)
        running.recovers(400)
