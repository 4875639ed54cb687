"""How large the volumes are, are asked to be, and should be."""

from collections.abc import Mapping
from dataclasses import dataclass

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, PersistenceMode
from cachecluster.domain.quantity import to_bytes
from cachecluster.domain.snapshot import ClusterRef, InvalidSpec, Manifest, ObjectKey, Snapshot
from cachecluster.domain.topology import Shard, Topology


@dataclass(frozen=True, slots=True)
class Claim:
    """A volume claim of a member; sizes in bytes."""

    name: str
    uid: str
    storage_class: str
    """Empty: none, the volume was made by hand."""
    requested: int
    capacity: int | None
    """None while no volume is bound to it."""
    conditions: Mapping[str, str]
    """What is said of a resize that is under way: condition type and message."""


def wanted_size(spec: CacheClusterSpec | InvalidSpec) -> int | None:
    """Bytes of each volume; None without volumes."""
    if isinstance(spec, InvalidSpec) or spec.persistence is None or spec.persistence.mode is PersistenceMode.NONE:
        return None
    return to_bytes(spec.persistence.size) if spec.persistence.size is not None else None


def size_text(statefulset: Manifest) -> str | None:
    """Size of the volumes that a StatefulSet makes, as it says it; None if it makes none."""
    templates = statefulset["spec"].get("volumeClaimTemplates") or ()
    found = (t for t in templates if t.get("metadata", {}).get("name") == names.DATA_VOLUME)
    return next((str(t["spec"]["resources"]["requests"]["storage"]) for t in found), None)


def template_size(statefulset: Manifest) -> int | None:
    """Bytes of the volumes that a StatefulSet makes; None if it makes none."""
    text = size_text(statefulset)
    return to_bytes(text) if text is not None else None


def present_sizes(ref: ClusterRef, children: Mapping[ObjectKey, Manifest]) -> dict[int, str]:
    """Size of the volumes in each StatefulSet, by shard index."""
    found = {}
    for key, live in children.items():
        prefix, _, index = key.name.rpartition("-")
        if key.kind == "StatefulSet" and prefix == ref.name and index.isdecimal():
            text = size_text(live)
            if text is not None:
                found[int(index)] = text
    return found


def is_ours(claim: Manifest, ref: ClusterRef) -> bool:
    """It holds data of this very CacheCluster and is to stay."""
    meta = claim["metadata"]
    uid = (meta.get("annotations") or {}).get(names.ANNOTATION_CLUSTER_UID)
    return uid == ref.uid and "deletionTimestamp" not in meta


def claims_of(snap: Snapshot, shard: Shard) -> list[Claim]:
    """Claims of the shard's members, as far as they exist."""
    keys = (
        ObjectKey("PersistentVolumeClaim", names.volume_claim(snap.ref.name, shard.index, ordinal))
        for ordinal in range(shard.expected)
    )
    found = (snap.children.get(key) for key in keys)
    return [parse_claim(claim) for claim in found if claim is not None and is_ours(claim, snap.ref)]


def parse_claim(body: Manifest) -> Claim:
    """A PersistentVolumeClaim as the API server holds it."""
    status, spec = body.get("status", {}), body["spec"]
    capacity = status.get("capacity", {}).get("storage") if status.get("phase") == "Bound" else None
    said = {c["type"]: str(c.get("message") or "") for c in status.get("conditions") or () if c.get("status") == "True"}
    return Claim(
        name=body["metadata"]["name"],
        uid=body["metadata"]["uid"],
        storage_class=spec.get("storageClassName") or "",
        requested=to_bytes(spec["resources"]["requests"]["storage"]),
        capacity=to_bytes(capacity) if capacity is not None else None,
        conditions=said,
    )


def growing(snap: Snapshot, topology: Topology) -> list[str]:
    """Claims that are not as large as the spec asks for yet, and StatefulSets that still make smaller ones."""
    size = wanted_size(snap.spec)
    if size is None:
        return []
    small: list[str] = []
    for shard in topology.shards:
        live = snap.children.get(ObjectKey("StatefulSet", shard.name))
        if shard.leaving or live is None:
            continue
        claims = claims_of(snap, shard)
        small += [c.name for c in claims if c.requested < size or (c.capacity is not None and c.capacity < size)]
        if (template_size(live) or size) < size:
            small.append(shard.name)
    return small
