"""Clocks that people set: what the operator concludes from times that come from different machines."""

from collections.abc import Iterator

import pytest

from cachecluster.api import names
from cachecluster.domain.loss import EXPIRY_SECONDS
from tests.simulation.engine.network import OPERATOR
from tests.simulation.site import NOT_READY_SECONDS
from tests.simulation.test_failover import promotions, told
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.test_lost_hosts import deletions, replica, until_left
from tests.simulation.world import World


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


@pytest.mark.parametrize("seconds", [-300.0, 300.0], ids=["back", "forward"])
@pytest.mark.parametrize("whose", ["operator", "host"])
def test_s10_a_primary_that_has_restarted_once_is_not_proven_dead_by_a_clock(
    world: World, seconds: float, whose: str
) -> None:
    """Its container has once ended, and how long ago it started again is asked of two clocks. Only its fence, which is
    counted by one, lets another lead in its place.
    """
    running = Running(world, (1, 1), persistence=PERSISTENT["AppendOnly"])
    box = world.primary(0)
    if whose == "host":
        world.set_clock(box.host, seconds)
    world.kubelets.kill(box)
    running.recovers()
    world.annotate(running.ref, names.ANNOTATION_FAILOVER, world.primary(0).key.name)
    world.until(lambda: world.primary(0) is box, "it leads again", 60)
    running.recovers()
    world.wait(120)
    before = promotions(world)
    if whose == "operator":
        world.set_operators_clock(seconds)
    other = next(b for b in world.boxes("cart") if b is not box)
    world.partitioned = True
    world.network.isolate(box.ip or "", {OPERATOR, other.ip or ""})
    world.wait(EXPIRY_SECONDS - 2)
    assert promotions(world) == before
    world.wait(90)
    assert len(promotions(world)) == len(before) + 1
    assert "FenceExpired" in {f["cause"] for f in told(world, running.ref)}
    world.network.heal()
    running.recovers()


def test_the_grace_of_a_lost_machine_is_not_cut_short_by_a_clock(world: World) -> None:
    running = Running(world, placement={"nodeLossGraceSeconds": 60})
    box = replica(world)
    world.power_off(box.host)
    world.wait(NOT_READY_SECONDS + 10)
    world.set_operators_clock(3600.0)
    world.wait(40)
    assert not deletions(world)
    until_left(world, box.host, 30)
    world.power_on(box.host)
    world.wait(6)
    running.recovers()
