"""Clusters of one or two shards, where nobody can elect: a machine that falls silent, a primary that is cut off."""

import random
from collections.abc import Iterator

import pytest

from cachecluster.api import names
from cachecluster.api.durability import MAX_LAG_SECONDS
from tests.simulation.conftest import Seeds
from tests.simulation.engine.network import OPERATOR
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import VERSIONS, version_of
from tests.simulation.test_failover import promotions, told, until_replaced
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World

FENCE_SECONDS = MAX_LAG_SECONDS + 2
"""So long after the last report of its last replica a primary accepts writes at most."""
SHAPES = [(1, 1), (2, 1), (1, 2), (2, 2)]


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(f"fence {request.param}") as world:
        yield world


def fences(world: World) -> dict[str, str]:
    """What is written down, by pod."""
    bodies = {b.key.name: world.store.look(b.key) or {"metadata": {}} for b in world.boxes("cart")}
    annotations = {name: body["metadata"].get("annotations", {}) for name, body in bodies.items()}
    return {name: a[names.ANNOTATION_FENCE] for name, a in annotations.items() if names.ANNOTATION_FENCE in a}


def asking(world: World) -> set[str]:
    """Pods whose nodes ask for a replica."""
    boxes = [b for b in world.boxes("cart") if b.node is not None]
    return {b.key.name for b in boxes if b.node is not None and b.node.parameters["min-replicas-to-write"] != "0"}


def replicas(world: World, shard: int = 0) -> list[Sandbox]:
    """Who follows the shard's primary."""
    boxes = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-")]
    return [b for b in boxes if b is not world.primary(shard)]


def refused(running: Running) -> int:
    """Writes so far that were refused for want of a replica."""
    return running.writer.refused.get("NOREPLICAS", 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_s10_only_primaries_ask_for_a_replica_and_it_is_written_down(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    primaries = {world.primary(shard).key.name for shard in range(shape[0])}
    assert asking(world) == fences(world).keys() == primaries
    assert not refused(running)


def test_where_the_others_can_elect_there_is_no_fence(world: World) -> None:
    running = Running(world, (2, 1))
    world.edit(running.ref, lambda spec: spec["topology"].update(shards=3))
    running.recovers(300)
    assert not asking(world)
    assert not fences(world)
    assert {n.timeout for n in world.watch.living("cart")} == {5.0}
    world.edit(running.ref, lambda spec: spec["topology"].update(shards=2))
    running.recovers(300)
    assert len(asking(world)) == len(fences(world)) == 2
    assert not refused(running)
    assert not world.watch.losses


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_s10_primary_on_a_machine_without_power_is_replaced_once_its_fence_has_expired(
    world: World, shape: tuple[int, int], version: str
) -> None:
    running = Running(world, shape, version=version)
    box = world.primary(0)
    if any(r.host == box.host for r in replicas(world)):
        pytest.skip("they share a machine")
    world.power_off(box.host)
    assert FENCE_SECONDS < until_replaced(world, box) < FENCE_SECONDS + 3
    acked = len(world.history.acked)
    world.wait(1)
    assert len(world.history.acked) > acked
    world.wait(30)
    assert told(world, running.ref)[0]["cause"] == "FenceExpired"
    world.power_on(box.host)
    world.wait(5)
    running.recovers(180)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_s10_primary_that_is_cut_off_with_clients_stops_before_another_leads(
    world: World, shape: tuple[int, int]
) -> None:
    """That it takes no write from then on is an invariant of every simulation."""
    running = Running(world, shape)
    box = world.primary(0)
    world.cut_off(box)
    took = until_replaced(world, box)
    assert FENCE_SECONDS < took < FENCE_SECONDS + 3
    world.wait(20)
    assert box.node is not None
    assert box.node.me.primary
    assert box.node in world.watch.leading.fenced
    assert not world.watch.leading.beside
    world.network.heal()
    running.recovers()
    assert not box.node.me.primary


def test_s10_both_primaries_lost_at_once(world: World) -> None:
    running = Running(world, (2, 1))
    boxes = [world.primary(0), world.primary(1)]
    for box in boxes:
        world.cut_off(box)
    assert max(until_replaced(world, box, shard) for shard, box in enumerate(boxes)) < FENCE_SECONDS + 4
    world.wait(10)
    world.network.heal()
    running.recovers()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_s10_an_operator_that_comes_later_knows_of_the_fence(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    box = world.primary(0)
    world.power_off(box.host)
    world.kill_operator(running.ref)
    assert until_replaced(world, box) < 70
    world.power_on(box.host)
    world.wait(5)
    running.recovers(180)


def test_s10_a_primary_that_has_been_told_to_go_on_alone_is_not_replaced(world: World) -> None:
    """Its replica was cut off from it first, and the operator a little later; the replica can be reached again."""
    running = Running(world, (1, 1))
    box, (replica,) = world.primary(0), replicas(world)
    world.partitioned = True
    world.network.isolate(replica.ip or "", {box.ip or "", OPERATOR})
    world.until(lambda: not asking(world), "it is told to do without", 15)
    assert not fences(world)
    world.network.isolate(box.ip or "", {OPERATOR})
    world.network.mend(replica.ip or "", OPERATOR)
    world.network.mend(OPERATOR, replica.ip or "")
    world.wait(60)
    assert not promotions(world)
    world.network.heal()
    running.recovers()


def test_s1_a_replica_that_cannot_be_asked_may_still_report_to_the_primary(world: World) -> None:
    running = Running(world, (1, 2))
    box, (near, _) = world.primary(0), replicas(world)
    both = {box.ip or "", near.ip or ""}
    world.partitioned = True
    for other in [b.ip or "" for b in world.boxes("cart")] + [OPERATOR]:
        if other not in both:
            for ip in both:
                world.network.isolate(ip, {other})
    world.wait(40)
    assert not promotions(world)
    assert world.primary(0) is box
    world.network.heal()
    running.recovers()


def test_s10_a_replica_that_has_just_started_may_report_to_the_primary_any_moment(world: World) -> None:
    """The operator and the other replica are cut off from the primary. So is nobody else, and it goes on."""
    running = Running(world, (1, 2))
    box, (far, near) = world.primary(0), replicas(world)
    world.partitioned = True
    world.network.isolate(box.ip or "", {far.ip or "", OPERATOR})
    world.wait(20)
    world.kubelets.kill(near)
    world.wait(20)
    assert not promotions(world)
    assert near.node is not None
    assert near.node.repl.up, "it has not come back, and nothing was put to the test"
    world.network.heal()
    running.recovers()


def test_s10_a_replica_that_starts_in_vain_does_not_hold_back_the_other_for_long(world: World) -> None:
    running = Running(world, (1, 2))
    box, (_, near) = world.primary(0), replicas(world)
    world.power_off(box.host)
    if near.host == box.host:
        pytest.skip("they share a machine")
    world.wait(1)
    world.kubelets.kill(near)
    assert until_replaced(world, box) < FENCE_SECONDS + 10
    world.power_on(box.host)
    world.wait(5)
    running.recovers(180)


def test_s1_who_is_cut_off_from_the_primary_alone_promotes_nobody(world: World) -> None:
    running = Running(world, (1, 1))
    world.network.isolate(world.primary(0).ip or "", {OPERATOR})
    world.wait(40)
    assert not promotions(world)
    world.network.heal()
    running.recovers()


def without_fence(world: World) -> None:
    """Fences are down, and the operator has not looked since."""
    for box in world.boxes("cart"):
        if box.node is not None:
            box.node.parameters["min-replicas-to-write"] = "0"
            body = world.store.look(box.key) or {}
            kept = {k: v for k, v in body["metadata"].get("annotations", {}).items() if k != names.ANNOTATION_FENCE}
            world.store.update({**body, "metadata": {**body["metadata"], "annotations": kept}})


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)], ids=str)
def test_s10_silence_is_no_proof_where_nobody_can_vote(world: World, shape: tuple[int, int]) -> None:
    """Its fence is down: it is replaced once its machine is back and its kubelet reports that the process has ended."""
    running = Running(world, shape)
    box = world.primary(0)
    without_fence(world)
    world.power_off(box.host)
    world.wait(30)
    assert not promotions(world)
    assert "may go on unheard" in world.cluster(running.ref)["status"]["message"]
    world.power_on(box.host)
    world.wait(5)
    running.recovers()


@pytest.mark.parametrize("word", ["tainted", "deleted"])
def test_s10_the_word_that_a_machine_is_off_is_proof(world: World, word: str) -> None:
    running = Running(world, (1, 1))
    box = world.primary(0)
    without_fence(world)
    world.power_off(box.host)
    world.wait(60)
    assert not promotions(world)
    host = world.hosts.by_name[box.host]
    if word == "tainted":
        world.hosts.take_out_of_service(box.host)
    else:
        del world.hosts.by_name[box.host]
    world.wake_all()
    assert until_replaced(world, box) < 3
    assert any("Takeover" in line for line in promotions(world))
    world.hosts.by_name[box.host] = host
    world.power_on(box.host)
    world.wait(6)
    running.recovers()


def test_a_killed_replica_costs_writers_a_moment(world: World) -> None:
    running = Running(world, (1, 1))
    (replica,) = replicas(world)
    world.kubelets.kill(replica)
    world.wait(0.3)
    before = refused(running)
    world.wait(0.5)
    assert refused(running) == before
    running.recovers()
    assert fences(world)
    assert not world.watch.losses


def test_a_replica_on_a_machine_without_power_costs_writers_nothing(world: World) -> None:
    running = Running(world, (1, 1))
    (replica,) = replicas(world)
    world.power_off(replica.host)
    world.wait(30)
    assert not refused(running), "the operator was told before the primary missed it"
    assert not asking(world)
    world.power_on(replica.host)
    world.wait(5)
    running.recovers(180)
    assert fences(world)


@pytest.mark.parametrize("trouble", ["cut off from it", "hangs"])
def test_a_replica_that_falls_silent_towards_its_primary_alone_costs_writers_seconds(
    world: World, trouble: str
) -> None:
    """Its readiness tells the operator."""
    running = Running(world, (1, 1))
    (replica,) = replicas(world)
    if trouble == "hangs":
        assert replica.node is not None
        replica.node.freeze()
    else:
        world.network.isolate(replica.ip or "", {world.primary(0).ip or ""})
    world.wait(12)
    assert not asking(world)
    before = refused(running)
    assert before
    world.wait(20)
    assert refused(running) == before
    world.network.heal()
    running.recovers(200)
    assert fences(world)
    assert not world.watch.losses


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_nothing_that_is_planned_has_a_write_refused(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    world.annotate(running.ref, names.ANNOTATION_RESTARTED, "2026-01-01T00:00:00Z")
    running.recovers(300)
    leader = world.primary(0)
    world.annotate(running.ref, names.ANNOTATION_FAILOVER, leader.key.name)
    world.until(lambda: world.primary(0) is not leader, "the role is handed over", 60)
    running.recovers()
    world.edit(running.ref, lambda spec: spec["topology"].update(replicasPerShard=shape[1] + 1))
    running.recovers(200)
    world.edit(running.ref, lambda spec: spec["topology"].update(replicasPerShard=0))
    running.recovers(200)
    world.edit(running.ref, lambda spec: spec["topology"].update(replicasPerShard=shape[1]))
    running.recovers(200)
    assert not refused(running)
    assert len(fences(world)) == shape[0]
    assert not world.watch.losses


@pytest.mark.parametrize("shape", [(1, 1), (2, 1)], ids=str)
@pytest.mark.parametrize("write", range(0, 40, 2))
def test_s10_operator_that_is_killed_around_any_write(shape: tuple[int, int], write: int) -> None:
    with World(f"fence {write}") as world:
        world.crash_at = write
        running = Running(world, shape)
        box = world.primary(0)
        world.cut_off(box)
        world.wait(25)
        world.network.heal()
        running.recovers(200)
        assert fences(world).keys() == asking(world)


@pytest.mark.share(0.03)
@pytest.mark.parametrize("persistence", [None, *PERSISTENT])
def test_s10_cuts_and_power_cuts_under_faults(seeds: Seeds, persistence: str | None) -> None:
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        more = {} if persistence is None else {"persistence": PERSISTENT[persistence]}
        with World(f"fence {seed}") as world:
            running = Running(world, chance.choice(SHAPES), version=version_of(seed), **more)
            world.disturb(Faults(crash=chance.choice((0, 0.05, 0.2)), lost_reply=0.05, stale_list=0.1, conflict=0.05))
            for _ in range(chance.randint(1, 3)):
                box = chance.choice([b for b in world.boxes("cart") if b.node is not None] or world.boxes("cart"))
                match chance.choice(("cut", "power", "kill", "freeze")):
                    case "cut":
                        world.cut_off(box)
                    case "power":
                        world.power_off(box.host)
                    case "kill" if box.node is not None:
                        world.kubelets.kill(box)
                    case _:
                        world.replace_stuck_leader(running.ref, chance.uniform(1, 20))
                world.wait(chance.uniform(1, 20))
                if chance.random() < 0.5:
                    world.kill_operator(running.ref)
                world.wait(chance.uniform(1, 20))
                world.network.heal()
                if box.host in world.kubelets.dark:
                    world.power_on(box.host)
                world.wait(chance.uniform(1, 40))
            world.calm()
            world.wait(40)
            running.recovers(600)
