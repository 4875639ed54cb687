"""When a cluster is as its spec wants it, judged on the true state of the world and not on what the operator says."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain import durability
from cachecluster.domain.live_parameters import FILE, values_in, wanted
from cachecluster.domain.nodes import Role
from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.domain.parameter_types import normal
from cachecluster.domain.quantity import to_bytes
from cachecluster.domain.slots import NO_SLOTS, SLOT_COUNT
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.manifests import Facts, Passwords, build
from cachecluster.manifests.valkey_conf import live_conf
from tests.simulation.engine.node import Node
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.kubernetes.store import Key

if TYPE_CHECKING:
    from tests.simulation.world import World


def converged(world: "World", ref: ClusterRef) -> bool:
    """Whether the cluster is whole and the operator rests."""
    return next(unconverged(world, ref), None) is None


def unconverged(world: "World", ref: ClusterRef) -> Iterator[str]:
    """What is still missing, in words, the cheapest to find first."""
    operator = world.leader[ref.name]
    if operator.looking:
        yield "a pass is under way"
    if operator.way.dead or operator.last is None:
        yield "no operator has finished a pass"
    elif not operator.last.plan.converged:
        plan = operator.last.plan
        messages = [s.message for s in plan.steps] + [w.message for w in plan.waits] + [b.message for b in plan.blocks]
        yield f"the plan is not empty: {messages[:3]}"
    body = world.cluster(ref)
    topology = body["spec"]["topology"]
    expected = topology["shards"] * (1 + topology["replicasPerShard"])
    boxes = world.boxes(ref.name)
    nodes = [b.node for b in boxes if b.node is not None]
    if len(nodes) != expected or not all(b.ready for b in boxes):
        yield f"{len(nodes)} of {expected} nodes run, {sum(b.ready for b in boxes)} are ready"
    conditions = {c["type"]: c["status"] for c in body.get("status", {}).get("conditions", ())}
    if conditions.get("Ready") != "True":
        yield f"condition Ready is {conditions.get('Ready')}"
    for node in nodes:
        yield from _node_problems(node, nodes)
    yield from _slot_problems(nodes, topology["shards"])
    spec = CacheClusterSpec.parse(body["spec"])
    yield from _parameter_problems(nodes, spec)
    yield from _file_problems(world, ref, spec)
    yield from _volume_problems(world, ref)
    yield from _memory_problems(world, ref, boxes)
    yield from _wrong_labels(world, boxes)
    yield from _absent_children(world, ref, spec)


def _wrong_labels(world: "World", boxes: list[Sandbox]) -> list[str]:
    """Budgets count primaries and replicas by these labels."""
    wrong = []
    for box in boxes:
        pod = world.store.look(box.key)
        role = pod["metadata"]["labels"].get(names.LABEL_ROLE) if pod is not None else None
        if box.node is not None and role != (Role.PRIMARY if box.node.me.primary else Role.REPLICA):
            wrong.append(f"{box.key.name} is labelled {role}")
    return wrong


def _absent_children(world: "World", ref: ClusterRef, spec: CacheClusterSpec) -> list[str]:
    """Objects that the spec asks for; an operator that was told of a deletion by a stale list notices at its resync."""
    secret = world.store.look(Key("Secret", ref.namespace, names.system_secret(ref.name)))
    if secret is None:
        return [f"Secret {names.system_secret(ref.name)} does not exist"]
    facts = Facts(ref, world.operator_namespace, Passwords.from_secret(secret))
    wanted = [Key(m["kind"], ref.namespace, m["metadata"]["name"]) for m in build(spec, facts)]
    return [f"{key.kind} {key.name} does not exist" for key in wanted if not world.store.exists(key)]


def _node_problems(node: Node, nodes: list[Node]) -> list[str]:
    problems = []
    ids = {n.node_id: n for n in nodes}
    if set(node.rows) != set(ids):
        problems.append(f"{node.ip} lists {len(node.rows)} nodes")
    problems += [
        f"{node.ip} sees {row.node_id[:6]} as {sorted(row.flags)} at {row.address.ip}"
        for row in node.rows.values()
        if row.fail or row.pfail or row.noaddr or (row.node_id in ids and row.address.ip != ids[row.node_id].ip)
    ]
    if not node.state_ok:
        problems.append(f"{node.ip}: cluster_state fail")
    if node.quarantined:
        problems.append(f"{node.ip} is in quarantine")
    if not node.me.primary:
        primary = ids.get(node.me.primary_id) if node.me.primary_id else None
        if primary is None or not node.repl.up or node.repl.primary is not primary:
            problems.append(f"{node.ip} does not replicate its primary")
        elif primary.me.shard_id != node.me.shard_id:
            problems.append(f"{node.ip} is in another shard than its primary")
    return problems


def _parameter_problems(nodes: list[Node], spec: CacheClusterSpec) -> list[str]:
    """A parameter that the spec does not name has the engine's own value, whatever earlier specs said."""
    values = wanted(spec, DEFAULTS[spec.version].keys() | durability.NAMES)
    return [
        f"{node.ip}: {name} is {node.parameters.get(name)}"
        for node in nodes
        for name, value in values.items()
        if normal(name, node.parameters.get(name, "")) != value
    ]


def _file_problems(world: "World", ref: ClusterRef, spec: CacheClusterSpec) -> list[str]:
    """What a node would start with is what runs; an operator that was told so by a stale list notices at its resync."""
    key = Key("ConfigMap", ref.namespace, names.live_config_map(ref.name, spec.version))
    live = world.store.look(key)
    if live is None:
        return [f"{key.kind} {key.name} does not exist"]
    there, right = live["data"][FILE], live_conf(wanted(spec, values_in(live).keys()))
    return [] if there == right else [f"{key.name} has {there!r} and not {right!r}"]


def _memory_problems(world: "World", ref: ClusterRef, boxes: list[Sandbox]) -> list[str]:
    """Every container has the spec's limit in force."""
    limit = to_bytes(world.cluster(ref)["spec"]["resources"]["limits"]["memory"])
    found = {b.key.name: to_bytes((b.resources or {}).get("limits", {}).get("memory", "0")) for b in boxes}
    return [f"{name} has {actual} bytes of memory" for name, actual in found.items() if actual != limit]


def _volume_problems(world: "World", ref: ClusterRef) -> list[str]:
    """Every volume and every StatefulSet is as large as the spec says, unless the StorageClass forbids it."""
    persistence = world.cluster(ref)["spec"].get("persistence", {})
    size, allowed = persistence.get("size"), world.resizer.allowed
    problems = []
    for key, body in world.store.bodies():
        if key.name.endswith(names.RECORD_SUFFIX):
            problems.append(f"{key.name} is left")
        if size is None or not allowed or not key.name.startswith((f"{ref.name}-", f"data-{ref.name}-")):
            continue
        if key.kind == "StatefulSet" and body["spec"]["replicas"] > 0:
            made = [t["spec"]["resources"]["requests"]["storage"] for t in body["spec"]["volumeClaimTemplates"]]
            problems += [f"{key.name} makes volumes of {text}" for text in made if to_bytes(text) < to_bytes(size)]
        used = any(f"data-{box.key.name}" == key.name for box in world.boxes(ref.name))
        if key.kind == "PersistentVolumeClaim" and used:
            given = body["status"]["capacity"]["storage"]
            problems += [f"{key.name} has {given}"] if to_bytes(given) < to_bytes(size) else []
    return problems


def _slot_problems(nodes: list[Node], shards: int) -> list[str]:
    owned, total = NO_SLOTS, 0
    for node in nodes:
        if node.me.primary:
            owned |= node.me.slots
            total += len(node.me.slots)
    problems = []
    if len(owned) != SLOT_COUNT or total != SLOT_COUNT:
        problems.append(f"{len(owned)} slots are owned, {total} claims")
    if sum(1 for n in nodes if n.me.primary) != shards:
        problems.append(f"{sum(1 for n in nodes if n.me.primary)} primaries for {shards} shards")
    for node in nodes:
        for row in node.rows.values():
            true = next((n.me.slots for n in nodes if n.node_id == row.node_id and n.me.primary), NO_SLOTS)
            if row.primary and row.slots != true:
                problems.append(f"{node.ip} has an old slot map of {row.node_id[:6]}")
    return problems
