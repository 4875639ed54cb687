"""How each fault is made, and mended at the end of its block.

What has to happen while a fault lasts has happened when its block begins, and writes have to go on within it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from e2e.cluster import Member
from e2e.diagnosis import OPERATOR_NAMESPACE
from e2e.faults.stage import Stage
from e2e.install import until_operator_ready
from e2e.leadership import CONTAINER as OPERATOR
from e2e.leadership import Leadership
from e2e.platform import Direction

ENGINE: Final = "engine"
CRASHES: Final = 2
HOLD_SECONDS: Final = 8.0
"""Longer than any time-out by which a node of the cluster is given up."""


@contextmanager
def process_killed(stage: Stage, victim: Member) -> Iterator[None]:
    """SIGKILL to a primary's process."""
    stage.faults.kill_container(stage.cart.namespace, victim.name, ENGINE)
    stage.until_led_by_another(victim)
    yield


@contextmanager
def out_of_memory(stage: Stage, victim: Member) -> Iterator[None]:
    """The kernel's OOM killer takes a primary."""
    stage.faults.out_of_memory(stage.cart.namespace, victim.name, ENGINE)
    stage.until_led_by_another(victim)
    yield


@contextmanager
def process_stopped(stage: Stage, victim: Member) -> Iterator[None]:
    """SIGSTOP to a primary until another leads, then SIGCONT."""
    with stage.faults.stopped(stage.cart.namespace, victim.name, ENGINE):
        stage.until_led_by_another(victim)
        yield


@contextmanager
def restart_loop(stage: Stage, victim: Member) -> Iterator[None]:
    """A container ends as soon as it runs, until its kubelet lets it wait."""
    for crash in range(1, CRASHES + 1):
        stage.faults.kill_container(stage.cart.namespace, victim.name, ENGINE)
        stage.cart.until("the container runs again", lambda goal=victim.restarts + crash: _runs(stage, victim, goal))  # type: ignore[misc]
    stage.until_led_by_another(victim)
    yield


def _runs(stage: Stage, victim: Member, restarts: int) -> bool:
    [status] = stage.kube.get("Pod", stage.cart.namespace, victim.name)["status"]["containerStatuses"]
    return bool("running" in status["state"] and status["restartCount"] >= restarts)


@contextmanager
def pod_deleted_by_force(stage: Stage, victim: Member) -> Iterator[None]:
    """kubectl delete pod --grace-period 0 --force, of a primary."""
    stage.kube.delete("Pod", stage.cart.namespace, victim.name, grace_seconds=0)
    stage.until_led_by_another(victim)
    yield


@contextmanager
def evicted_by_kubelet(stage: Stage, victim: Member) -> Iterator[None]:
    """A primary's pod fills its machine's disk beyond its limit."""
    fill = ("dd", "if=/dev/zero", "of=/data/ballast", "bs=1M", "count=160")
    filled = stage.kube.execute(stage.cart.namespace, victim.name, *fill, container=ENGINE)
    assert filled.code == 0, filled.stderr
    stage.cart.until("the kubelet evicts the pod", lambda: _was_evicted(stage, victim), 120)
    stage.until_led_by_another(victim)
    yield


def _was_evicted(stage: Stage, victim: Member) -> bool:
    pod = stage.kube.find("Pod", stage.cart.namespace, victim.name)
    return pod is None or pod["metadata"]["uid"] != victim.uid or pod["status"].get("reason") == "Evicted"


@contextmanager
def operator_killed(stage: Stage, victim: Member) -> Iterator[None]:
    """All of the operator's pods and a primary end together."""
    kill = stage.faults.aim(stage.cart.namespace, victim.name, ENGINE)
    _kill_operator(stage)
    kill()
    yield
    until_operator_ready(stage.kube)
    stage.until_led_by_another(victim)


def _kill_operator(stage: Stage) -> None:
    for pod in stage.operator_pods():
        stage.kube.delete("Pod", OPERATOR_NAMESPACE, pod, grace_seconds=0)


@contextmanager
def operator_frozen(stage: Stage, victim: Member) -> Iterator[None]:
    """The leading process of the operator stands still, and a primary ends meanwhile."""
    leader = Leadership(stage.kube, stage.faults).next()
    with stage.faults.stopped(OPERATOR_NAMESPACE, leader.pod, OPERATOR):
        stage.faults.kill_container(stage.cart.namespace, victim.name, ENGINE)
        yield
    stage.until_led_by_another(victim)
    until_operator_ready(stage.kube)


@contextmanager
def api_server_away(stage: Stage, victim: Member) -> Iterator[None]:
    """The API server does not answer, and a primary ends meanwhile."""
    kill = stage.faults.aim(stage.cart.namespace, victim.name, ENGINE)
    with stage.faults.api_server_away():
        kill()
        stage.hold(HOLD_SECONDS)
    stage.until_led_by_another(victim)
    yield


@contextmanager
def node_without_power(stage: Stage, victim: Member) -> Iterator[None]:
    """The machine of a primary is off."""
    stage.faults.power_off(victim.node)
    try:
        stage.until_led_by_another(victim)
        yield
    finally:
        stage.faults.power_on(victim.node)


@contextmanager
def node_frozen(stage: Stage, victim: Member) -> Iterator[None]:
    """The machine of a primary stands still, and its kernel answers."""
    with stage.faults.frozen(victim.node):
        stage.until_led_by_another(victim)
        yield


@contextmanager
def cut_from_peers(stage: Stage, victim: Member) -> Iterator[None]:
    """A primary and the other nodes do not hear each other; applications and the operator hear all."""
    with stage.faults.cut(stage.peers(victim)):
        stage.until_led_by_another(victim)
        yield


@contextmanager
def not_heard_by_peers(stage: Stage, victim: Member) -> Iterator[None]:
    """What a primary says to the other nodes is lost; it hears them."""
    with stage.faults.cut(replace(stage.peers(victim), direction=Direction.OUT)):
        stage.until_led_by_another(victim)
        yield


@contextmanager
def cut_at_the_bus(stage: Stage, victim: Member) -> Iterator[None]:
    """A primary's cluster bus is cut, and only that: its replica goes on copying."""
    with stage.faults.cut(stage.bus(victim)):
        stage.until_led_by_another(victim)
        yield


@contextmanager
def cut_from_operator(stage: Stage, victim: Member) -> Iterator[None]:
    """The operator and a primary do not hear each other: nobody else minds, so nothing is done."""
    before = stage.cart.uids()
    with stage.faults.cut(stage.operator(victim)):
        stage.hold(HOLD_SECONDS)
        yield
        assert stage.cart.uids() == before, "a pod was replaced that only the operator did not hear"
        assert stage.cart.primary_of(victim.shard).name == victim.name


@contextmanager
def cut_from_api_server(stage: Stage, victim: Member) -> Iterator[None]:
    """A primary's machine and the API server do not hear each other, and the primary ends meanwhile."""
    kill = stage.faults.aim(stage.cart.namespace, victim.name, ENGINE)
    with stage.faults.cut(stage.api_server(victim.node)):
        kill()
        stage.until_led_by_another(victim)
        yield


@contextmanager
def zone_cut_off(stage: Stage, victim: Member) -> Iterator[None]:
    """A zone and the rest of the world do not hear each other; applications write on both sides."""
    with stage.faults.cut(*stage.rest_of_the_world(victim.zone)):
        stage.until_led_by_another(victim)
        yield


@contextmanager
def slow_network(stage: Stage, victim: Member) -> Iterator[None]:
    """What a primary's machine sends is late or lost."""
    with stage.faults.slow(victim.node):
        stage.hold(HOLD_SECONDS)
        yield


@contextmanager
def disk_full(stage: Stage, victim: Member) -> Iterator[None]:
    """A primary cannot write to its volume: it refuses writes until it can, and then has its log written anew."""
    small = _on_a_small_disk(stage, victim.shard)
    with stage.faults.full_disk(small.node, small.uid):
        stage.cart.until("writes are refused", lambda: "MISCONF" in stage.shopper.error("write", "40", "full"), 60)
        stage.cart.until_condition("Ready", "False", "VolumeNotWritable")
    stage.cart.until("its log has been rewritten", lambda: not stage.cart.read()["status"].get("logGaps"))
    yield


def _on_a_small_disk(stage: Stage, shard: int) -> Member:
    """A replica is restarted on a disk that can be filled, and made the primary."""
    replica = stage.cart.replica_of(shard)
    with stage.faults.stopped(stage.cart.namespace, replica.name, ENGINE):
        stage.faults.small_disk(replica.node, replica.uid)
        stage.faults.kill_container(stage.cart.namespace, replica.name, ENGINE)
    stage.cart.until("it has restarted", lambda: _runs(stage, replica, replica.restarts + 1))
    stage.until_whole()
    return stage.hand_over(replica)
