"""What can befall a running cluster."""

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Final

from cachecluster.api import names
from cachecluster.domain.requests import failover_request
from cachecluster.domain.snapshot import ClusterRef
from tests.simulation.engine import commands
from tests.simulation.kubernetes.store import Key

if TYPE_CHECKING:
    from tests.simulation.kubernetes.kubelet import Sandbox
    from tests.simulation.world import World

Event = Callable[["World", ClusterRef, Random], None]

CHILD_KINDS: Final = ("Service", "Secret", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy", "StatefulSet")


def _running(world: "World", ref: ClusterRef) -> "list[Sandbox]":
    return [b for b in world.boxes(ref.name) if b.startup is not None and not b.going]


def kill_process(world: "World", ref: ClusterRef, chance: Random) -> None:
    """SIGKILL to an engine: the container comes back in place, with its files, its address and its pod."""
    boxes = _running(world, ref)
    if boxes:
        box = chance.choice(boxes)
        world.note(f"event: kill {box.key.name}")
        world.kubelets.kill(box)


def kill_all_processes(world: "World", ref: ClusterRef, chance: Random) -> None:
    """All engines at once."""
    world.note("event: kill all processes")
    for box in _running(world, ref):
        world.kubelets.kill(box)


def delete_pod(world: "World", ref: ClusterRef, chance: Random) -> None:
    """kubectl delete pod, or an eviction: preStop and SIGTERM; comes back as another pod."""
    boxes = _running(world, ref)
    if boxes:
        box = chance.choice(boxes)
        world.note(f"event: delete pod {box.key.name}")
        world.store.delete(box.key)


def delete_all_pods(world: "World", ref: ClusterRef, chance: Random) -> None:
    """kubectl delete pods -l ..."""
    world.note("event: delete all pods")
    for box in _running(world, ref):
        world.store.delete(box.key)


def children(world: "World", ref: ClusterRef, kind: str) -> list[Key]:
    """Objects of one kind that the cluster's operator made, but for the one that holds the passwords."""
    label = f"{names.LABEL_CLUSTER}={ref.name}"
    made = [o["metadata"]["name"] for o in world.store.select(kind, ref.namespace, label)]
    return [Key(kind, ref.namespace, name) for name in made if name != names.system_secret(ref.name)]


def delete_child(world: "World", ref: ClusterRef, chance: Random) -> None:
    """Somebody deletes an object of ours that holds no data."""
    keys = children(world, ref, chance.choice(CHILD_KINDS[:-1]))
    if keys:
        key = chance.choice(keys)
        world.note(f"event: delete {key.kind} {key.name}")
        world.store.delete(key)


def cordon(world: "World", ref: ClusterRef, chance: Random) -> None:
    """A host is cordoned for a while."""
    name = chance.choice(sorted(world.hosts.by_name))
    world.note(f"event: cordon {name}")
    world.hosts.cordon(name)
    world.wake_all()

    def uncordon() -> None:
        world.hosts.cordon(name, on=False)
        world.wake_all()

    world.clock.later(10 + 20 * chance.random(), uncordon)


def hide_node(world: "World", ref: ClusterRef, chance: Random) -> None:
    """The operator alone cannot reach a node for a while (S1)."""
    boxes = [b for b in _running(world, ref) if b.ip is not None]
    if boxes:
        box = chance.choice(boxes)
        world.note(f"event: hide {box.key.name} from the operator")
        world.network.cut("operator", box.ip or "")
        world.clock.later(5 + 25 * chance.random(), world.network.mend, "operator", box.ip)


def power_off(world: "World", ref: ClusterRef, chance: Random) -> None:
    """A machine is without power for a while; one at a time."""
    if not world.kubelets.dark:
        host = chance.choice(sorted(world.hosts.by_name))
        world.power_off(host)
        world.clock.later(5 + 60 * chance.random(), world.power_on, host)


def isolate(world: "World", ref: ClusterRef, chance: Random) -> None:
    """A node, which lives on, is cut off from everybody but its clients for a while."""
    boxes = [b for b in _running(world, ref) if b.ip is not None]
    if boxes:
        box = chance.choice(boxes)
        world.note(f"event: isolate {box.key.name}")
        world.cut_off(box)
        world.clock.later(1 + 15 * chance.random(), world.network.heal)


def freeze(world: "World", ref: ClusterRef, chance: Random) -> None:
    """A process hangs, and goes on later unless somebody has ended it."""
    nodes = [b.node for b in _running(world, ref) if b.node is not None]
    if nodes:
        node = chance.choice(nodes)
        world.note(f"event: {node.ip} hangs")
        world.partitioned = True
        node.freeze()
        world.clock.later(1 + 40 * chance.random(), node.thaw)


def kill_operator(world: "World", ref: ClusterRef, chance: Random) -> None:
    """SIGKILL to the operator."""
    world.kill_operator(ref)


def roll(world: "World", ref: ClusterRef, chance: Random) -> None:
    """An edit that reaches the pods' template."""
    limit = chance.choice(("256Mi", "512Mi", "1Gi"))
    world.edit(ref, lambda spec: spec["resources"]["limits"].update(memory=limit))


def resize_shards(world: "World", ref: ClusterRef, chance: Random) -> None:
    """Another number of replicas; at least one, so that every write has a copy."""
    count = chance.randint(1, 3)
    world.edit(ref, lambda spec: spec["topology"].update(replicasPerShard=count))


def request_failover(world: "World", ref: ClusterRef, chance: Random) -> None:
    """Somebody asks a pod, a primary or not, to stop being a primary."""
    boxes = _running(world, ref)
    if boxes:
        request = failover_request(chance.choice(boxes).key.name, f"{world.clock.now():.3f}")
        world.annotate(ref, names.ANNOTATION_FAILOVER, request)


def request_restart(world: "World", ref: ClusterRef, chance: Random) -> None:
    """Somebody wants every pod replaced."""
    world.annotate(ref, names.ANNOTATION_RESTARTED, f"{world.clock.now():.3f}")


def configure(world: "World", ref: ClusterRef, chance: Random) -> None:
    """Parameters that need no restart, in place of those before."""
    given = {"hz": chance.randint(1, 500), "timeout": chance.randint(0, 60), "maxmemory-policy": "allkeys-lru"}
    picked = {name: given[name] for name in chance.sample(sorted(given), chance.randint(0, 3))}
    world.edit(ref, lambda spec: spec.update(parameters=picked))


def configure_by_hand(world: "World", ref: ClusterRef, chance: Random) -> None:
    """Somebody sets a parameter of a node; if the spec says nothing of it, that is theirs."""
    nodes = [b.node for b in _running(world, ref) if b.node is not None]
    given = world.cluster(ref)["spec"].get("parameters", {})
    if nodes and "hz" in given:
        world.note("event: CONFIG SET by hand")
        commands.configure(chance.choice(nodes), (("hz", str(chance.randint(1, 500))),))


def bad_image(world: "World", ref: ClusterRef, chance: Random) -> None:
    """An image that no registry has, taken back later."""
    world.kubelets.bad_images.add("example/none:8.1")
    world.edit(ref, lambda spec: spec.update(image="example/none:8.1"))

    def back() -> None:
        world.edit(ref, lambda spec: spec.pop("image", None))

    world.clock.later(5 + 30 * chance.random(), back)


GENTLE: Final[tuple[Event, ...]] = (
    *(kill_process, delete_pod, delete_child, cordon, hide_node, kill_operator),
    *(roll, resize_shards, request_failover, request_restart, configure, configure_by_hand),
)
BLUNT: Final[tuple[Event, ...]] = (
    *(power_off, isolate, freeze, power_off, isolate, freeze),
    *(kill_process, delete_pod, hide_node, kill_operator, roll, request_failover),
)
"""What may take the last moments of writes with it, replication being asynchronous."""
ROUGH: Final[tuple[Event, ...]] = (*GENTLE, bad_image, kill_all_processes, delete_all_pods)
