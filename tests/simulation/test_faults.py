"""A running cluster loses processes, pods, objects, operators: it becomes whole again, and no acknowledged write is
lost that any copy still had."""

from collections.abc import Iterator

import pytest

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from tests.simulation import events
from tests.simulation.operating.clients import Writer
from tests.simulation.schedules import VERSIONS, spec
from tests.simulation.world import World

PERSISTENT = {"AppendOnly": {"mode": "AppendOnly", "size": "1Gi"}, "Snapshot": {"mode": "Snapshot", "size": "1Gi"}}


class Running:
    """A formed cluster with an application that has been writing for a while."""

    def __init__(self, world: World, shape: tuple[int, int] = (3, 1), **more: object) -> None:
        self.world = world
        self.ref: ClusterRef = world.create(spec(shape, **more))
        world.converge(self.ref, 30)
        self.writer: Writer = world.write(self.ref)
        world.wait(3)
        assert len(world.history.acked) > 20

    def recovers(self, seconds: float = 90.0) -> None:
        """Whole again, everything acknowledged is still there, and writes go on."""
        self.world.wait(1)
        self.world.converge(self.ref, seconds)
        before = len(self.world.history.acked)
        self.world.wait(2)
        assert len(self.world.history.acked) > before
        self.world.assert_writes_kept(self.ref)
        self.world.watch.secrets.look()
        self.world.check()

    def pods(self) -> dict[str, str]:
        """uids by name."""
        return {b.key.name: b.uid for b in self.world.boxes("cart")}


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("shape", [(1, 1), (2, 1), (3, 1), (1, 2), (3, 2)], ids=str)
def test_s5_killed_primary_process_loses_no_write(world: World, shape: tuple[int, int], version: str) -> None:
    running = Running(world, shape, version=version)
    box = world.primary(0)
    world.kubelets.kill(box)
    running.recovers()
    assert not world.watch.losses
    assert world.primary(0) is not box


@pytest.mark.parametrize("mode", PERSISTENT)
def test_s5_killed_primary_with_a_volume_loses_no_write(world: World, mode: str) -> None:
    running = Running(world, persistence=PERSISTENT[mode])
    world.kubelets.kill(world.primary(1))
    running.recovers()
    assert not world.watch.losses


@pytest.mark.parametrize("again_after", [0.2, 2.0, 8.0])
def test_s5_primary_killed_again_while_it_is_held(world: World, again_after: float) -> None:
    running = Running(world)
    box = world.primary(0)
    world.kubelets.kill(box)
    world.wait(again_after + 0.5)
    world.kubelets.kill(box)
    running.recovers(150)
    assert not world.watch.losses


@pytest.mark.parametrize("shape", [(1, 1), (3, 1)], ids=str)
def test_s5_killed_primary_while_no_operator_runs(world: World, shape: tuple[int, int]) -> None:
    running = Running(world, shape)
    world.stop_operators()
    world.kubelets.kill(world.primary(0))
    world.wait(60)
    assert not world.watch.losses
    world.start_operator(running.ref)
    running.recovers()


def test_killed_replica_process(world: World) -> None:
    running = Running(world)
    replica = next(b for b in world.boxes("cart") if b.node is not None and not b.node.me.primary)
    world.kubelets.kill(replica)
    running.recovers()
    assert not world.watch.losses


@pytest.mark.parametrize("which", ["primary", "replica"])
def test_deleted_pod_loses_no_write(world: World, which: str) -> None:
    running = Running(world)
    boxes = [b for b in world.boxes("cart") if b.node is not None and b.node.me.primary == (which == "primary")]
    world.store.delete(boxes[0].key)
    world.wait(1)
    running.recovers()
    assert not world.watch.losses
    assert running.pods()[boxes[0].key.name] != boxes[0].uid


@pytest.mark.parametrize("what", [events.kill_all_processes, events.delete_all_pods], ids=["killed", "deleted"])
def test_everything_down_at_once_with_append_only_files_loses_nothing(world: World, what: events.Event) -> None:
    world.kubelets.reuse_addresses = False
    running = Running(world, persistence=PERSISTENT["AppendOnly"])
    what(world, running.ref, world.chance)
    world.wait(1)
    running.recovers(180)
    assert not world.watch.losses


@pytest.mark.parametrize("version", VERSIONS)
def test_s3_pods_of_different_shards_trade_addresses_while_all_are_down(version: str) -> None:
    """A replica looks for its primary at the old address and finds a node of another shard there (ADR 0022)."""
    for seed in range(10):
        with World(seed) as world:
            running = Running(world, version=version, persistence=PERSISTENT["AppendOnly"])
            events.delete_all_pods(world, running.ref, world.chance)
            world.wait(1)
            running.recovers(180)
            # From 8.1 on, who finds another at its old address has everybody count a primary as failed, although it is
            # well: writes that are on their way to the replica that is elected then end with its role.
            assert not [loss for loss in world.watch.losses if loss.settled or version < "8.1"]


@pytest.mark.parametrize("what", [events.kill_all_processes, events.delete_all_pods], ids=["killed", "deleted"])
@pytest.mark.parametrize("shape", [(1, 0), (3, 1)], ids=str)
def test_s2_everything_down_at_once_without_persistence_starts_empty_and_says_so(
    world: World, what: events.Event, shape: tuple[int, int]
) -> None:
    running = Running(world, shape)
    what(world, running.ref, world.chance)
    world.wait(1)
    running.recovers(180)
    assert any(reason == "DataLoss" for _, reason, _ in world.recorder.events)


@pytest.mark.parametrize("kind", events.CHILD_KINDS[:-1])
def test_deleted_children_come_back(world: World, kind: str) -> None:
    running = Running(world)
    pods = running.pods()
    keys = events.children(world, running.ref, kind)
    assert keys
    for key in keys:
        world.store.delete(key)
    running.recovers()
    assert {k for k in keys if world.store.exists(k)} == set(keys)
    assert running.pods() == pods
    assert not world.watch.losses


@pytest.mark.parametrize("mode", [None, "AppendOnly"])
def test_deleted_statefulset_comes_back(world: World, mode: str | None) -> None:
    running = Running(world, persistence=PERSISTENT.get(mode or "", {"mode": "None"}))
    world.store.delete(events.children(world, running.ref, "StatefulSet")[1])
    world.wait(1)
    running.recovers(180)
    if mode:
        assert not world.watch.losses


def test_cordoned_host_of_a_primary_hands_over(world: World) -> None:
    running = Running(world)
    box = world.primary(0)
    world.hosts.cordon(box.host)
    world.wake_all()
    world.until(lambda: world.primary(0).host != box.host, "the primary has moved", 30)
    world.hosts.cordon(box.host, on=False)
    world.wake_all()
    running.recovers()
    assert not world.watch.losses


def test_s1_a_node_hidden_from_the_operator_alone_is_left_in_peace(world: World) -> None:
    running = Running(world)
    pods, primary = running.pods(), world.primary(0)
    world.network.cut("operator", primary.ip or "")
    world.wait(90)
    assert world.primary(0) is primary
    world.network.heal()
    running.recovers()
    assert running.pods() == pods
    assert not world.watch.losses


def test_paused_cluster_is_left_alone(world: World) -> None:
    running = Running(world)
    world.edit(running.ref, lambda s: s.update(paused=True))
    world.wait(2)
    writes = [line for line in world.trace if " op" in line and " status " not in line]
    world.kubelets.kill(world.primary(0))
    world.store.delete(events.children(world, running.ref, "Service")[0])
    world.wait(60)
    assert [line for line in world.trace if " op" in line and " status " not in line] == writes
    world.edit(running.ref, lambda s: s.pop("paused"))
    running.recovers()


def test_s9_new_operator_with_other_settings_restarts_no_pod(world: World) -> None:
    running = Running(world)
    pods = running.pods()
    world.operator_namespace = "elsewhere"
    world.kill_operator(running.ref)
    world.wait(3)
    running.recovers()
    assert running.pods() == pods
    policy = world.server.read("NetworkPolicy", running.ref.namespace, "cart")
    assert "elsewhere" in str(policy)


def test_s4_address_reused_by_another_cluster(world: World) -> None:
    """Pods of two clusters go at once and get each other's addresses."""
    one = Running(world, (2, 1))
    two = world.create(spec((2, 1)), "till")
    world.converge(two, 60)
    for _ in range(3):
        for name in ("cart", "till"):
            box = world.chance.choice(world.boxes(name))
            world.store.delete(box.key)
        world.wait(6)
    one.recovers(180)
    world.converge(two, 180)
    world.check()


def test_labels_follow_roles(world: World) -> None:
    running = Running(world)
    world.kubelets.kill(world.primary(2))
    running.recovers()
    for box in world.boxes("cart"):
        assert box.node is not None
        role = world.server.read("Pod", *box.key[1:])["metadata"]["labels"][names.LABEL_ROLE]
        assert role == ("primary" if box.node.me.primary else "replica")
