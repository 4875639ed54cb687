"""Machines that are lost for good, or come back after they were given up."""

import random
from collections.abc import Iterator

import pytest

from cachecluster.api import names
from tests.simulation.conftest import Seeds
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.schedules import VERSIONS, random_faults, version_of
from tests.simulation.site import NOT_READY_SECONDS
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import World

PLACEMENT = {"nodeLossGraceSeconds": 20}
GIVEN_UP_SECONDS = NOT_READY_SECONDS + 20 + 10


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def deletions(world: World) -> list[str]:
    """Pods that were deleted by force."""
    return [line.split()[-3] for line in world.trace if line.endswith("by force")]


def replica(world: World, shard: int = 0) -> Sandbox:
    """A pod that follows, on a machine where no primary of its cluster runs if there is one."""
    led = {
        world.primary(s).host for s in range(3) if any(b.key.name.startswith(f"cart-{s}-") for b in world.boxes("cart"))
    }
    boxes = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-")]
    return min((b for b in boxes if b is not world.primary(shard)), key=lambda b: b.host in led)


def on(world: World, host: str) -> set[str]:
    """Pods of the cluster on a machine."""
    return {b.key.name for b in world.boxes("cart") if b.host == host}


def until_left(world: World, host: str, seconds: float = GIVEN_UP_SECONDS) -> None:
    """None of the cluster's pods is on the machine any more, and all of them run elsewhere."""
    world.until(lambda: not on(world, host), f"nothing hangs on {host}", seconds)


def served(world: World, running: Running) -> None:
    """Every slot is, with all copies, the machine being still away."""
    world.until(lambda: all(b.ready for b in world.boxes("cart")), "every pod is ready", 60)
    world.until(lambda: world.condition(running.ref, "Degraded") == "False", "every copy is there", 10)
    assert world.condition(running.ref, "Ready") == "True"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (6, 1)], ids=str)
def test_machine_that_is_lost_for_good_is_left_and_the_cluster_is_whole(
    world: World, shape: tuple[int, int], version: str
) -> None:
    running = Running(world, shape, version=version, placement=PLACEMENT)
    box = world.primary(0)
    world.power_off(box.host)
    hanging = on(world, box.host)
    until_left(world, box.host)
    assert set(deletions(world)) == hanging
    served(world, running)
    world.assert_writes_kept(running.ref)
    world.wait(60)
    assert {reason for _, reason, _ in world.recorder.events} >= {"LeavingLostNode", "PrimaryLost"}
    assert "is forgotten once" in world.cluster(running.ref)["status"]["message"]
    del world.hosts.by_name[box.host]
    world.wake_all()
    running.recovers()


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (1, 2)], ids=str)
def test_lost_replica_of_a_small_cluster_is_made_anew(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape, placement=PLACEMENT)
    box = (
        replica(world)
        if shape[0] == 1
        else next(b for b in world.boxes("cart") if b.host not in {world.primary(s).host for s in range(2)})
    )
    world.power_off(box.host)
    until_left(world, box.host)
    served(world, running)
    assert not world.watch.losses
    world.hosts.take_out_of_service(box.host)
    world.wake_all()
    running.recovers()


def test_machine_that_is_back_within_the_grace_keeps_its_pods(world: World) -> None:
    running = Running(world, placement={"nodeLossGraceSeconds": 120})
    pods = running.pods()
    box = world.primary(0)
    world.power_off(box.host)
    world.wait(NOT_READY_SECONDS + 100)
    world.power_on(box.host)
    world.wait(6)
    running.recovers()
    assert running.pods() == pods
    assert not deletions(world)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", ["without power", "cut off"])
def test_s5_machine_that_returns_after_it_was_given_up_does_no_harm(world: World, how: str, version: str) -> None:
    """Cut off, its processes go on all the while, and meet the others again before their kubelet ends them."""
    running = Running(world, version=version, placement=PLACEMENT)
    box = world.primary(0)
    if how == "cut off":
        world.strand(box.host)
    else:
        world.power_off(box.host)
    until_left(world, box.host)
    served(world, running)
    uids = running.pods()
    if how == "cut off":
        assert any(n.alive and n.ip == box.ip for n in world.owner)
        world.rejoin(box.host)
    else:
        world.power_on(box.host)
    world.wait(6)
    running.recovers()
    assert running.pods() == uids
    assert not any(b.host == box.host and b.going for b in world.kubelets.sandboxes.values())


@pytest.mark.parametrize("seconds", [0.5, 3.0, 12.0])
def test_s5_processes_that_outlive_the_return_of_their_machine_do_not_lead_again(world: World, seconds: float) -> None:
    """Its network is back before its kubelet is."""
    running = Running(world, placement=PLACEMENT)
    box = world.primary(0)
    world.strand(box.host)
    until_left(world, box.host)
    served(world, running)
    leaders = {world.primary(s).key.name for s in range(3)}
    ghosts = [n for n in world.owner if n.alive and n.ip == box.ip]
    world.network.rejoin({b.ip for b in world.kubelets.sandboxes.values() if b.ip and b.host == box.host})
    world.wait(seconds)
    assert {world.primary(s).key.name for s in range(3)} == leaders
    world.rejoin(box.host)
    world.wait(6)
    assert ghosts
    assert not any(n.alive for n in ghosts)
    running.recovers()


@pytest.mark.parametrize("mode", PERSISTENT)
def test_pods_with_volumes_wait_for_a_word(world: World, mode: str) -> None:
    running = Running(world, persistence=PERSISTENT[mode], placement=PLACEMENT)
    box = world.primary(0)
    world.power_off(box.host)
    world.until(lambda: world.condition(running.ref, "Stalled") == "True", "a person is called", GIVEN_UP_SECONDS)
    world.wait(60)
    assert not deletions(world)
    body = world.cluster(running.ref)["status"]
    assert body["reason"] == "NodeLost"
    assert f"kubectl taint nodes {box.host} {names.TAINT_OUT_OF_SERVICE}=nodeshutdown:NoExecute" in body["message"]
    assert "NodeLost" in {reason for kind, reason, _ in world.recorder.events if kind == "Warning"}
    world.hosts.take_out_of_service(box.host)
    world.wake_all()
    until_left(world, box.host, 30)
    served(world, running)
    world.power_on(box.host)
    world.hosts.take_out_of_service(box.host, on=False)
    world.wait(6)
    running.recovers()


@pytest.mark.parametrize("mode", ["None", "AppendOnly"])
def test_only_copy_comes_back_on_another_machine_after_a_word(world: World, mode: str) -> None:
    running = Running(world, (1, 0), persistence=PERSISTENT.get(mode, {"mode": "None"}), placement=PLACEMENT)
    box = world.primary(0)
    world.power_off(box.host)
    world.until(lambda: world.condition(running.ref, "Stalled") == "True", "a person is called", GIVEN_UP_SECONDS)
    assert not deletions(world)
    del world.hosts.by_name[box.host]
    world.wake_all()
    world.wait(1)
    running.recovers(120)
    lost = any(reason == "DataLoss" for _, reason, _ in world.recorder.events)
    assert lost == (mode == "None")


def test_s1_operator_that_is_cut_off_from_most_machines_gives_nothing_up(world: World) -> None:
    """The API server shares its corner of the network, and loses sight of the same machines."""
    running = Running(world, (6, 1), placement=PLACEMENT)
    pods = running.pods()
    lost = [name for name in sorted(world.hosts.by_name) if name != world.primary(0).host][:4]
    for host in lost:
        world.strand(host)
    world.wait(GIVEN_UP_SECONDS + 60)
    assert not deletions(world)
    for host in lost:
        world.rejoin(host)
    world.wait(6)
    running.recovers(180)
    assert running.pods() == pods


def test_s1_operator_that_hears_nobody_gives_nothing_up(world: World) -> None:
    running = Running(world, placement=PLACEMENT)
    for box in world.boxes("cart"):
        world.network.isolate("operator", {box.ip or ""})
        world.hosts.report(box.host, ready=False, now=world.clock.now())
    world.wait(GIVEN_UP_SECONDS + 60)
    assert not deletions(world)
    for box in world.boxes("cart"):
        world.hosts.report(box.host, ready=True, now=world.clock.now())
    world.network.heal()
    running.recovers()


def test_s1_an_operator_that_has_just_started_waits_the_whole_grace(world: World) -> None:
    running = Running(world, placement=PLACEMENT)
    box = replica(world)
    world.power_off(box.host)
    world.wait(NOT_READY_SECONDS + 18)
    world.kill_operator(running.ref)
    world.wait(17)
    assert not deletions(world)
    until_left(world, box.host, 30)
    served(world, running)


@pytest.mark.parametrize("point", range(6))
def test_killed_around_the_deletion_the_operator_goes_on(point: int) -> None:
    with World(point) as world:
        running = Running(world, placement=PLACEMENT)
        box = replica(world)
        world.power_off(box.host)
        world.wait(NOT_READY_SECONDS + 19)
        operator = world.leader["cart"]
        operator.way.die_at = 2 * operator.way.requests + point
        until_left(world, box.host, 2 * GIVEN_UP_SECONDS)
        assert world.crashes == 1
        served(world, running)
        world.power_on(box.host)
        world.wait(6)
        running.recovers()


def test_zone_that_is_lost_for_good_is_left_one_pod_of_a_shard_at_a_time(world: World) -> None:
    running = Running(world, (3, 2), placement={**PLACEMENT, "spread": "Preferred"})
    zone = world.hosts.by_name[world.primary(0).host].labels[names.ZONE_LABEL]
    lost = [n for n, h in sorted(world.hosts.by_name.items()) if h.labels[names.ZONE_LABEL] == zone]
    for host in lost:
        world.power_off(host)
    world.until(lambda: not any(on(world, h) for h in lost), "the zone is left", 2 * GIVEN_UP_SECONDS)
    served(world, running)
    for host in lost:
        world.power_on(host)
    world.wait(6)
    running.recovers(180)


@pytest.mark.share(0.1)
def test_any_schedule_of_losses_and_faults_converges(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"losses {seed}") as world:
            _schedule(seed, world)


def _schedule(seed: int, world: World) -> None:
    """One or two machines go, in one way or another, before or after they are given up comes the end of that."""
    chance = random.Random(seed)  # noqa: S311
    persistence = PERSISTENT.get(chance.choice(("None", "None", "AppendOnly")), {"mode": "None"})
    shape = chance.choice(((1, 1), (2, 1), (3, 1), (3, 2)))
    running = Running(world, shape, version=version_of(seed), placement=PLACEMENT, persistence=persistence)
    world.disturb(random_faults(chance))
    hosts = chance.sample(sorted(world.hosts.by_name), chance.choice((1, 1, 2)))
    away, back = chance.choice(((world.power_off, world.power_on), (world.strand, world.rejoin)))
    for host in hosts:
        away(host)
        world.wait(30 * chance.random())
    world.wait(chance.choice((20, 50, 60, 120)))
    if away == world.power_off and chance.random() < 0.3:
        world.hosts.take_out_of_service(hosts[0])
        world.wake_all()
        world.wait(20 * chance.random())
    for host in hosts:
        back(host)
        world.hosts.take_out_of_service(host, on=False)
    world.wait(6)
    world.calm()
    world.wake_all()
    running.recovers(300)
