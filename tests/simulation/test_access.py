"""Rights of the engine's users on nodes that go on running: what a new operator gives, and what somebody has edited."""

from base64 import b64encode
from collections.abc import Iterator

import pytest

from cachecluster.api import names
from cachecluster.domain.access import Rights, read_users
from tests.simulation.kubernetes.kubelet import REFRESH_SECONDS, Sandbox
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import VERSIONS
from tests.simulation.test_faults import Running
from tests.simulation.world import NAMESPACE, World

OLD = {names.USER_OPERATOR: "+migrate", names.USER_APPLICATION: "-@admin", names.USER_REPLICATION: "+select"}
"""Rules that an older operator did not know, by user."""


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def without(line: str) -> str:
    """As an older operator wrote it."""
    words = line.split()
    user = names.USER_REPLICATION if words[1].startswith(names.USER_REPLICATION) else words[1]
    return " ".join(word for word in words if word != OLD.get(user))


def rights(world: World) -> list[dict[str, Rights]]:
    """As each node lists them."""
    return [read_users(b.node.users.values()) for b in world.boxes("cart") if b.node is not None]


def make_old(world: World) -> None:
    """Every node was started by an older version of the operator."""
    for box in world.boxes("cart"):
        assert box.node is not None
        box.node.users = {user: without(line) for user, line in box.node.users.items()}


def edit_users(world: World, text: str) -> None:
    """Somebody writes something into every file of users, and the kubelets bring it to the pods."""
    body = world.server.read("Secret", NAMESPACE, names.acl_secret("cart"))
    data = {key: b64encode(text.encode()).decode() for key in body["data"] if key.endswith(".acl")}
    world.store.update({**body, "data": {**body["data"], **data}})
    world.wait(REFRESH_SECONDS + 1)


@pytest.mark.parametrize("version", VERSIONS)
def test_s12_a_new_operator_gives_running_nodes_the_rights_that_it_needs(world: World, version: str) -> None:
    running = Running(world, version=version)
    pods, wanted = running.pods(), rights(world)
    world.kill_operator(running.ref)
    make_old(world)
    assert rights(world) != wanted
    world.edit(running.ref, lambda s: s["topology"].update(shards=4))  # which takes the new right
    running.recovers(120)
    assert rights(world)[: len(wanted)] == wanted
    assert pods.items() <= running.pods().items(), "a pod was restarted for it"
    assert any(reason == "SettingRights" for _, reason, _ in world.recorder.events)
    world.watch.secrets.look()
    world.check()


@pytest.mark.parametrize("crash", [0.0, 0.3])
def test_rights_are_set_under_faults(world: World, crash: float) -> None:
    running = Running(world)
    pods, wanted = running.pods(), rights(world)
    world.disturb(Faults(crash=crash, lost_reply=0.2, stale_list=0.2))
    make_old(world)
    world.wake_all()
    world.wait(20)
    world.calm()
    running.recovers()
    assert (rights(world), running.pods()) == (wanted, pods)


def test_a_node_that_starts_with_an_edited_file_gets_its_rights(world: World) -> None:
    running = Running(world)
    wanted, box = rights(world), world.primary(0)
    assert box.node is not None
    lines = [without(line) for line in box.node.users.values()]
    world.stop_operators()
    edit_users(world, "".join(f"{line}\n" for line in lines))
    restarts = box.restarts
    world.kubelets.kill(box)
    world.until(lambda: box.restarts > restarts and box.node is not None, "the container has started again", 120)
    assert rights(world) != wanted
    world.start_operator(running.ref)
    running.recovers()
    assert rights(world) == wanted


def test_a_node_never_starts_without_its_users(world: World) -> None:
    running = Running(world)
    wanted, box = rights(world), world.primary(0)
    world.stop_operators()
    edit_users(world, "")
    world.kubelets.kill(box)
    world.wait(30)
    assert refused(box), "anybody could do anything on it"
    world.start_operator(running.ref)
    running.recovers(240)
    assert rights(world) == wanted


def refused(box: Sandbox) -> bool:
    """The start script has ended without an engine."""
    return box.node is None and box.ended is not None and box.ended["exitCode"] == 4
