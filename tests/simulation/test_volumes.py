"""Volumes grow under a running cluster: no pod is touched, and no record is lost wherever the operator dies."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from tests.simulation.conftest import Seeds
from tests.simulation.kubernetes.store import Key
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import VERSIONS, random_faults
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import NAMESPACE, World


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def grow(running: Running, size: str) -> None:
    """The user's new size."""
    running.world.edit(running.ref, lambda s: s["persistence"].update(size=size))


def set_replicas(count: int, spec: dict[str, Any]) -> None:
    """An edit."""
    spec["topology"]["replicasPerShard"] = count


def statefulset(world: World, shard: int = 0) -> Any:
    """As it is now."""
    return world.store.get(Key("StatefulSet", NAMESPACE, names.shard_name("cart", shard)))


def annotate(world: World, shard: int, key: str, value: str) -> None:
    """Somebody else writes on a StatefulSet."""
    body = statefulset(world, shard)
    body["metadata"].setdefault("annotations", {})[key] = value
    body["metadata"].setdefault("labels", {})["team"] = "shop"
    world.store.update(body)


def when_gone(world: World, act: Callable[[], object], *, going: bool = False) -> None:
    """Do something at the very moment at which the first StatefulSet is gone (or ``going``)."""
    done: list[object] = []

    def watch(key: Key, body: Any) -> None:
        gone = body is None or (going and "deletionTimestamp" in body["metadata"])
        if key == Key("StatefulSet", NAMESPACE, "cart-0") and gone and not done:
            done.append(key)
            world.clock.later(0.0, act)

    world.store.watchers.append(watch)
    world.until(lambda: bool(done), "the StatefulSet is gone", 30)


@pytest.mark.parametrize("mode", PERSISTENT)
def test_volumes_grow_and_no_pod_is_touched(world: World, mode: str) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT[mode])
    before, formed = running.pods(), statefulset(world)["metadata"]["annotations"][names.ANNOTATION_FORMED]
    annotate(world, 0, "example.com/owner", "shop")
    grow(running, "3Gi")
    running.recovers(60)
    assert running.pods() == before
    body = statefulset(world)
    assert body["metadata"]["annotations"][names.ANNOTATION_FORMED] == formed
    assert body["metadata"]["annotations"]["example.com/owner"] == "shop"
    assert body["metadata"]["labels"]["team"] == "shop"
    assert world.cluster(running.ref)["status"]["effective"]["volumeSize"] == "3Gi"
    world.edit(running.ref, lambda s: s["topology"].update(replicasPerShard=2))
    running.recovers(60)
    claim = world.store.get(Key("PersistentVolumeClaim", NAMESPACE, "data-cart-0-2"))
    assert claim is not None
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert not world.watch.losses


def test_a_class_that_does_not_allow_it_holds_everything_back_and_the_way_back_works(world: World) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT["AppendOnly"])
    world.resizer.allow(expansion=False)
    before, sets = running.pods(), statefulset(world)["metadata"]["uid"]
    grow(running, "3Gi")
    world.wait(20)
    status = world.cluster(running.ref)["status"]
    assert status["reason"] == Reason.VOLUME_NOT_EXPANDABLE
    assert "StorageClass standard does not allow it" in status["message"]
    assert (world.condition(running.ref, "Stalled"), world.condition(running.ref, "Ready")) == ("True", "True")
    assert status["pendingModifications"] == ["persistence.size"]
    assert (running.pods(), statefulset(world)["metadata"]["uid"]) == (before, sets)
    grow(running, "1Gi")
    running.recovers(60)
    grow(running, "2Gi")
    world.wait(5)
    world.resizer.allow(expansion=True)
    running.recovers(90)
    assert running.pods() == before


def test_a_smaller_size_is_explained(world: World) -> None:
    running = Running(world, (1, 1), persistence=PERSISTENT["AppendOnly"])
    grow(running, "512Mi")
    world.wait(10)
    status = world.cluster(running.ref)["status"]
    assert status["reason"] == Reason.VOLUME_CANNOT_SHRINK
    assert "Write back 1Gi" in status["message"]
    grow(running, "1Gi")
    running.recovers(60)


def test_s2_every_copy_dies_while_no_statefulset_exists(world: World) -> None:
    """What its shard has served is known from the record alone."""
    running = Running(world, (3, 1), persistence=PERSISTENT["AppendOnly"])
    formed = [statefulset(world, s)["metadata"]["annotations"][names.ANNOTATION_FORMED] for s in range(3)]
    grow(running, "3Gi")

    def disaster() -> None:
        world.kill_operator(running.ref)
        for box in world.boxes("cart"):
            world.kubelets.kill(box)

    when_gone(world, disaster)
    running.recovers(200)
    after = [statefulset(world, s)["metadata"]["annotations"][names.ANNOTATION_FORMED] for s in range(3)]
    assert after == formed


def test_pods_that_go_while_no_statefulset_exists_come_back(world: World) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT["Snapshot"])
    grow(running, "3Gi")
    when_gone(world, lambda: world.store.delete(world.primary(0).key))
    running.recovers(120)
    assert not world.watch.losses


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.4])
def test_the_cluster_is_deleted_while_a_statefulset_is_created_again(world: World, delay: float) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT["AppendOnly"])
    grow(running, "3Gi")
    running.writer.stopped = True
    when_gone(world, lambda: world.clock.later(delay, world.delete, running.ref), going=True)
    world.until(lambda: not world.exists(running.ref), "the CacheCluster is gone", 60)
    world.until(lambda: world.is_empty("cart"), "nothing is left", 120)


def growing_world(crash_at: int) -> World:
    """A cluster of one shard that grows, with an operator that dies around one certain request."""
    world = World(f"growing {crash_at}")
    running = Running(world, (1, 1), persistence=PERSISTENT["AppendOnly"])
    annotate(world, 0, "example.com/owner", "shop")
    before, way = running.pods(), world.leader["cart"].way
    way.die_at = 2 * way.requests + crash_at
    grow(running, "3Gi")
    running.recovers(90)
    assert running.pods() == before
    body = statefulset(world)
    assert body["metadata"]["annotations"][names.ANNOTATION_FORMED] == "0-16383"
    assert body["metadata"]["annotations"]["example.com/owner"] == "shop"
    return world


@pytest.mark.parametrize("point", range(26))
def test_s2_the_operator_dies_around_any_request_of_a_growth(point: int) -> None:
    with growing_world(point) as world:
        assert not world.watch.losses


@pytest.mark.share(0.1)
def test_any_schedule_of_growth_and_faults_converges(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"volumes {seed}") as world:
            chance = world.clock.chance("edits")
            mode = chance.choice(list(PERSISTENT))
            shape = chance.choice(((1, 1), (2, 1), (3, 1)))
            running = Running(world, shape, version=chance.choice(VERSIONS), persistence=PERSISTENT[mode])
            world.disturb(random_faults(chance))
            sizes = iter(("2Gi", "3Gi", "5Gi", "8Gi"))
            for _ in range(chance.randrange(1, 4)):
                match chance.randrange(3):
                    case 0:
                        world.edit(running.ref, lambda s: s.update(image=f"valkey/valkey:{s['version']}.9"))
                    case 1:
                        world.edit(running.ref, partial(set_replicas, chance.choice((1, 2))))
                grow(running, next(sizes))
                world.wait(chance.choice((0.1, 0.5, 2.0, 6.0)))
            if chance.random() < 0.5:
                box = chance.choice([b for b in world.boxes("cart") if b.node is not None])
                world.kubelets.kill(box)
            world.calm()
            world.wait(5)
            running.recovers(600)


def test_s2_growth_under_heavy_faults(world: World) -> None:
    running = Running(world, (3, 1), persistence=PERSISTENT["AppendOnly"])
    before = running.pods()
    world.disturb(Faults(crash=0.2, lost_reply=0.2, stale_list=0.3, conflict=0.1))
    grow(running, "3Gi")
    world.wait(20)
    world.calm()
    world.wait(5)
    running.recovers(400)
    assert running.pods() == before
