"""Which parts of the spec are not yet in force on every node: names for people, and the pods that lag behind."""

from collections.abc import Collection, Iterator, Mapping
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain import durability
from cachecluster.domain.drift import desired_object, in_force
from cachecluster.domain.live_parameters import outstanding, present_name, remembered, same_family, values_in
from cachecluster.domain.memory import PARAMETER
from cachecluster.domain.parameters import settable
from cachecluster.domain.resizing import can_resize
from cachecluster.domain.rolled import template_hash
from cachecluster.domain.snapshot import InvalidSpec, Manifest, ObjectKey, PodShape, Snapshot
from cachecluster.domain.topology import Member, Topology
from cachecluster.domain.volumes import growing

CONFIG_FILE: Final = "valkey.conf"
_FIELDS: Final = {PARAMETER: "resources", **dict.fromkeys(durability.NAMES, "durability.mode")}
"""Where parameters come from that are not under ``parameters``."""


def outdated(snap: Snapshot, topology: Topology) -> list[Member]:
    """Members whose pod does not run the wanted template."""
    found: list[Member] = []
    for shard in topology.shards:
        key = ObjectKey("StatefulSet", shard.name)
        live, target = snap.children.get(key), desired_object(snap, key)
        current = live is not None and target is not None and template_hash(live) == template_hash(target)
        update = live.get("status", {}).get("updateRevision", "") if live is not None else ""
        found += [m for m in shard.members if not current or m.pod.revision != update]
    return found


def are_resized(snap: Snapshot, topology: Topology, members: Collection[Member]) -> bool:
    """All of them get what they lack while they run."""
    shards = {s.index: s for s in topology.shards}
    for member in members:
        target = desired_object(snap, ObjectKey("StatefulSet", shards[member.pod.shard].name))
        if target is None or not can_resize(snap, shards[member.pod.shard], member, target["spec"]["template"]):
            return False
    return bool(members)


def unset_parameters(snap: Snapshot, topology: Topology) -> tuple[str, ...]:
    """Live parameters, by the names in the spec, that some answering node lacks or that are not written down yet."""
    if isinstance(snap.spec, InvalidSpec):
        return ()
    key = ObjectKey("ConfigMap", names.live_config_map(snap.ref.name, snap.spec.version))
    live = snap.children.get(key)
    once_set = remembered(live, snap.pods, key.name, snap.spec.version)
    found = {name for _, missing in outstanding(snap.spec, once_set, topology.members) for name in missing}
    desired = desired_object(snap, key)
    if live is not None and desired is not None:
        found |= {name for name, _ in values_in(desired).items() ^ values_in(live).items()}
    return tuple(sorted(_as_written(name, snap.spec) for name in found))


def _as_written(name: str, spec: CacheClusterSpec) -> str:
    given = (g for g in spec.parameters or {} if present_name(g, spec.version) == name)
    return next(given, name)


def pending_modifications(snap: Snapshot, topology: Topology) -> list[str]:
    """Fields of the spec that are not in force on every node, such as ``parameters.hz``; sorted."""
    if isinstance(snap.spec, InvalidSpec):
        return []
    unset = unset_parameters(snap, topology)
    found = {_FIELDS.get(name, f"parameters.{name}") for name in unset}
    if growing(snap, topology):
        found.add("persistence.size")
    for member in outdated(snap, topology):
        key = ObjectKey("StatefulSet", names.shard_name(snap.ref.name, member.pod.shard))
        target = desired_object(snap, key)
        if target is not None and member.pod.shape is not None:
            found |= set(_differences(snap, snap.spec, member, member.pod.shape, target["spec"]["template"]))
    return sorted(found)


def _differences(
    snap: Snapshot, spec: CacheClusterSpec, member: Member, shape: PodShape, template: Manifest
) -> Iterator[str]:
    engine = next(c for c in template["spec"]["containers"] if c["name"] == names.CONTAINER)
    if member.node is not None and not same_family(member.node, spec.version):
        yield "version"
    elif shape.image != engine["image"]:
        yield "image"
    if not in_force(engine.get("resources", {}), shape.resources):
        yield "resources"
    meta = template.get("metadata", {})
    annotations = {k: v for k, v in meta.get("annotations", {}).items() if k != names.ANNOTATION_FIXED}
    if not in_force(meta.get("labels", {}), shape.labels) or not in_force(annotations, shape.annotations):
        yield "pod"
    volumes = template["spec"].get("volumes", ())
    wanted_config = next((v["configMap"]["name"] for v in volumes if v["name"] == names.CONFIG_VOLUME), "")
    changed = _directives(snap, shape.config).items() ^ _directives(snap, wanted_config).items()
    users = set(settable(spec.version))
    yield from (f"parameters.{name}" for name in {name for name, _ in changed} & users)


def _directives(snap: Snapshot, config: str) -> Mapping[str, str]:
    """Of an immutable ConfigMap, as far as it still exists; one that a pod runs with does."""
    key = ObjectKey("ConfigMap", config)
    found = snap.children.get(key) or desired_object(snap, key)
    lines = found["data"].get(CONFIG_FILE, "").splitlines() if found else []
    return {name: value for name, _, value in (line.partition(" ") for line in lines)}
