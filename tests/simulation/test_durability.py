"""durability.mode through all that the operator does: it never gets stuck for want of a replica, no edit of the spec
makes a shard refuse writes, and a shard that does says so."""

import random
from collections.abc import Iterator
from typing import Any, Final

import pytest

from cachecluster.api import names
from tests.simulation import events
from tests.simulation.conftest import Seeds
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import VERSIONS, version_of
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World

ON: Final[dict[str, Any]] = {"durability": {"mode": "AtLeastOneReplica"}}


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.node.name) as world:
        yield world


def _refused(running: Running) -> int:
    """Writes so far that were refused for want of a replica."""
    return running.writer.refused.get("NOREPLICAS", 0)


def _ready(running: Running) -> tuple[str, str]:
    """Status and reason of the condition Ready."""
    conditions = running.world.cluster(running.ref)["status"]["conditions"]
    return next((c["status"], c["reason"]) for c in conditions if c["type"] == "Ready")


def _replicas(world: World) -> list[Sandbox]:
    return [b for b in world.boxes("cart") if b is not world.primary(0)]


def _ask(spec: dict[str, Any], *, replicas: int, **fields: Any) -> None:
    """Both in one edit."""
    spec["topology"]["replicasPerShard"] = replicas
    spec.update(fields)


def test_without_replicas_writes_are_refused_until_one_is_back(world: World) -> None:
    running = Running(world, (1, 2), **ON)
    assert not _refused(running)
    hosts = [b.host for b in _replicas(world)]
    for host in hosts:
        world.power_off(host)
    world.until(lambda: _ready(running) == ("False", "WritesRefused"), "the status says so", 10)
    world.wait(1)
    taken = len(world.history.acked)
    world.wait(20)
    assert len(world.history.acked) == taken, "a write was taken that nobody copies"
    world.power_on(hosts[0])
    world.until(lambda: len(world.history.acked) > taken, "writes are taken again", 60)
    world.power_on(hosts[1])
    running.recovers(200)
    assert not world.watch.losses


def test_one_of_two_replicas_is_enough(world: World) -> None:
    running = Running(world, (1, 2), **ON)
    (host, _) = [b.host for b in _replicas(world)]
    world.power_off(host)
    world.wait(20)
    assert not _refused(running)
    assert _ready(running)[0] == "True"
    world.power_on(host)
    running.recovers(200)


def test_an_edit_makes_no_shard_refuse_what_it_has_accepted_so_far(world: World) -> None:
    running = Running(world, (2, 0))
    world.edit(running.ref, lambda spec: _ask(spec, replicas=2, **ON))
    running.recovers(200)
    assert not _refused(running)
    assert all(n.parameters["min-replicas-to-write"] == "1" for n in world.watch.living("cart"))
    world.edit(running.ref, lambda spec: _ask(spec, replicas=0, durability={"mode": "Default"}))
    running.recovers(200)
    assert not _refused(running)
    assert not world.watch.losses


@pytest.mark.parametrize("version", VERSIONS)
def test_a_new_shard_takes_slots_once_a_replica_is_in_step(world: World, version: str) -> None:
    running = Running(world, (2, 2), version=version, **ON)
    world.edit(running.ref, lambda spec: spec["topology"].update(shards=4))
    running.recovers(600)
    world.edit(running.ref, lambda spec: spec["topology"].update(shards=1))
    running.recovers(600)
    assert not world.watch.losses


def _rescale(world: World, ref: Any, chance: random.Random) -> None:
    """Another number of shards."""
    count = chance.randint(1, 3)
    world.edit(ref, lambda spec: spec["topology"].update(shards=count))


def _more_or_fewer_replicas(world: World, ref: Any, chance: random.Random) -> None:
    """As many as the mode needs, or one more."""
    count = chance.randint(2, 3)
    world.edit(ref, lambda spec: spec["topology"].update(replicasPerShard=count))


def _switch(world: World, ref: Any, chance: random.Random) -> None:
    """The mode is taken back, or written again."""
    mode = chance.choice(("Default", "AtLeastOneReplica"))
    world.edit(ref, lambda spec: spec.update(durability={"mode": mode}))


MIXED: Final[tuple[events.Event, ...]] = (
    *(_rescale, _rescale, _more_or_fewer_replicas, _switch),
    *(event for event in events.GENTLE if event is not events.resize_shards),
)


@pytest.mark.share(0.02)
@pytest.mark.parametrize("persistence", [None, *PERSISTENT])
def test_rolls_scaling_and_faults_converge_and_lose_nothing(seeds: Seeds, persistence: str | None) -> None:
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        more = {} if persistence is None else {"persistence": PERSISTENT[persistence]}
        with World(f"durability {seed}") as world:
            running = Running(world, chance.choice(((1, 2), (2, 2), (3, 2))), version=version_of(seed), **ON, **more)
            world.disturb(Faults(crash=chance.choice((0, 0.05)), lost_reply=0.05, stale_list=0.1, conflict=0.02))
            for _ in range(chance.randint(2, 5)):
                chance.choice(MIXED)(world, running.ref, chance)
                world.wait(chance.uniform(5, 45))
            world.annotate(running.ref, names.ANNOTATION_FAILOVER, None)  # its pod may be gone by now
            world.calm()
            world.wait(40)
            running.recovers(600)
            assert _ready(running)[0] == "True"
