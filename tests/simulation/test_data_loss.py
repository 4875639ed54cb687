"""S2: every copy of a shard is gone. Its slots wait for one approval of that one loss, or start empty as the spec says,
whatever happens to the operator; data that comes back needs no approval."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Final

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from tests.simulation.conftest import Seeds
from tests.simulation.engine.disk import Disk, writes
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.kubernetes.store import Key
from tests.simulation.operating.operator import METRICS
from tests.simulation.schedules import VERSIONS, random_faults
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import NAMESPACE, World

WAIT: Final[dict[str, Any]] = {"recovery": {"onDataLoss": "WaitForApproval"}}
RECREATE: Final[dict[str, Any]] = {"recovery": {"onDataLoss": "Recreate"}}
STORED: Final[dict[str, Any]] = {"persistence": PERSISTENT["AppendOnly"]}


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def members(world: World, *shards: int) -> list[Sandbox]:
    """The pods of some shards."""
    return [b for b in world.boxes("cart") if int(b.key.name.split("-")[1]) in shards]


def kill(world: World, *shards: int) -> None:
    """All processes of the shards end at once."""
    for box in members(world, *shards):
        world.kubelets.kill(box)


def delete(world: World, *shards: int) -> None:
    """All their pods are deleted at once."""
    for box in members(world, *shards):
        world.store.delete(box.key)


def tear_down(world: World, *shards: int) -> None:
    """Their StatefulSets are deleted, and with them what is noted there, and all their pods at once."""
    for shard in shards:
        world.store.delete(Key("StatefulSet", NAMESPACE, f"cart-{shard}"))
    delete(world, *shards)


def take_volumes(world: World, *shards: int) -> dict[str, Disk]:
    """All their pods are deleted and get new volumes; the old ones, by pod."""
    taken = {box.key.name: box.disk for box in members(world, *shards)}
    for pod in taken:
        world.store.remove(Key("PersistentVolumeClaim", NAMESPACE, f"{names.DATA_VOLUME}-{pod}"))
    delete(world, *shards)
    return taken


def destroy_volumes(world: World, *shards: int) -> None:
    """Nobody will bring them back."""
    taken, uids = take_volumes(world, *shards), {box.uid for box in members(world, *shards)}
    world.until(lambda: not uids & world.kubelets.sandboxes.keys(), "their processes have ended", 30)
    kept = {t for box in world.boxes("cart") if box.key.name not in taken for t in writes(box.disk.tokens)}
    world.history.lost |= {t for disk in taken.values() for t in writes(disk.tokens)} - kept


def bring_back(world: World, volumes: dict[str, Disk]) -> None:
    """The pods' volumes are the old ones again."""
    for pod, disk in volumes.items():
        claim = world.server.read("PersistentVolumeClaim", NAMESPACE, f"{names.DATA_VOLUME}-{pod}")
        world.kubelets.give(claim["metadata"]["uid"], disk)
        world.store.delete(Key("Pod", NAMESPACE, pod))


Loss = Callable[..., Any]
LOSSES: Final[dict[str, tuple[Loss, dict[str, Any]]]] = {
    "killed": (kill, WAIT),
    "deleted": (delete, WAIT),
    "torn down": (tear_down, WAIT),
    "volumes": (destroy_volumes, STORED),
}


def told(running: Running) -> dict[str, Any]:
    """The loss in the status."""
    found: dict[str, Any] = running.world.cluster(running.ref).get("status", {}).get("dataLoss", {})
    return found


def until(running: Running, state: str, other_than: str = "", seconds: float = 60) -> str:
    """Wait until an incident has come so far; its name."""

    def reached() -> bool:
        return told(running).get("state") == state and told(running)["incident"] != other_than

    running.world.until(reached, f"the loss is {state}", seconds)
    return str(told(running)["incident"])


def approve(running: Running, incident: str | None = None) -> None:
    """Somebody gives the data up."""
    running.world.annotate(running.ref, names.ANNOTATION_APPROVE_LOSS, incident or told(running)["incident"])


def events(world: World) -> list[str]:
    """Events of data losses."""
    return [message for kind, reason, message in world.recorder.events if reason is Reason.DATA_LOSS]


def counted() -> float:
    """What the metric says."""
    lines = METRICS.render().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("cachecluster_data_losses_total{"))


def served(world: World, running: Running, shard: int, seconds: float = 3.0) -> bool:
    """Whether an application's writes to a shard are acknowledged."""
    slots, before = running.writer.slots[2 * shard : 2 * shard + 2], set(world.history.acked)
    world.wait(seconds)
    return any(slot in slots for token, slot in world.history.acked.items() if token not in before)


@pytest.mark.parametrize("how", LOSSES)
def test_s2_a_lost_shard_waits_for_approval_and_each_loss_for_its_own(world: World, how: str) -> None:
    lose, more = LOSSES[how]
    running, before = Running(world, **more), counted()
    lose(world, 0)
    first = until(running, "WaitingForApproval")
    world.wait(30)
    pods, operator, before_long = running.pods(), world.leader["cart"], world.leader["cart"].passes
    world.wait(120)
    assert operator.passes - before_long < 10, "it waits without looking all the time"
    assert told(running)["state"] == "WaitingForApproval"
    assert told(running)["shards"] == [{"name": "cart-0", "slots": "0-5460"}]
    kinds = ("Ready", "Reconciling", "Stalled", "Degraded", "DataLoss")
    assert [world.condition(running.ref, kind) for kind in kinds] == ["False", "False", "True", "True", "True"]
    assert not served(world, running, 0)
    assert served(world, running, 1)
    assert running.pods() == pods
    approve(running)
    until(running, "StartedEmpty")
    running.recovers(120)
    assert running.pods() == pods
    lose(world, 0)
    second = until(running, "WaitingForApproval", other_than=first)
    world.wait(30)
    assert not served(world, running, 0)
    approve(running, second)
    running.recovers(120)
    assert told(running)["state"] == "StartedEmpty"
    assert [text.split()[2].rstrip(":") for text in events(world)] == [first, second]
    assert counted() - before == 2


@pytest.mark.parametrize("how", LOSSES)
def test_s2_recreate_starts_a_lost_shard_empty_and_tells_it_once(world: World, how: str) -> None:
    lose, more = LOSSES[how]
    running, before = Running(world, **{**more, **RECREATE}), counted()
    lose(world, 0)
    until(running, "StartedEmpty")
    running.recovers(120)
    assert world.condition(running.ref, "DataLoss") == "True"
    assert len(events(world)) == 1
    assert counted() - before == 1


@pytest.mark.parametrize("shape", [(1, 0), (1, 1), (3, 1)], ids=str)
@pytest.mark.parametrize("how", LOSSES)
def test_s2_a_cluster_that_lost_everything_waits_for_approval(world: World, how: str, shape: tuple[int, int]) -> None:
    world.kubelets.reuse_addresses = False
    lose, more = LOSSES[how]
    running = Running(world, shape, **more)
    lose(world, *range(shape[0]))
    world.until(lambda: len(told(running).get("shards", ())) == shape[0], "all is lost", 90)
    world.wait(30)
    assert told(running)["state"] == "WaitingForApproval"
    approve(running)
    running.recovers(120)
    assert told(running)["state"] == "StartedEmpty"


@pytest.mark.parametrize("shards", [(0,), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("mode", [None, "AppendOnly"])
def test_s2_statefulsets_that_go_with_their_pods_while_no_operator_looks(
    world: World, shards: tuple[int, ...], mode: str | None
) -> None:
    """Without volumes that is a loss, and with them it is none."""
    world.kubelets.reuse_addresses = False
    running = Running(world, **(STORED if mode else WAIT))
    world.stop_operators()
    tear_down(world, *shards)
    world.wait(20)
    world.start_operator(running.ref)
    if mode is None:
        world.until(lambda: len(told(running).get("shards", ())) == len(shards), "all of it is told", 60)
        world.wait(20)
        assert told(running)["state"] == "WaitingForApproval"
        approve(running)
    running.recovers(120)
    assert bool(events(world)) is (mode is None)
    assert bool(world.watch.losses) is (mode is None)


def test_s2_another_shard_that_is_lost_meanwhile_is_not_covered_by_the_approval(world: World) -> None:
    running = Running(world, **WAIT)
    kill(world, 0)
    first = until(running, "WaitingForApproval")
    kill(world, 2)
    world.until(lambda: told(running)["incident"] != first, "the loss has grown", 60)
    approve(running, first)
    world.wait(30)
    assert told(running)["state"] == "WaitingForApproval"
    approve(running)
    running.recovers(120)
    assert len(set(events(world))) == len(events(world)) == 2


@pytest.mark.parametrize("shards", [(0,), (0, 1, 2)], ids=str)
def test_data_that_comes_back_ends_the_wait_without_approval(world: World, shards: tuple[int, ...]) -> None:
    world.kubelets.reuse_addresses = False
    running = Running(world, **STORED)
    volumes = take_volumes(world, *shards)
    incident = until(running, "WaitingForApproval")
    world.until(lambda: len(told(running)["shards"]) == len(shards), "all of it is found", 60)
    incident = told(running)["incident"]
    world.wait(90)
    bring_back(world, volumes)
    assert until(running, "Recovered", seconds=120) == incident
    running.recovers(180)
    assert world.condition(running.ref, "DataLoss") == "False"
    assert not world.watch.losses


def given_up(world: World, running: Running, *shards: int) -> dict[str, Disk]:
    """Volumes of shards that have started empty since, with somebody's leave."""
    volumes = take_volumes(world, *shards)
    world.until(lambda: len(told(running).get("shards", ())) == len(shards), "all of it is found", 60)
    kept = {t for b in world.boxes("cart") if b.key.name not in volumes for t in writes(b.disk.tokens)}
    world.history.lost |= {t for disk in volumes.values() for t in writes(disk.tokens)} - kept
    approve(running)
    running.recovers(120)
    return volumes


def test_s2_data_that_comes_back_after_it_was_given_up_does_not_replace_what_was_written_since(world: World) -> None:
    world.kubelets.reuse_addresses = False
    running = Running(world, **STORED)
    for pod, disk in sorted(given_up(world, running, 0).items()):
        bring_back(world, {pod: disk})
        world.wait(20)
        running.recovers(180)
    assert not world.watch.losses


@pytest.mark.parametrize("epochs", [3, 40])
def test_s2_nor_does_it_after_everything_had_been_lost(world: World, epochs: int) -> None:
    """What was before and what came after have not heard of each other, and compare their epochs in vain."""
    world.kubelets.reuse_addresses = False
    running = Running(world, **STORED)
    pod = world.primary(0).key.name
    disk = given_up(world, running, 0, 1, 2)[pod]
    assert disk.nodes_conf is not None
    rows = tuple(replace(row, config_epoch=row.config_epoch + epochs) for row in disk.nodes_conf.rows)
    disk.nodes_conf = replace(disk.nodes_conf, rows=rows, current_epoch=disk.nodes_conf.current_epoch + epochs)
    bring_back(world, {pod: disk})
    world.wait(60)
    assert "It stays as it is" in str(world.cluster(running.ref)["status"]["message"])
    assert all(served(world, running, shard) for shard in range(3))
    world.store.remove(Key("PersistentVolumeClaim", NAMESPACE, f"{names.DATA_VOLUME}-{pod}"))
    world.store.delete(Key("Pod", NAMESPACE, pod))
    running.recovers(180)
    assert not world.watch.losses


def test_an_edit_of_the_spec_decides_at_once_and_restarts_nobody(world: World) -> None:
    running = Running(world, **STORED)
    pods = running.pods()
    world.edit(running.ref, lambda s: s.update(RECREATE))
    world.wait(10)
    world.edit(running.ref, lambda s: s.update(WAIT))
    running.recovers()
    assert running.pods() == pods
    destroy_volumes(world, 1)
    until(running, "WaitingForApproval")
    pods = running.pods()
    world.edit(running.ref, lambda s: s.update(RECREATE))
    running.recovers(60)
    assert running.pods() == pods
    assert told(running)["state"] == "StartedEmpty"


@pytest.mark.parametrize("spec", [WAIT, RECREATE], ids=["WaitForApproval", "Recreate"])
def test_s2_the_operator_dies_at_every_write_after_a_loss(spec: dict[str, Any]) -> None:
    """Each incident is told, and no write of before counts for it; the second one brings it to its end."""
    point = 0
    while True:
        with World(f"loss {point}") as world:
            running = Running(world, (1, 1), **spec)
            way = world.leader["cart"].way
            way.die_at = 2 * way.requests + point
            kill(world, 0)
            if spec is WAIT:
                until(running, "WaitingForApproval")
                approve(running)
            running.recovers(120)
            assert told(running)["state"] == "StartedEmpty"
            assert told(running)["incident"] in " ".join(events(world))
            if world.crashes == 0:
                break
        point += 1
    assert point > 10


def test_s2_an_approval_that_was_interrupted_is_not_good_for_the_next_loss() -> None:
    """The operator dies around one of its writes and stays away, while the shard is written to and lost once more."""
    point = died = 0
    while True:
        with World(f"approval {point}") as world:
            running = Running(world, (1, 1), **WAIT)
            kill(world, 0)
            first = until(running, "WaitingForApproval")
            operator = world.leader["cart"]
            operator.abandoned = True
            operator.way.die_at = 2 * operator.way.requests + point
            approve(running)
            world.wait(20)
            if not operator.way.dead:
                break
            died += 1
            decided = any(b.node is not None and b.node.me.slots for b in members(world, 0))
            kill(world, 0)
            world.wait(40)
            world.start_operator(running.ref)
            if decided:
                until(running, "WaitingForApproval", other_than=first)
            world.wait(20)
            if told(running)["state"] == "WaitingForApproval":
                approve(running)
            running.recovers(150)
        point += 1
    assert died > 10


@pytest.mark.share(0.05)
def test_s2_any_schedule_of_losses_and_faults_of_the_operator(seeds: Seeds) -> None:
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        with World(seed) as world:
            world.kubelets.reuse_addresses = False
            shape = chance.choice(((1, 0), (1, 1), (2, 1), (3, 1), (3, 2)))
            how = chance.choice(sorted(LOSSES))
            lose, more = LOSSES[how]
            running = Running(
                world, shape, version=chance.choice(VERSIONS), **{**more, **chance.choice((WAIT, RECREATE))}
            )
            for _ in range(2):
                world.disturb(random_faults(chance))
                for shard in chance.sample(range(shape[0]), chance.randint(1, shape[0])):
                    lose(world, shard)
                    world.wait(chance.choice((0.0, 0.3, 3.0)))
                for _ in range(12):
                    world.wait(5)
                    if told(running).get("state") == "WaitingForApproval" and chance.random() < 0.7:
                        approve(running, chance.choice((None, None, "something")))
                world.calm()
                world.wait(60)
                if told(running).get("state") == "WaitingForApproval":
                    approve(running)
                running.recovers(240)
