"""Kubernetes objects: created, repaired when they drift, never taken from others."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Apply, CreateSystemSecret
from cachecluster.domain.drift import difference, in_force, key_of, partition_of, with_partition
from cachecluster.domain.live_parameters import FILE, is_mounted
from cachecluster.domain.memory import PARAMETER, maxmemory
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.rolled import template_hash
from cachecluster.domain.snapshot import Manifest, ObjectKey

_FORMED_PATH: Final = f"metadata.annotations.{names.ANNOTATION_FORMED}"
_HISTORY_PATH: Final = f"metadata.annotations.{names.ANNOTATION_HISTORY}"


def generate_passwords(now: Situation) -> Iterator[Verdict]:
    """Before anything that needs them."""
    if now.snap.system_secret_exists:
        return
    name = names.system_secret(now.snap.ref.name)
    live = now.snap.children.get(ObjectKey("Secret", name))
    if live is not None:
        yield _not_ours(now, live)
        return
    yield Do(CreateSystemSecret(name), Reason.CREATING_OBJECTS, f"creating Secret {name} with new passwords")


def keep_objects(now: Situation) -> Iterator[Verdict]:
    """Every child that the spec asks for exists as wanted; fields and objects of others are left alone.

    The live parameters change only in step with the running nodes (``policies.configuration``).
    """
    live_parameters = ObjectKey("ConfigMap", names.live_config_map(now.snap.ref.name, now.spec.version))
    for desired in now.snap.desired:
        key = key_of(desired)
        live = now.snap.children.get(key)
        if live is None and key in _retired(now):
            continue
        if live is None:
            first = _unconfirmed(now, desired) if key == live_parameters else desired
            yield Do(Apply(first, None), Reason.CREATING_OBJECTS, f"creating {key}")
        elif owner_uid(live) != now.snap.ref.uid:
            yield _not_ours(now, live)
        elif "deletionTimestamp" in live["metadata"]:
            yield Wait(Reason.REPAIRING_DRIFT, f"{key} is being deleted; it will be created again", 0.5)
        elif key != live_parameters:
            yield from _repair(desired, live)


def _retired(now: Situation) -> set[ObjectKey]:
    """StatefulSets of shards that are to go and hold no slot any more: they are not created again."""
    if now.topology.uncovered:
        return set()
    gone = (s for s in now.topology.shards if s.leaving and s.empty)
    return {ObjectKey("StatefulSet", s.name) for s in gone}


def _unconfirmed(now: Situation, desired: Manifest) -> Manifest:
    """Live parameters that somebody has deleted under running pods begin without the user's values: no node has
    confirmed any. A node that starts meanwhile has its maxmemory.
    """
    mounted = is_mounted(now.snap.pods, desired["metadata"]["name"])
    own = f"{PARAMETER} {maxmemory(now.spec)}\n"
    return {**desired, "data": {FILE: own}} if mounted else desired


def _repair(desired: Manifest, live: Manifest) -> Iterator[Verdict]:
    """A StatefulSet whose template is in force keeps the partition that the rollout has given it."""
    key = key_of(desired)
    if key.kind == "StatefulSet" and _template_in_force(desired, live):
        desired = with_partition(desired, _partition(desired, live))
    where = difference(desired, live)
    if where == _FORMED_PATH:
        yield Do(replacing(desired, live), Reason.RECORDING_SLOTS, f"{key}: recording which slots it serves")
    elif where == _HISTORY_PATH:
        yield Do(replacing(desired, live), Reason.RECORDING_HISTORY, f"{key}: recording the history of its data")
    elif where is not None:
        yield Do(replacing(desired, live), Reason.REPAIRING_DRIFT, f"{key} differs at {where}")


def _partition(desired: Manifest, live: Manifest) -> int:
    """What the rollout has given it; with more members than before, all that was settled stays behind it."""
    settled = partition_of(live) == live["spec"]["replicas"]
    return int(desired["spec"]["replicas"]) if settled else partition_of(live)


def replacing(desired: Manifest, live: Manifest) -> Apply:
    """Apply over ``live``. A StatefulSet that does not tell what its shard has served must not erase that (S2)."""
    meta = live["metadata"]
    unrecorded = live["kind"] == "StatefulSet" and names.ANNOTATION_FORMED not in desired["metadata"]["annotations"]
    return Apply(desired, meta["uid"], meta.get("resourceVersion") if unrecorded else None)


def _template_in_force(desired: Manifest, live: Manifest) -> bool:
    """A label or annotation that we stopped sending changes the template as well: the builder's hash tells."""
    return template_hash(desired) == template_hash(live) and in_force(
        desired["spec"]["template"], live["spec"]["template"]
    )


def owner_uid(live: Manifest) -> str | None:
    """uid of the CacheCluster that controls the object."""
    for reference in live["metadata"].get("ownerReferences", ()):
        if reference.get("controller") and reference.get("kind") == names.KIND:
            return str(reference["uid"])
    return None


def _not_ours(now: Situation, live: Manifest) -> Verdict:
    key = key_of(live)
    if owner_uid(live) is not None:
        return Wait(
            Reason.CREATING_OBJECTS, f"{key} of a former CacheCluster {now.snap.ref.name} is still being removed", 1.0
        )
    return Block(
        Reason.OBJECT_NOT_OURS,
        f"{key} exists but was not made by this operator; it is left alone. Rename or delete it, or use another name "
        "for the CacheCluster",
    )


POLICIES: Final = (generate_passwords, keep_objects)
