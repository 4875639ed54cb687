"""Volumes grow with ``persistence.size``, and nothing restarts for it (ADR 0012).

The claims first, each by an edit of its own. Then the StatefulSets, so that pods made later get volumes of the new
size: that part of one cannot be edited, so it is deleted, its pods stay, and it is created again.
"""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Apply, Delete, DetachPods, ExpandVolume, RestoreMetadata
from cachecluster.domain.drift import desired_object, partition_of
from cachecluster.domain.listing import listed
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.records import record_key, record_of, tells_all, unrestored
from cachecluster.domain.rolled import settled_on_template
from cachecluster.domain.snapshot import Expansion, Manifest, ObjectKey
from cachecluster.domain.topology import Shard
from cachecluster.domain.volumes import Claim, claims_of, size_text, template_size, wanted_size

LOOK_SECONDS: Final = 5.0
"""Claims are not watched."""
REFUSED_ADVICE: Final = (
    "Set persistence.size back; for larger volumes let the StorageClass expand them (allowVolumeExpansion: true), or "
    "create a new CacheCluster with them and move the clients to it"
)


def expand_volumes(now: Situation) -> Iterator[Verdict]:
    """Every claim asks for what the spec says; none that asks for more is touched."""
    size = wanted_size(now.spec)
    if size is None:
        return
    text = now.spec.persistence.size if now.spec.persistence else None
    if larger := _larger(now, size):
        yield Block(
            Reason.VOLUME_CANNOT_SHRINK,
            f"persistence.size is {text}, and the volumes have {larger}: they cannot shrink. Write back {larger}, or "
            "create a new CacheCluster with smaller volumes and move the clients to it",
        )
        return
    small = [c for s in now.topology.shards if not s.leaving for c in claims_of(now.snap, s) if c.requested < size]
    for storage_class in sorted({c.storage_class for c in small}):
        claims = [c for c in small if c.storage_class == storage_class]
        problem = _obstacle(now, storage_class)
        if problem is not None:
            message = f"{listed([c.name for c in claims])} cannot grow to {text}: {problem}. {REFUSED_ADVICE}"
            yield Block(Reason.VOLUME_NOT_EXPANDABLE, message)
            continue
        for claim in claims:
            action = ExpandVolume(claim.name, claim.uid, str(text))
            yield Do(action, Reason.RESIZING_VOLUMES, f"volume claim {claim.name} is to grow to {text}")
    yield from _await_drivers(now, size)


def _larger(now: Situation, size: int) -> str | None:
    """Size of the StatefulSets' volumes where the spec asks for less."""
    sets = (now.snap.children.get(ObjectKey("StatefulSet", s.name)) for s in now.topology.shards)
    found = {size_text(live): template_size(live) or 0 for live in sets if live is not None}
    text, most = max(found.items(), key=lambda item: item[1], default=(None, 0))
    return text if most > size else None


def _obstacle(now: Situation, storage_class: str) -> str | None:
    """Why volumes of the StorageClass do not grow, None if they may."""
    if not storage_class:
        return "the volumes have no StorageClass"
    match now.snap.storage_classes.get(storage_class, Expansion.UNREADABLE):
        case Expansion.REFUSED:
            return f"StorageClass {storage_class} does not allow it (allowVolumeExpansion is not true)"
        case Expansion.MISSING:
            return f"StorageClass {storage_class} does not exist"
        case Expansion.ALLOWED | Expansion.UNREADABLE:
            return None


def _await_drivers(now: Situation, size: int) -> Iterator[Verdict]:
    """The storage driver makes the volume larger, then a kubelet the file system on it."""
    claims = [c for s in now.topology.shards if not s.leaving for c in claims_of(now.snap, s)]
    waiting = [c for c in claims if c.requested >= size and c.capacity is not None and c.capacity < size]
    if waiting:
        said = next((text for c in waiting if (text := _progress(c)) is not None), "waiting for the storage driver")
        message = f"volumes of {listed([c.name for c in waiting])} are being resized: {said}"
        yield Wait(Reason.RESIZING_VOLUMES, message, LOOK_SECONDS)


def _progress(claim: Claim) -> str | None:
    for kind in ("ControllerResizeError", "NodeResizeError"):
        if kind in claim.conditions:
            return f"{claim.name}: {kind}: {claim.conditions[kind]}"
    if "FileSystemResizePending" in claim.conditions:
        return (
            f"the file system of {claim.name} waits for its node to resize it; a driver that cannot do that under a "
            "running pod needs a restart (kubectl cache restart)"
        )
    if "Resizing" in claim.conditions:
        return "the storage driver is at it"
    return None


def recreate_sets(now: Situation) -> Iterator[Verdict]:
    """One StatefulSet at a time, and only of a shard in which nothing else is going on."""
    size = wanted_size(now.spec)
    for shard in now.topology.shards:
        key = ObjectKey("StatefulSet", shard.name)
        live, desired = now.snap.children.get(key), desired_object(now.snap, key)
        if live is None or desired is None or owner_uid(live) != now.snap.ref.uid:
            continue  # created, or explained, as any other object
        if "deletionTimestamp" in live["metadata"]:
            return
        if size is None or shard.leaving or (template_size(live) or size) >= size:
            yield from _restored(now, key, live)
        elif all(c.requested >= size for c in claims_of(now.snap, shard)):
            yield _recreate(now, shard, live, desired)
            return


def _recreate(now: Situation, shard: Shard, live: Manifest, desired: Manifest) -> Verdict:
    key = ObjectKey("StatefulSet", shard.name)
    settled = settled_on_template(desired, live, shard) and partition_of(live) == live["spec"]["replicas"]
    if not (settled and shard.healthy):
        message = f"{key} is created again with larger volumes once nothing else is going on in shard {shard.index}"
        return Wait(Reason.RESIZING_VOLUMES, message, 1.0)
    record = now.snap.children.get(record_key(shard.name))
    if not tells_all(record, live):
        message = f"{key} is about to be created again: what only it knows is written down"
        uid = record["metadata"]["uid"] if record is not None else None
        return Do(Apply(record_of(live, desired), uid), Reason.RESIZING_VOLUMES, message)
    action = DetachPods(shard.index, key, live["metadata"]["uid"], record_key(shard.name))
    message = f"{key} is created again so that new pods get larger volumes; its pods go on running"
    return Do(action, Reason.RESIZING_VOLUMES, message)


def _restored(now: Situation, key: ObjectKey, live: Manifest) -> Iterator[Verdict]:
    """What others had put on a StatefulSet is back before its record goes."""
    record = now.snap.children.get(record_key(key.name))
    if record is None or owner_uid(record) != now.snap.ref.uid:
        return
    labels, annotations = unrestored(record, live)
    meta = record["metadata"]
    if labels or annotations:
        action = RestoreMetadata(key, live["metadata"]["uid"], labels, annotations)
        yield Do(action, Reason.RESIZING_VOLUMES, f"{key} gets back what others had put on it")
    elif "deletionTimestamp" not in meta:
        gone = Delete(record_key(key.name), meta["uid"], meta["resourceVersion"])
        yield Do(gone, Reason.CLEANING_UP, f"{key} has all that its record says")
