"""Volumes that are to grow: claims first, then StatefulSets, with everything written down that would be lost (S2)."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Apply, Delete, DetachPods, ExpandVolume, RestoreMetadata
from cachecluster.domain.drift import fingerprint
from cachecluster.domain.layout import present_members
from cachecluster.domain.nodes import Unreachable
from cachecluster.domain.pending import pending_modifications
from cachecluster.domain.plan import Do, Outcome
from cachecluster.domain.planner import plan
from cachecluster.domain.records import record_key, record_of, recorded, tells_all
from cachecluster.domain.requests import restarts
from cachecluster.domain.snapshot import Expansion, Manifest, ObjectKey, Snapshot
from cachecluster.domain.status import derive
from cachecluster.domain.topology import observe
from tests.unit.domain.building import REF, formed
from tests.unit.domain.test_fence import few

KEY = ObjectKey("StatefulSet", "cart-0")
RECORD = record_key("cart-0")


def claim(ordinal: int, requested: str, capacity: str | None, **conditions: str) -> Manifest:
    """Of the only shard."""
    status: dict[str, Any] = {"phase": "Bound", "capacity": {"storage": capacity}} if capacity else {"phase": "Pending"}
    status["conditions"] = [{"type": k, "status": "True", "message": v} for k, v in conditions.items()]
    name = names.volume_claim("cart", 0, ordinal)
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "uid": name,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {names.ANNOTATION_CLUSTER_UID: REF.uid},
        },
        "spec": {"storageClassName": "ssd", "resources": {"requests": {"storage": requested}}},
        "status": status,
    }


def situation(
    size: str = "4Gi", made: str = "2Gi", claims: tuple[Manifest, ...] = (), *, record: bool = False, **more: Any
) -> Snapshot:
    """One shard of two members, with volumes."""
    snap = replace(few(1, 1, persistence={"mode": "AppendOnly", "size": size}).snapshot(), **more)
    found = claims or (claim(0, made, made), claim(1, made, made))
    template = {"metadata": {"name": names.DATA_VOLUME}, "spec": {"resources": {"requests": {"storage": made}}}}

    def with_volumes(manifest: Manifest) -> Manifest:
        return {**manifest, "spec": {**manifest["spec"], "volumeClaimTemplates": [template]}}

    live = with_volumes(snap.children[KEY])
    applied = fingerprint(with_volumes(snap.desired[0]))
    others = {
        "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {
            **live["metadata"]["annotations"],
            names.ANNOTATION_APPLIED: applied,
            "example.com/owner": "shop",
        },
    }
    live = {**live, "metadata": {**live["metadata"], **others}}
    children = {**snap.children, KEY: live, **{ObjectKey(c["kind"], c["metadata"]["name"]): c for c in found}}
    if record:
        written = record_of(live, snap.desired[0])
        meta = {**written["metadata"], "uid": "r", "resourceVersion": "7"}
        children[RECORD] = {**written, "metadata": meta}
    desired = tuple(with_volumes(m) for m in snap.desired)
    classes = {"ssd": Expansion.ALLOWED, **more.get("storage_classes", {})}
    return replace(snap, children=children, desired=desired, storage_classes=classes)


GROWN = (claim(0, "4Gi", "4Gi"), claim(1, "4Gi", "4Gi"))


def steps(snap: Snapshot) -> list[Any]:
    return [s.action for s in plan(snap).steps]


def without(snap: Snapshot, *keys: ObjectKey) -> Snapshot:
    return replace(snap, children={k: o for k, o in snap.children.items() if k not in keys})


def test_claims_come_first() -> None:
    claims = (claim(0, "2Gi", "2Gi"), claim(1, "8Gi", "8Gi"))
    [action] = [a for a in steps(situation(claims=claims)) if isinstance(a, ExpandVolume)]
    assert (action.claim, action.size) == ("data-cart-0-0", "4Gi"), "one that somebody has made larger is left alone"
    assert not [a for a in steps(situation(claims=claims)) if isinstance(a, DetachPods)]


@pytest.mark.parametrize(
    ("expansion", "words"),
    [
        (Expansion.REFUSED, "StorageClass ssd does not allow it (allowVolumeExpansion is not true)"),
        (Expansion.MISSING, "StorageClass ssd does not exist"),
    ],
)
def test_a_class_that_cannot_is_explained_and_nothing_is_done(expansion: Expansion, words: str) -> None:
    snap = situation(storage_classes={"ssd": expansion})
    snap = replace(snap, storage_classes={"ssd": expansion})
    [block] = plan(snap).blocks
    assert block.reason is Reason.VOLUME_NOT_EXPANDABLE
    assert words in block.message
    assert "Set persistence.size back" in block.message
    assert steps(snap) == []
    assert pending_modifications(snap, observe(snap)) == ["persistence.size"]


def test_without_a_look_at_the_class_it_is_tried_and_the_refusal_explained() -> None:
    snap = replace(situation(), storage_classes={"ssd": Expansion.UNREADABLE})
    p = plan(snap)
    assert [type(s.action) for s in p.steps] == [ExpandVolume, ExpandVolume]
    refused = Outcome(p.steps[0], "only dynamically provisioned pvc can be resized", rejected=True)
    status = derive(snap, p, [refused])
    assert status.reason == Reason.VOLUME_NOT_EXPANDABLE
    assert "only dynamically provisioned" in status.message
    assert "allowVolumeExpansion" in status.message


def test_less_than_there_is_cannot_be_had() -> None:
    snap = situation(size="1Gi")
    [block] = plan(snap).blocks
    assert block.reason is Reason.VOLUME_CANNOT_SHRINK
    assert "Write back 2Gi" in block.message
    assert steps(snap) == []


@pytest.mark.parametrize(
    ("conditions", "words"),
    [
        ({}, "waiting for the storage driver"),
        ({"Resizing": ""}, "the storage driver is at it"),
        ({"FileSystemResizePending": ""}, "kubectl cache restart"),
        ({"ControllerResizeError": "quota"}, "ControllerResizeError: quota"),
    ],
)
def test_what_is_waited_for_is_said(conditions: dict[str, str], words: str) -> None:
    snap = situation(made="4Gi", claims=(claim(0, "4Gi", "2Gi", **conditions), GROWN[1]))
    [wait] = plan(snap).waits
    assert wait.reason is Reason.RESIZING_VOLUMES
    assert words in wait.message
    assert "data-cart-0-0" in wait.message
    assert "data-cart-0-1" not in wait.message


def test_s2_the_record_is_written_before_the_statefulset_goes() -> None:
    [action] = steps(situation(claims=GROWN))
    assert isinstance(action, Apply)
    assert action.manifest["metadata"]["name"] == "cart-0-record"
    assert tells_all(action.manifest, situation(claims=GROWN).children[KEY])
    [action] = steps(situation(claims=GROWN, record=True))
    assert isinstance(action, DetachPods)
    assert (action.uid, action.record, action.disruptive) == ("uid-cart-0", RECORD, True)


def test_s2_a_record_that_has_fallen_behind_is_written_again() -> None:
    snap = situation(claims=GROWN, record=True)
    live = snap.children[KEY]
    meta = {**live["metadata"], "annotations": {**live["metadata"]["annotations"], "example.com/owner": "sales"}}
    [action] = steps(replace(snap, children={**snap.children, KEY: {**live, "metadata": meta}}))
    assert isinstance(action, Apply)
    assert action.uid == "r"


def test_s7_nothing_is_detached_while_something_is_amiss() -> None:
    snap = situation(claims=GROWN, record=True)
    views = {**snap.views, "cart-0-1": Unreachable("no answer", 1.0)}
    assert not [a for a in steps(replace(snap, views=views)) if isinstance(a, DetachPods)]
    old = replace(snap.pods[1], revision="rev-old")
    assert not [a for a in steps(replace(snap, pods=(snap.pods[0], old))) if isinstance(a, DetachPods)]


def test_s2_what_the_shard_has_served_is_known_while_no_statefulset_exists() -> None:
    snap = without(situation(claims=GROWN, record=True), KEY)
    assert [str(s.formed) for s in observe(replace(snap, views={})).shards] == ["0-16383"]
    assert present_members("cart", snap.children, ()) == {0: 2}
    created = [s for s in plan(snap).steps if s.reason is Reason.CREATING_OBJECTS]
    assert [type(s.action) for s in created] == [Apply]


def test_a_requested_restart_is_known_while_no_statefulset_exists() -> None:
    snap = situation(claims=GROWN)
    live = dict(snap.children[KEY])
    template = {**live["spec"]["template"], "metadata": {"annotations": {names.ANNOTATION_RESTARTED: "noon"}}}
    live["spec"] = {**live["spec"], "template": template}
    children = {RECORD: record_of(live, snap.desired[0])}
    assert restarts("cart", (0,), {}, children) == {0: "noon"}


def test_what_others_had_put_there_comes_back_and_then_the_record_goes() -> None:
    snap = situation(made="4Gi", claims=GROWN, record=True)
    assert [type(a) for a in steps(snap)] == [Delete]
    live = snap.children[KEY]
    annotations = {k: v for k, v in live["metadata"]["annotations"].items() if not k.startswith("example.com")}
    bare = {**live, "metadata": {**live["metadata"], "annotations": annotations}}
    [action] = steps(replace(snap, children={**snap.children, KEY: bare}))
    assert isinstance(action, RestoreMetadata)
    assert action.annotations == {"example.com/owner": "shop"}


@pytest.mark.parametrize("data", [{}, {"statefulset.json": "{"}, {"statefulset.json": "[]"}])
def test_a_record_that_somebody_has_spoilt_says_nothing(data: dict[str, str]) -> None:
    assert recorded({"data": data}) is None
    assert not tells_all({"data": data}, situation().children[KEY])


def test_a_refusal_of_another_action_stays_what_it_was() -> None:
    snap = formed().snapshot()
    step = Do(Delete(ObjectKey("Pod", "p"), "u", None), Reason.CLEANING_UP, "m")
    assert derive(snap, plan(snap), [Outcome(step, "no", rejected=True)]).reason == Reason.OBJECT_REJECTED
