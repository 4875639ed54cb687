"""How many nodes there should be just now: what the spec asks for, and what has not been let go yet."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.records import is_record, live_or_recorded
from cachecluster.domain.snapshot import InvalidSpec, Manifest, ObjectKey, Pod, Snapshot


@dataclass(frozen=True, slots=True)
class Layout:
    """Members of each shard, by its index, and the label that names their zone."""

    wanted: Mapping[int, int]
    """As the spec asks for. A shard that is missing here is to go once it is empty."""
    members: Mapping[int, int]
    """At present: never fewer than exist, until the operator has let them go."""
    zone_key: str


def layout_of(snap: Snapshot) -> Layout:
    """From the spec; if that is invalid, from what runs, so that promotion does not depend on a good spec."""
    present = present_members(snap.ref.name, snap.children, snap.pods)
    if isinstance(snap.spec, InvalidSpec):
        return Layout(present, present, names.ZONE_LABEL)
    placement = snap.spec.placement
    zone_key = (placement.topology_key if placement else None) or names.ZONE_LABEL
    return Layout(wanted_members(snap.spec), members_by_shard(snap.spec, present), zone_key)


def wanted_members(spec: CacheClusterSpec) -> dict[int, int]:
    """Members of each shard that the spec asks for."""
    return dict.fromkeys(range(spec.topology.shards), spec.members_per_shard)


def members_by_shard(spec: CacheClusterSpec, present: Mapping[int, int]) -> dict[int, int]:
    """Members that each shard should have at present: whoever is too many stays until the operator lets it go."""
    wanted = wanted_members(spec)
    return {i: max(wanted.get(i, 0), present.get(i, 0)) for i in sorted(wanted.keys() | present.keys())}


def present_members(cluster: str, children: Mapping[ObjectKey, Manifest], pods: Collection[Pod]) -> dict[int, int]:
    """Members that each shard has by its StatefulSet; by its pods, where somebody has hidden that from us.

    A StatefulSet that is being created again counts as it was.
    """
    present: dict[int, int] = {}
    for pod in pods:
        if not pod.deleting:
            present[pod.shard] = max(present.get(pod.shard, 0), 1 + pod.ordinal)
    for key in children:
        statefulset = key.name.removesuffix(names.RECORD_SUFFIX) if is_record(key) else key.name
        prefix, _, index = statefulset.rpartition("-")
        if (key.kind == "StatefulSet" or is_record(key)) and prefix == cluster and index.isdecimal():
            found = live_or_recorded(children, statefulset)
            if found is not None:
                present[int(index)] = found["spec"]["replicas"]
    return present
