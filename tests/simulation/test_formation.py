"""From nothing to one cluster with all slots, whatever is lost, late or killed on the way."""

import random
from collections import Counter
from typing import Any

import pytest

from cachecluster.api import names
from tests.simulation.conftest import Seeds
from tests.simulation.engine.node import Node
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import NO_FAULTS, SHAPES, VERSIONS, Shape, random_faults, random_shape, spec
from tests.simulation.world import World

LONGEST_SECONDS = 120.0


def test_any_schedule_of_crashes_and_losses_forms_one_cluster(seeds: Seeds) -> None:
    for seed in seeds:
        chance = random.Random(seed)  # noqa: S311
        shape, faults = random_shape(chance), random_faults(chance)
        with World(seed, faults=faults) as world:
            ref = world.create(spec(shape, version=chance.choice(VERSIONS)))
            world.wait(chance.choice((2.0, 5.0, 12.0)))
            world.calm()
            world.converge(ref, LONGEST_SECONDS)
            world.watch.secrets.look()
            world.check()


@pytest.mark.parametrize("shape", [(1, 0), (1, 2), (2, 1), (3, 1)], ids=str)
def test_crash_before_and_after_every_single_write(shape: Shape) -> None:
    """The first operator dies at its n-th write, for every n; the second one finishes the work."""
    point = 0
    while True:
        with World(f"crash point {point}") as world:
            world.crash_at = point
            ref = world.create(spec(shape))
            world.converge(ref, LONGEST_SECONDS)
            world.check()
            if world.crashes == 0:
                break
        point += 1
    assert point > 40  # about twenty writes even for the smallest cluster, a crash on either side of each


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_undisturbed_formation_is_quick_and_even(shape: Shape) -> None:
    with World(f"calm {shape}") as world:
        ref = world.create(spec(shape))
        took = world.converge(ref, 30)
        assert took < 8
        zones = Counter(
            world.hosts.by_name[b.host].labels[names.ZONE_LABEL]
            for b in world.boxes("cart")
            if b.node is not None and b.node.me.primary
        )
        assert max(zones.values()) - min(zones.values()) <= 1 or shape[0] < 3, zones
        for shard in range(shape[0]):
            members = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-")]
            assert len({world.hosts.by_name[b.host].labels[names.ZONE_LABEL] for b in members}) == len(members)
        assert world.cluster(ref)["status"]["conditions"]


@pytest.mark.parametrize("seconds", [2, 20, 90])
def test_api_server_away_while_forming(seconds: int) -> None:
    for seed in range(5):
        with World(seed) as world:
            ref = world.create(spec())
            world.wait(0.3 + 0.1 * seed)
            world.leader["cart"].way.api_down = True
            world.wait(seconds)
            world.calm()
            world.converge(ref, LONGEST_SECONDS)


@pytest.mark.parametrize("seed", range(10))
def test_s1_operator_cut_off_from_some_nodes_while_forming(seed: int) -> None:
    with World(seed) as world:
        ref = world.create(spec())
        world.wait(0.5)
        for box in world.boxes("cart")[: 1 + seed % 4]:
            if box.ip is not None:
                world.network.cut("operator", box.ip)
        world.wait(30)
        world.calm()
        world.converge(ref, LONGEST_SECONDS)


@pytest.mark.parametrize("seed", range(10))
def test_deleted_while_forming_leaves_nothing_behind(seed: int) -> None:
    with World(seed, faults=Faults(crash=0.05, lost_reply=0.1)) as world:
        ref = world.create(spec())
        world.wait(0.1 + 0.25 * seed)
        world.delete(ref)
        world.wait(5)
        world.calm()
        world.until(lambda: world.is_empty("cart"), "nothing is left", 60)


@pytest.mark.parametrize("seed", range(10))
def test_created_again_under_the_same_name_at_once(seed: int) -> None:
    with World(seed) as world:
        ref = world.create(spec((2, 1)))
        world.wait(1.0 + seed)
        world.delete(ref)
        world.until(lambda: not world.exists(ref), "the old one is gone", 60)
        world.converge(world.create(spec((2, 1))), LONGEST_SECONDS)


def test_s4_two_clusters_side_by_side_stay_apart() -> None:
    for seed in range(5):
        with World(seed, faults=Faults(crash=0.05, lost_reply=0.1, stale_list=0.1)) as world:
            one, two = world.create(spec(), "cart"), world.create(spec((2, 1)), "till")
            world.wait(10)
            world.calm()
            world.converge(one, LONGEST_SECONDS)
            world.converge(two, LONGEST_SECONDS)


@pytest.mark.parametrize("seed", range(20))
def test_a_stuck_leader_wakes_up_beside_its_successor(seed: int) -> None:
    """It had asked whether it leads before it got stuck: what it was about to send arrives late.

    The API server refuses what has changed meanwhile; the nodes have hung up on it, once its successor has seen them.
    """
    with World(seed) as world:
        ref = world.create(spec((2, 1)))
        world.wait(0.1 + 0.07 * seed)
        stuck = world.leader[ref.name]
        world.replace_stuck_leader(ref, seconds=1.0 + seed % 3)
        seen_before_it_woke = world.leader[ref.name]
        late: list[str] = []

        def note(node: Node, name: str, arguments: tuple[Any, ...]) -> None:
            if seen_before_it_woke.passes > 1 and node in known:
                late.append(f"{name} on {node.ip}")
            world.watch.command(node, name, arguments)

        known = world.watch.living(ref.name)
        stuck.way.before_command = note
        world.wait(1.5 + seed % 3)  # a status that it sends late is corrected, which is no rest
        world.converge(ref, LONGEST_SECONDS)
        assert not late, late


def test_no_faults_means_no_crashes() -> None:
    with World(0, faults=NO_FAULTS) as world:
        world.converge(world.create(spec((1, 0))), 30)
        assert world.crashes == 0
        assert world.incarnations == 1
