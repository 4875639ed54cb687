"""Every class of faults strikes one cluster after the other while applications in every zone write to it.

It is whole again afterwards, and no more is lost than docs/durability.md says. `make test` plays most of them
with three shards; `--fault-rounds N` (`make faults`) plays the matrix of sizes, with and without volumes, N times.
"""

import itertools
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from redis.crc import key_slot

from e2e import client
from e2e.cluster import SLOTS, Cluster, Member, small_spec
from e2e.faults import Case, Reach, Stage, matrix, sample, set_up
from e2e.install import Installation
from e2e.kube import Kube, Obj
from e2e.namespaces import namespace
from e2e.platform import Faults
from e2e.slots import SlotWatch

pytestmark = pytest.mark.alone

KEYS = 300
WRITES = 100
"""So many are acknowledged at least around each fault."""
WRITES_OF_ONE_SHARD = 50
"""The same where nobody writes for half a minute while the only shard hangs."""
KEYS_PER_SLOT = 50
"""So that slots are still on the move when the second node dies."""


Shape = tuple[int, bool]
"""Number of shards, and whether there are volumes."""
ON_VOLUMES: Shape = (3, True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Cases in the order in which they share clusters."""
    if "case" in metafunc.fixturenames:
        rounds: int = metafunc.config.getoption("--fault-rounds")
        cases = list(matrix(rounds) if rounds else sample())
        shapes = [((case.shards, case.volumes), case) for case in cases]
        metafunc.parametrize(("stage", "case"), shapes, ids=[c.id for c in cases], indirect=["stage"])


class Stages:
    """One cluster at a time; it is kept until one of another shape is asked for."""

    def __init__(self, installation: Installation, faults: Faults, *, keep: bool) -> None:
        self._installation = installation
        self._faults = faults
        self._keep = keep
        self._open = ExitStack()
        self._current: tuple[Shape, Stage] | None = None

    def of(self, shape: Shape) -> Stage:
        """A cluster of this shape."""
        if self._current is None or self._current[0] != shape:
            self.close()
            self._current = shape, self._set_up(*shape)
        return self._current[1]

    def close(self) -> None:
        """Leave it."""
        self._current = None
        self._open.close()

    def _set_up(self, shards: int, volumes: bool) -> Stage:
        purpose = f"faults-{shards}-{'volumes' if volumes else 'memory'}"
        name = self._open.enter_context(namespace(self._installation.kube, purpose, keep=self._keep))
        return self._open.enter_context(set_up(self._installation, self._faults, name, shards, volumes=volumes))


@pytest.fixture(scope="module")
def stages(installation: Installation, faults: Faults, request: pytest.FixtureRequest) -> Iterator[Stages]:
    """Clusters for all scenarios here."""
    made = Stages(installation, faults, keep=request.config.getoption("--keep-namespaces"))
    yield made
    made.close()


@pytest.fixture
def stage(stages: Stages, request: pytest.FixtureRequest) -> Stage:
    """A cluster of the shape that the scenario asks for, whole."""
    found = stages.of(request.param)
    found.until_whole()
    return found


def test_f5_source_and_target_of_moving_slots_die_and_every_key_arrives(
    installation: Installation, kube: Kube, faults: Faults, here: str
) -> None:
    cart = Cluster(kube, here, "cart")
    cart.apply(small_spec(2, 1))
    cart.until_whole()
    application = client.start(kube, installation.image, here, cart.name)
    application.seed(KEYS_PER_SLOT)
    slots = SlotWatch(kube, here, cart.name, installation.image)
    with slots.watching():
        cart.edit({"topology": {"shards": 3}})
        cart.until("slots have begun to move", lambda: slots.moved() > 0)
        for shard in (0, 2):
            victim = cart.primary_of(shard)
            assert cart.read()["status"].get("resharding"), "all slots have arrived already"
            faults.kill_container(here, victim.name, "engine")
            cart.until("another leads", lambda v=victim: cart.primary_of(v.shard).name != v.name)  # type: ignore[misc]
        cart.until_whole()
    cart.assert_even(3)
    assert application.seeded(KEYS_PER_SLOT) == SLOTS * KEYS_PER_SLOT


@pytest.mark.parametrize("stage", [ON_VOLUMES], indirect=True, ids=["3-shards-volumes"])
def test_f13_a_node_that_leads_no_more_sends_writers_to_the_one_that_does(stage: Stage) -> None:
    former = stage.victim(Reach.PROCESS)
    successor = stage.hand_over(next(m for m in stage.cart.members() if m.shard == former.shard and m != former))
    [slots] = stage.slots_within(successor, Reach.PROCESS)
    key = key_in(slots)
    assert stage.shopper.ask("write-to", successor.ip, key) == "OK"
    assert stage.shopper.ask("write-to", former.ip, key).startswith("MovedError")
    assert stage.shopper.ask("write", "40", "endpoint") == 40


@pytest.mark.parametrize("stage", [ON_VOLUMES], indirect=True, ids=["3-shards-volumes"])
def test_f1_every_pod_is_replaced_at_once_and_nothing_is_lost(stage: Stage, kube: Kube) -> None:
    cart = stage.cart
    stage.shopper.write(KEYS, "f1")
    before = {m.name: m for m in cart.members()}
    ids = nodes_of(stage.shopper)
    with stage.recorder.round():
        for pod in before:
            kube.delete("Pod", cart.namespace, pod, grace_seconds=0)
        cart.until("all pods are new", lambda: all_new(cart, before))
        stage.until_whole()
        stage.until_writes_go_on()
    stage.recorder.history.assert_nothing_lost()
    print(f"every pod replaced: longest gap {stage.recorder.history.longest_gap_milliseconds} ms")
    assert stage.shopper.count(KEYS, "f1") == KEYS
    assert not {m.ip for m in cart.members()} & {m.ip for m in before.values()}, "a pod has its old address"
    assert nodes_of(stage.shopper) == ids, "they came back as others"


def key_in(slots: str) -> str:
    """A key whose slot is in a range such as 0-5460."""
    first, last = map(int, slots.split("-"))
    names = (f"endpoint-{n}" for n in itertools.count())
    return next(name for name in names if first <= key_slot(name.encode()) <= last)


def all_new(cart: Cluster, before: dict[str, Member]) -> bool:
    """As many pods as before, and none of them."""
    now = {m.name: m for m in cart.members()}
    return now.keys() == before.keys() and all(now[name].uid != before[name].uid and now[name].ip for name in now)


@pytest.mark.parametrize("stage", [ON_VOLUMES], indirect=True, ids=["3-shards-volumes"])
def test_f2_two_clusters_whose_pods_swap_addresses_stay_two(
    installation: Installation, stage: Stage, kube: Kube, here: str
) -> None:
    other = Cluster(kube, here, "other")
    storage = {"mode": "AppendOnly", "size": "256Mi"}
    other.apply(small_spec(3, 1, persistence=storage, deletionPolicy="Delete"))
    other.until_whole()
    stranger = client.start(kube, installation.image, here, other.name)
    stage.shopper.write(KEYS, "mine")
    stranger.write(KEYS, "theirs")
    before = nodes_of(stage.shopper), nodes_of(stranger)
    mine, theirs = on_one_machine(stage.cart, other)
    with stage.recorder.round():
        swap(kube, stage, mine, theirs, other)
        stage.until_whole()
        other.until_whole()
    stage.recorder.history.assert_nothing_lost()
    assert address(stage.cart, mine) == theirs.ip
    assert address(other, theirs) == mine.ip
    assert (nodes_of(stage.shopper), nodes_of(stranger)) == before, "a node has left its cluster, or joined the other"
    assert stage.shopper.count(KEYS, "mine") == stranger.count(KEYS, "theirs") == KEYS
    assert stage.shopper.count(KEYS, "theirs") == stranger.count(KEYS, "mine") == 0, "keys are where they do not belong"


def test_fault_costs_no_more_than_is_written(stage: Stage, case: Case) -> None:
    fault = case.fault
    victim = stage.victim(fault.reach)
    slots = stage.slots_within(victim, fault.reach)
    with stage.recorder.round():
        with fault.strike(stage, victim):
            stage.until_writes_go_on()
        stage.until_whole()
        stage.until_writes_go_on()
    history = stage.recorder.history
    within = history.lost_within_milliseconds
    print(f"{case.id}: {history.lost} of {history.acked} acknowledged writes lost, within {within or 0} ms;", end=" ")
    print(f"longest gap {history.longest_gap_milliseconds} ms; {history.failed} writes failed")
    at_least = WRITES_OF_ONE_SHARD if case.shards == 1 else WRITES
    if fault.loses:
        history.assert_lost_at_most(fault.loses, slots, at_least)
    else:
        history.assert_nothing_lost(at_least)


def on_one_machine(mine: Cluster, theirs: Cluster) -> tuple[Member, Member]:
    """A pod of each, on the same Kubernetes node: only there can they have each other's address."""
    return next((m, t) for m in mine.members() for t in theirs.members() if m.node == t.node)


def swap(kube: Kube, stage: Stage, mine: Member, theirs: Member, other: Cluster) -> None:
    """Both are down together, and each comes back with the other's address."""
    closed: Obj = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "none", "namespace": other.namespace},
    }
    kube.create({**closed, "spec": {"hard": {"pods": "0"}}})  # whoever goes now does not come back
    kube.delete("Pod", other.namespace, theirs.name)
    other.until("their pod is gone", lambda: kube.find("Pod", other.namespace, theirs.name) is None)
    stage.faults.next_address(mine.node, theirs.ip)
    kube.delete("Pod", stage.cart.namespace, mine.name)
    stage.cart.until("our pod has their address", lambda: address(stage.cart, mine) == theirs.ip)
    stage.faults.next_address(mine.node, mine.ip)
    kube.delete("ResourceQuota", other.namespace, "none")
    other.until("their pod has our address", lambda: address(other, theirs) == mine.ip)


def address(cluster: Cluster, member: Member) -> str:
    """Of the pod that has a member's name now."""
    return next((m.ip for m in cluster.members() if m.name == member.name), "")


def nodes_of(application: client.Client) -> set[str]:
    """Ids of all nodes that any node of a cluster knows."""
    return {str(row["id"]) for view in application.ask("nodes").values() for row in view}
