"""A zone that was away is used again: members of a shard that had to share one move apart, one at a time."""

from collections.abc import Iterator

import pytest

from cachecluster.api import names
from tests.simulation.conftest import Seeds
from tests.simulation.schedules import random_faults
from tests.simulation.test_faults import Running
from tests.simulation.test_lost_hosts import GIVEN_UP_SECONDS, PLACEMENT, on
from tests.simulation.world import World

SOFT = {**PLACEMENT, "spread": "Preferred"}
CALM_SECONDS = 600 + 300
"""Until a pod may move, and until the operator looks again."""


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param, zones=2) as world:
        yield world


def hosts_of(world: World, zone: str) -> list[str]:
    return [n for n, h in sorted(world.hosts.by_name.items()) if h.labels[names.ZONE_LABEL] == zone]


def zones_of(world: World, shard: int) -> set[str]:
    """Where its members are."""
    boxes = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-")]
    return {world.hosts.by_name[b.host].labels[names.ZONE_LABEL] for b in boxes}


def spread(world: World, shards: int = 3) -> bool:
    return all(len(zones_of(world, shard)) == 2 for shard in range(shards))


def crowd(world: World, running: Running) -> str:
    """Everybody ends up in one zone, as the other has no power; it has again at the end. Returns the other."""
    zone = world.hosts.by_name[world.primary(0).host].labels[names.ZONE_LABEL]
    lost = hosts_of(world, zone)
    for host in lost:
        world.power_off(host)
        world.hosts.take_out_of_service(host)  # half of all machines: the operator waits for somebody's word
    world.wake_all()
    world.until(lambda: not any(on(world, h) for h in lost), "the zone is left", 3 * GIVEN_UP_SECONDS)
    for host in lost:
        world.power_on(host)
        world.hosts.take_out_of_service(host, on=False)
    world.wait(6)
    running.recovers(180)
    return zone


def test_s7_zone_that_is_back_gets_a_copy_of_every_shard_again(world: World) -> None:
    running = Running(world, placement=SOFT)
    crowd(world, running)
    assert not spread(world)
    leaders = {world.primary(shard).uid for shard in range(3)}
    world.until(lambda: spread(world), "every shard is in both zones", CALM_SECONDS)
    running.recovers()
    assert {world.primary(shard).uid for shard in range(3)} == leaders, "roles have moved"
    assert "RestoringZoneBalance" in {reason for _, reason, _ in world.recorder.events}
    pods = running.pods()
    world.wait(CALM_SECONDS)
    assert running.pods() == pods, "it never comes to rest"


def test_members_stay_together_while_the_other_zone_takes_no_pods(world: World) -> None:
    running = Running(world, (1, 1), placement=SOFT)
    zone = crowd(world, running)
    for host in hosts_of(world, zone):
        world.hosts.cordon(host)
    world.wake_all()
    pods = running.pods()
    world.wait(CALM_SECONDS)
    assert running.pods() == pods


@pytest.mark.share(0.01)
def test_any_fault_while_members_move_apart_converges(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"zones {seed}", zones=2) as world:
            running = Running(world, (1, 1), placement=SOFT)
            crowd(world, running)
            world.wait(500)
            world.disturb(random_faults(world.chance))
            world.wait(200)
            world.calm()
            world.wake_all()
            running.recovers(300)
            world.until(lambda w=world: spread(w, 1), "the shard is in both zones", CALM_SECONDS)  # type: ignore[misc]
            running.recovers()
