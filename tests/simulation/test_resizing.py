"""Memory limits change under a running cluster: no container restarts, maxmemory in the right order, and where it
cannot be done in place the pods are replaced one by one."""

from collections.abc import Iterator

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.quantity import to_bytes
from tests.simulation.conftest import Seeds
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.kubernetes.store import Key
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import VERSIONS, random_faults, random_shape
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import NAMESPACE, World

MIB = 2**20


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def limit(running: Running, memory: str) -> None:
    """The user's new limit."""
    running.world.edit(running.ref, lambda s: s["resources"]["limits"].update(memory=memory))


def watch_order(world: World) -> None:
    """At no moment may a node fill more than its share of the limit that is in force."""

    def check(key: Key, body: object) -> None:
        for box in world.boxes("cart"):
            node = box.node
            if node is None or box.resources is None:
                continue
            most = to_bytes(box.resources["limits"]["memory"]) * 60 // 100
            if int(node.parameters["maxmemory"]) > most:
                world.violate("memory", f"{box.key.name}: maxmemory {node.parameters['maxmemory']}, at most {most}")

    world.store.watchers.append(check)


def maxmemory(box: Sandbox) -> int:
    """In bytes."""
    assert box.node is not None
    return int(box.node.parameters["maxmemory"])


@pytest.mark.parametrize("mode", [None, *PERSISTENT])
@pytest.mark.parametrize("version", VERSIONS)
def test_up_and_down_without_a_restart(world: World, mode: str | None, version: str) -> None:
    more = {"persistence": {**PERSISTENT[mode], "size": "4Gi"}} if mode else {}
    running = Running(world, (2, 1), version=version, **more)
    before = running.pods()
    watch_order(world)
    for memory in ("1Gi", "512Mi", "2Gi"):
        limit(running, memory)
        running.recovers(60)
        assert running.pods() == before
        assert {maxmemory(b) for b in world.boxes("cart")} == {to_bytes(memory) * 60 // 100}
        assert {b.restarts for b in world.boxes("cart")} == {0}
    assert world.cluster(running.ref)["status"]["pendingModifications"] == []
    box = world.primary(0)
    world.store.delete(box.key)
    running.recovers(60)
    [again] = [b for b in world.boxes("cart") if b.key == box.key]
    assert again.resources == {"limits": {"memory": "2Gi"}, "requests": {"memory": "2Gi"}}
    assert not world.watch.losses


def test_a_lone_primary_without_persistence_keeps_its_data(world: World) -> None:
    running = Running(world, (3, 0))
    before = running.pods()
    limit(running, "1Gi")
    running.recovers(60)
    assert running.pods() == before
    assert not world.watch.losses


def test_a_container_that_restarts_has_the_new_maxmemory_from_the_start(world: World) -> None:
    running = Running(world)
    limit(running, "1Gi")
    running.recovers(60)
    world.wait(90)  # a kubelet looks at files now and then
    started: list[int] = []
    world.kubelets.on_node.append(lambda _, node: started.append(int(node.parameters["maxmemory"])))
    world.kubelets.kill(world.primary(0))
    running.recovers()
    assert set(started) == {1024 * MIB * 60 // 100}


@pytest.mark.parametrize("obstacle", ["no such API", "refused", "Infeasible", "Deferred"])
@pytest.mark.parametrize("memory", ["1Gi", "128Mi"])
def test_where_it_cannot_be_done_pods_are_replaced(world: World, obstacle: str, memory: str) -> None:
    running = Running(world, (2, 1))
    before = running.pods()
    watch_order(world)
    match obstacle:
        case "no such API":
            world.server.resources.clear()
        case "refused":
            world.server.unresizable.update(before)
        case reason:
            world.kubelets.no_room.update(dict.fromkeys(before, reason))
    limit(running, memory)
    world.wait(1)
    world.kubelets.no_room.clear() if obstacle == "no such API" else None
    running.recovers(600)
    assert not running.pods().items() & before.items()
    assert not world.watch.losses


def test_only_the_pods_that_cannot_are_replaced(world: World) -> None:
    running = Running(world, (2, 2))
    before = running.pods()
    world.kubelets.no_room["cart-0-0"] = "Infeasible"
    limit(running, "1Gi")
    running.recovers(300)
    kept = {name for name, uid in running.pods().items() if before[name] == uid}
    assert "cart-0-0" not in kept
    assert {"cart-1-0", "cart-1-1", "cart-1-2", "cart-0-1", "cart-0-2"} <= kept
    assert not world.watch.losses


@pytest.mark.parametrize("policy", ["noeviction", "allkeys-lru"])
def test_less_than_what_is_in_use(world: World, policy: str) -> None:
    running = Running(world, (2, 1), parameters={"maxmemory-policy": policy})
    before = running.pods()
    node = world.primary(0).node
    assert node is not None
    node.ballast = 120 * MIB
    limit(running, "128Mi")
    world.wait(200)
    assert running.pods() == before
    status = world.cluster(running.ref)["status"]
    if policy == "noeviction":
        assert status["reason"] == Reason.INSUFFICIENT_MEMORY
        assert {maxmemory(b) for b in world.boxes("cart")} == {256 * MIB * 60 // 100}, "nothing is changed"
    else:
        assert status["reason"] == Reason.RESIZING_PODS, "the engine is to make room"
        assert maxmemory(world.primary(0)) == 128 * MIB * 60 // 100
    node.ballast = 0
    running.recovers(200)
    assert running.pods() == before
    assert {maxmemory(b) for b in world.boxes("cart")} == {128 * MIB * 60 // 100}


def test_a_lone_primary_with_snapshots_gets_time_to_write_more(world: World) -> None:
    """A running pod keeps its grace period, in which it has to write all that it holds."""
    running = Running(world, (1, 0), persistence={"mode": "Snapshot", "size": "4Gi"})
    before = running.pods()
    limit(running, "2Gi")
    running.recovers(120)
    assert running.pods() != before
    grown = running.pods()
    limit(running, "1Gi")
    running.recovers(120)
    assert running.pods() == grown


def test_an_image_in_the_same_edit_rolls(world: World) -> None:
    running = Running(world, (2, 1))
    before = running.pods()

    def change(spec: dict[str, object]) -> None:
        spec.update(image="valkey/valkey:8.1.9", resources={"limits": {"memory": "1Gi"}})

    world.edit(running.ref, change)
    running.recovers(200)
    assert not running.pods().items() & before.items()


def test_the_class_of_service_cannot_change_in_place(world: World) -> None:
    resources = {"limits": {"memory": "256Mi", "cpu": "1"}, "requests": {"memory": "256Mi", "cpu": "1"}}
    running = Running(world, (2, 1), resources=resources)
    before = running.pods()
    world.edit(running.ref, lambda s: s["resources"].update(requests={"memory": "128Mi", "cpu": "1"}))
    running.recovers(200)
    assert not running.pods().items() & before.items()


@pytest.mark.parametrize("memory", ["1Gi", "128Mi"])
@pytest.mark.parametrize("point", range(0, 30, 2))
def test_the_operator_dies_around_any_request_of_a_resize(point: int, memory: str) -> None:
    with World(f"resizing {point}") as world:
        running = Running(world, (1, 1))
        before, way = running.pods(), world.leader["cart"].way
        watch_order(world)
        way.die_at = 2 * way.requests + point
        limit(running, memory)
        running.recovers(120)
        assert running.pods() == before


def test_a_roll_goes_on_after_a_resize_and_one_that_is_taken_back_leaves_no_trace(world: World) -> None:
    running = Running(world, (2, 1))
    before = running.pods()
    limit(running, "1Gi")
    world.wait(0.4)
    limit(running, "256Mi")
    running.recovers(120)
    assert running.pods() == before
    limit(running, "512Mi")
    running.recovers(60)
    world.edit(running.ref, lambda s: s.update(image="valkey/valkey:8.1.9"))
    running.recovers(200)
    assert not running.pods().items() & before.items()
    revisions = {
        (world.store.get(b.key) or {})["metadata"]["labels"][names.LABEL_REVISION] for b in world.boxes("cart")
    }
    current = {
        (world.store.get(Key("StatefulSet", NAMESPACE, f"cart-{s}")) or {})["status"]["currentRevision"]
        for s in range(2)
    }
    assert revisions == current


@pytest.mark.share(0.1)
def test_any_schedule_of_limits_and_faults_converges(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"resizing {seed}") as world:
            chance = world.clock.chance("edits")
            mode = chance.choice([None, *PERSISTENT])
            more = {"persistence": {**PERSISTENT[mode], "size": "4Gi"}} if mode else {}
            running = Running(world, random_shape(chance, replicas=True), version=chance.choice(VERSIONS), **more)
            before = running.pods()
            watch_order(world)
            world.disturb(random_faults(chance))
            for _ in range(chance.randrange(1, 5)):
                limit(running, chance.choice(("128Mi", "256Mi", "512Mi", "1Gi")))
                world.wait(chance.choice((0.05, 0.3, 1.0, 3.0)))
            world.calm()
            world.wait(5)
            running.recovers(400)
            assert running.pods() == before
            assert not world.watch.losses


@pytest.mark.share(0.05)
def test_limits_images_and_obstacles_in_any_order_converge(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"resizing and rolling {seed}") as world:
            chance = world.clock.chance("edits")
            running = Running(world, random_shape(chance, replicas=True))
            world.disturb(random_faults(chance))
            for number in range(chance.randrange(1, 4)):
                if chance.random() < 0.5:
                    world.edit(running.ref, lambda s, n=number: s.update(image=f"valkey/valkey:8.1.{n}"))  # type: ignore[misc]
                if chance.random() < 0.5:
                    name = chance.choice(sorted(running.pods()) or ["cart-0-0"])
                    world.kubelets.no_room[name] = chance.choice(("Deferred", "Infeasible"))
                limit(running, chance.choice(("128Mi", "256Mi", "512Mi", "1Gi")))
                world.wait(chance.choice((0.05, 1.0, 5.0, 70.0)))
            world.calm()
            world.wait(5)
            running.recovers(900)
            assert not world.watch.losses


def test_resizing_under_heavy_faults(world: World) -> None:
    running = Running(world, (3, 1))
    before = running.pods()
    watch_order(world)
    world.disturb(Faults(crash=0.2, lost_reply=0.2, stale_list=0.3, conflict=0.1))
    limit(running, "1Gi")
    world.wait(10)
    limit(running, "128Mi")
    world.wait(10)
    world.calm()
    world.wait(5)
    running.recovers(400)
    assert running.pods() == before
