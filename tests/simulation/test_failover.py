"""How soon a lost primary is replaced, and what looks like a loss and is none."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from tests.simulation.engine.network import OPERATOR
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.schedules import VERSIONS
from tests.simulation.test_faults import Running
from tests.simulation.world import World

MACHINE_SECONDS = 4.0
"""From the moment that a machine falls silent to its primary's successor."""
PROCESS_SECONDS = 0.25
"""From the end of a primary's process to its successor; a request takes 1 to 7 ms here."""


@pytest.fixture(params=range(3))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Its kubelets are slow to tell that a container has ended: until it starts again."""
    with World(request.param) as world:
        world.kubelets.report_delay = 20.0
        yield world


def promotions(world: World) -> list[str]:
    """Commands that made a replica a primary."""
    return [line for line in world.trace if " failover " in line]


def told(world: World, ref: ClusterRef) -> list[dict[str, Any]]:
    """The failovers in the status, newest first."""
    found: list[dict[str, Any]] = world.cluster(ref)["status"]["failovers"]
    return found


def assert_in_order(failover: dict[str, Any]) -> None:
    """Every step is told, and none before the one that leads to it."""
    steps = [failover[f"{step}At"] for step in ("seen", "confirmed", "promoted", "writable")]
    assert steps == sorted(steps)
    assert failover["promotedBy"] == "Operator"
    gap = datetime.fromisoformat(steps[-1]) - datetime.fromisoformat(steps[0])
    assert failover["writeUnavailableMilliseconds"] == pytest.approx(gap / timedelta(milliseconds=1), abs=2)


def until_replaced(world: World, box: Sandbox, shard: int = 0) -> float:
    """Seconds until another node leads the shard."""
    began = world.loop.time()
    while True:
        leaders = [b for b in world.boxes("cart") if b.key.name.startswith(f"cart-{shard}-") and b is not box]
        if any(b.node is not None and b.node.me.primary and b.node.me.slots for b in leaders):
            return world.loop.time() - began
        assert world.loop.time() - began < 60, world.report("nobody leads the shard")
        world.wait(0.005)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1), (3, 2)], ids=str)
def test_killed_primary_is_replaced_before_its_kubelet_reports(
    world: World, shape: tuple[int, int], version: str
) -> None:
    running = Running(world, shape, version=version)
    box = world.primary(0)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS
    running.recovers()
    assert not world.watch.losses
    last = world.cluster(running.ref)["status"]["lastFailover"]
    assert (last["from"], last["to"], last["cause"]) == (box.key.name, world.primary(0).key.name, "ProcessEnded")
    assert 0 < last["writeUnavailableMilliseconds"] < 1000 * PROCESS_SECONDS
    [failover] = told(world, running.ref)
    assert failover["to"] == last["to"]
    assert_in_order(failover)
    assert {"PrimaryLost", "ReplicaPromoted"} <= {reason for _, reason, _ in world.recorder.events}


def test_each_failover_is_told_once_and_in_order_and_no_switch(world: World) -> None:
    running = Running(world)
    lost = []
    for shard in (0, 1, 0):
        box = world.primary(shard)
        world.kubelets.kill(box)
        until_replaced(world, box, shard)
        running.recovers()
        lost.append((box.key.name, world.primary(shard).key.name))
    leader = world.primary(2).key.name
    world.annotate(running.ref, names.ANNOTATION_FAILOVER, leader)
    world.until(lambda: world.primary(2).key.name != leader, "the role is handed over", 60)
    running.recovers()
    failovers = told(world, running.ref)
    assert [(f["from"], f["to"]) for f in failovers] == lost[::-1]
    for failover in failovers:
        assert_in_order(failover)


def test_failovers_outlive_the_operator_that_saw_them(world: World) -> None:
    running = Running(world)
    for shard in (0, 1):
        box = world.primary(shard)
        world.kubelets.kill(box)
        until_replaced(world, box, shard)
        running.recovers()
        world.kill_operator(running.ref)
        running.recovers()
    assert [f["shard"] for f in told(world, running.ref)] == ["cart-1", "cart-0"]


def test_a_failover_of_the_nodes_is_told_as_theirs(world: World) -> None:
    """The operator is told to keep its hands off, and looks on."""
    running = Running(world)
    world.edit(running.ref, lambda spec: spec.update(paused=True))
    world.wait(5)
    box = world.primary(0)
    world.kubelets.kill(box)
    until_replaced(world, box)
    heir = world.primary(0).key.name
    world.wait(60)
    world.edit(running.ref, lambda spec: spec.update(paused=False))
    running.recovers()
    [failover] = told(world, running.ref)
    assert (failover["from"], failover["to"]) == (box.key.name, heir)
    assert (failover["promotedBy"], failover["cause"]) == ("Nodes", "MarkedFailed")
    assert failover["seenAt"] < failover["time"]
    assert not {"confirmedAt", "promotedAt"} & failover.keys()
    assert not world.watch.losses


def test_two_primaries_killed_at_once_are_replaced_without_a_quorum(world: World) -> None:
    running = Running(world)
    boxes = [world.primary(0), world.primary(1)]
    for box in boxes:
        world.kubelets.kill(box)
    assert max(until_replaced(world, box, shard) for shard, box in enumerate(boxes)) < 2 * PROCESS_SECONDS
    running.recovers()
    assert not world.watch.losses


def test_killed_primary_is_replaced_while_a_sibling_is_out_of_reach(world: World) -> None:
    running = Running(world, (3, 2))
    box = world.primary(0)
    sibling = next(b for b in world.boxes("cart") if b.key.name.startswith("cart-0-") and b is not box)
    world.network.cut("operator", sibling.ip or "")
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS + 0.3
    world.network.heal()
    running.recovers()


def test_killed_primary_is_replaced_while_the_operator_backs_off(world: World) -> None:
    running = Running(world)
    world.leader["cart"].way.api_down = True
    world.wake_all()
    world.wait(30)
    world.leader["cart"].way.api_down = False
    box = world.primary(0)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS
    running.recovers()
    assert not world.watch.losses


def test_killed_primary_is_replaced_while_a_pass_waits_for_a_silent_node(world: World) -> None:
    running = Running(world)
    box, other = world.primary(0), world.primary(1)
    world.network.cut(OPERATOR, other.ip or "")
    operator = world.leader["cart"]
    world.until(lambda: operator.looking and world.loop.time() - operator.began > 0.5, "a pass waits", 60)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS + 0.3
    world.network.heal()
    running.recovers()


@pytest.mark.parametrize("version", ["8.1", "9.1"])
def test_killed_primary_is_replaced_while_slots_move(world: World, version: str) -> None:
    running = Running(world, version=version)
    box = world.primary(2)
    world.edit(running.ref, lambda spec: spec["topology"].update(shards=4))
    moving = lambda: any(n.migrating or n.jobs for n in world.watch.living("cart"))  # noqa: E731
    world.until(moving, "slots are on the move", 60, step=0.002)
    world.kubelets.kill(box)
    assert until_replaced(world, box, 2) < PROCESS_SECONDS
    world.wait(1)
    running.recovers(180)
    assert not world.watch.losses


def test_s1_hanging_up_on_the_operator_is_no_death(world: World) -> None:
    """CLIENT KILL USER, or an ACL file that is loaded anew."""
    running = Running(world)
    for box in world.boxes("cart"):
        assert box.node is not None
        box.node.operator_sessions += 1
    world.wait(5)
    assert not promotions(world)
    box = world.primary(0)
    world.kubelets.kill(box)
    assert until_replaced(world, box) < PROCESS_SECONDS
    running.recovers()


def test_s1_a_primary_hidden_from_the_operator_alone_is_not_replaced(world: World) -> None:
    running = Running(world)
    world.network.cut("operator", world.primary(0).ip or "")
    world.wait(30)
    assert not promotions(world)
    world.network.heal()
    running.recovers()


def hosts_of(world: World, zone: str) -> list[str]:
    """Machines of a zone."""
    return [name for name, host in sorted(world.hosts.by_name.items()) if host.labels[names.ZONE_LABEL] == zone]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(3, 1), (3, 2), (6, 1)], ids=str)
def test_primary_on_a_machine_without_power_is_replaced_by_votes(
    world: World, shape: tuple[int, int], version: str
) -> None:
    running = Running(world, shape, version=version)
    box = world.primary(0)
    world.power_off(box.host)
    assert until_replaced(world, box) < MACHINE_SECONDS
    assert not any("Takeover" in line for line in promotions(world))
    world.wait(60)
    world.power_on(box.host)
    world.wait(5)
    running.recovers()


def test_zone_without_power_is_replaced_in_ten_seconds(world: World) -> None:
    running = Running(world, (6, 1))
    zone = world.hosts.by_name[world.primary(0).host].labels[names.ZONE_LABEL]
    lost = {s: p for s in range(6) if (p := world.primary(s)).host in hosts_of(world, zone)}
    for host in hosts_of(world, zone):
        world.power_off(host)
    assert max(until_replaced(world, box, shard) for shard, box in lost.items()) < 10
    for host in hosts_of(world, zone):
        world.power_on(host)
    world.wait(5)
    running.recovers(180)


def test_s10_a_primary_that_is_cut_off_is_replaced_and_does_not_serve_on_for_long(world: World) -> None:
    running = Running(world)
    box = world.primary(0)
    world.cut_off(box)
    assert until_replaced(world, box) < MACHINE_SECONDS
    world.wait(20)
    assert box.node is not None
    assert box.node.me.primary
    assert not box.node.state_ok
    assert world.watch.leading.beside, "clients beside it have written for a while"
    world.network.heal()
    running.recovers()


def test_s10_a_primary_that_other_primaries_hear_is_not_replaced(world: World) -> None:
    """The operator and the replica are cut off from it, and neither is right."""
    running = Running(world)
    box = world.primary(0)
    replica = next(b for b in world.boxes("cart") if b.key.name.startswith("cart-0-") and b is not box)
    world.network.isolate(box.ip or "", {OPERATOR, replica.ip or ""})
    world.wait(40)
    assert not promotions(world)
    assert world.primary(0) is box
    world.network.heal()
    running.recovers()


def test_s1_an_operator_that_is_cut_off_promotes_nothing(world: World) -> None:
    """It shares a corner of the network with three of the twelve nodes, none of them the primary that goes dark."""
    running = Running(world, (6, 1))
    box = world.primary(0)
    near = [b.ip for b in world.boxes("cart") if b.host != box.host][:3]
    for other in world.boxes("cart"):
        if other.ip not in near:
            world.network.isolate(OPERATOR, {other.ip or ""})
    world.wait(0.1)
    world.power_off(box.host)
    world.wait(6)
    assert not promotions(world)
    world.network.heal()
    until_replaced(world, box)
    world.power_on(box.host)
    world.wait(5)
    running.recovers(180)


@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1)], ids=str)
def test_s10_primary_that_hangs_is_ended_before_it_is_replaced(world: World, shape: tuple[int, int]) -> None:
    """Where the others can elect, native failover is quicker; the process is ended all the same."""
    running = Running(world, shape)
    box = world.primary(0)
    assert box.node is not None
    box.node.freeze()
    assert until_replaced(world, box) < 60
    world.until(lambda: box.uid not in running.pods().values(), "the pod is replaced", 60)
    running.recovers()
    assert not world.watch.losses
    assert any(reason == "NodeHangs" for _, reason, _ in world.recorder.events)


def test_replica_that_hangs_is_ended(world: World) -> None:
    running = Running(world)
    box = next(b for b in world.boxes("cart") if b.node is not None and not b.node.me.primary)
    assert box.node is not None
    box.node.freeze()
    world.until(lambda: box.uid not in running.pods().values(), "the pod is replaced", 90)
    assert not promotions(world)
    running.recovers()
    assert not world.watch.losses


@pytest.mark.parametrize("seconds", [1.0, 4.0, 8.0])
def test_s1_a_process_that_goes_on_is_left_alone(world: World, seconds: float) -> None:
    running = Running(world, (1, 1))
    pods = running.pods()
    node = world.primary(0).node
    assert node is not None
    node.freeze()
    world.wait(seconds)
    node.thaw()
    world.wait(30)
    running.recovers()
    assert running.pods() == pods
    assert not promotions(world)


def test_s7_the_only_copy_is_not_ended_although_it_hangs(world: World) -> None:
    running = Running(world, (1, 0))
    pods = running.pods()
    node = world.primary(0).node
    assert node is not None
    node.freeze()
    world.wait(60)
    assert running.pods() == pods
    node.thaw()
    running.recovers()
    assert not world.watch.losses


def test_replica_on_a_machine_without_power_changes_no_primary(world: World) -> None:
    running = Running(world)
    primaries = [world.primary(s) for s in range(3)]
    host = next(b.host for b in world.boxes("cart") if b.host not in {p.host for p in primaries})
    world.power_off(host)
    world.wait(20)
    assert not promotions(world)
    assert [world.primary(s) for s in range(3)] == primaries
    world.power_on(host)
    world.wait(5)
    running.recovers()
