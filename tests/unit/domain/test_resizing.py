"""Other amounts of memory for running pods: who is resized, who replaced, and in which order."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import AdoptRevision, Configure, Delete, ResizePod, RollPod
from cachecluster.domain.drift import fingerprint
from cachecluster.domain.memory import PARAMETER, maxmemory
from cachecluster.domain.nodes import NodeView
from cachecluster.domain.pending import pending_modifications
from cachecluster.domain.plan import Outcome
from cachecluster.domain.planner import plan
from cachecluster.domain.resizing import fixed_hash, resources_of
from cachecluster.domain.snapshot import Manifest, ObjectKey, PodShape, Resize, ResizeState, Snapshot
from cachecluster.domain.status import derive
from cachecluster.domain.topology import observe
from tests.unit.domain.building import NOW, formed

MIB = 2**20


def amounts(memory: str) -> dict[str, dict[str, str]]:
    return {"limits": {"memory": memory}, "requests": {"memory": memory}}


def template(memory: str, image: str = "valkey", grace: int = 30) -> dict[str, Any]:
    container = {"name": names.CONTAINER, "image": image, "resources": {"limits": {"memory": memory}}}
    made: dict[str, Any] = {"spec": {"containers": [container], "terminationGracePeriodSeconds": grace}}
    return {**made, "metadata": {"annotations": {names.ANNOTATION_FIXED: fixed_hash(made)}}}


def situation(
    memory: str = "1Gi",
    *,
    before: str = "256Mi",
    asked: Mapping[str, str] | None = None,
    image: str = "valkey",
    shape: tuple[int, int] = (1, 1),
    **more: Any,
) -> Snapshot:
    """All pods were made for ``before``; the new template is applied; some are ``asked`` to be otherwise by now."""
    spec: dict[str, Any] = {"resources": {"limits": {"memory": memory}}}
    if "persistence" in more:
        spec["persistence"] = more.pop("persistence")
    snap = replace(formed(*shape, **spec), template="t2", update="rev-t2").snapshot()
    new = template(memory, image, more.pop("grace", 30))
    children = {k: {**o, "spec": {**o["spec"], "template": new}} for k, o in snap.children.items()}
    desired = tuple({**o, "spec": {**o["spec"], "template": new}} for o in snap.desired)
    for o in desired:
        live = dict(children[ObjectKey("StatefulSet", o["metadata"]["name"])])
        annotations = {**live["metadata"]["annotations"], names.ANNOTATION_APPLIED: fingerprint(o)}
        children[ObjectKey("StatefulSet", o["metadata"]["name"])] = {
            **live,
            "metadata": {**live["metadata"], "annotations": annotations},
        }
    old = template(before)
    pods = []
    for pod in snap.pods:
        wanted = amounts((asked or {}).get(pod.name, before))
        seen = PodShape("valkey", wanted, "c", "l", {}, old["metadata"]["annotations"], 30)
        limit = to_mib(before)
        pods.append(replace(pod, shape=seen, memory_limit=limit, memory_asked=to_mib(wanted["limits"]["memory"])))
    given = {"resizable": True, "children": children, "desired": desired, "pods": tuple(pods), **more}
    return told(replace(snap, **given), min(to_mib(before), to_mib(memory)))


def to_mib(text: str) -> int:
    return int(text[:-2]) * {"Mi": MIB, "Gi": 2**30}[text[-2:]]


def told(snap: Snapshot, limit: int, used: int = MIB) -> Snapshot:
    """Every engine has maxmemory for that limit, and uses so much."""
    parameters = {PARAMETER: str(limit * 60 // 100)}
    views = {
        n: replace(v, parameters=parameters, used_memory=used) for n, v in snap.views.items() if isinstance(v, NodeView)
    }
    return replace(snap, views=views)


def with_pods(snap: Snapshot, **changes: Any) -> Snapshot:
    return replace(snap, pods=tuple(replace(pod, **changes) for pod in snap.pods))


def steps(snap: Snapshot, kind: type) -> list[Any]:
    return [s.action for s in plan(snap).steps if isinstance(s.action, kind)]


def test_all_that_grow_are_resized_at_once_replicas_first() -> None:
    snap = situation(shape=(2, 1))
    assert [a.pod for a in steps(snap, ResizePod)] == ["cart-0-1", "cart-0-0", "cart-1-1", "cart-1-0"]
    assert steps(snap, ResizePod)[0].resources == amounts("1Gi")
    assert not steps(snap, RollPod)
    assert "resources" in pending_modifications(snap, observe(snap))


def test_s7_of_those_that_shrink_one_of_each_shard_goes_first() -> None:
    snap = situation("128Mi", shape=(2, 1))
    assert [a.pod for a in steps(snap, ResizePod)] == ["cart-0-1", "cart-1-1"]


def test_a_limit_comes_down_only_when_the_engine_has_been_told_and_has_room() -> None:
    snap = situation("128Mi")
    assert not steps(told(snap, 256 * MIB), ResizePod), "not told"
    assert not steps(told(snap, 128 * MIB, used=100 * MIB), ResizePod), "uses too much"
    assert steps(told(snap, 128 * MIB, used=70 * MIB), ResizePod)
    full = told(snap, 256 * MIB, used=80 * MIB)
    assert not steps(full, ResizePod)
    assert not steps(replace(full, resizable=False), RollPod), "in a smaller pod its data would not fit either"


def test_s1_a_node_that_does_not_answer_keeps_its_limit() -> None:
    snap = situation("128Mi")
    assert [a.pod for a in steps(replace(snap, views={}), ResizePod)] == []


def test_a_pod_adopts_the_revision_when_kubelet_and_engine_confirm() -> None:
    snap = situation(asked={"cart-0-0": "1Gi", "cart-0-1": "1Gi"})
    busy = with_pods(snap, resize=Resize(ResizeState.UNDER_WAY, "soon"))
    assert not steps(busy, AdoptRevision)
    assert any("soon" in w.message for w in plan(busy).waits)
    grown = with_pods(snap, memory_limit=2**30)
    assert not steps(grown, AdoptRevision), "the engine has not been told"
    done = steps(told(grown, 2**30), AdoptRevision)
    assert [(a.pod, a.revision) for a in done] == [("cart-0-1", "rev-t2"), ("cart-0-0", "rev-t2")]


@pytest.mark.parametrize(
    "snap",
    [
        situation(resizable=False),
        situation(image="valkey:9"),
        situation(resize_refusals=frozenset({("uid-cart-0-1", fingerprint(amounts("1Gi")))})),
        situation(shape=(1, 0), grace=60, persistence={"mode": "Snapshot", "size": "2Gi"}),
    ],
    ids=["no such API", "another image", "refused", "a lone primary needs a longer grace period"],
)
def test_who_cannot_be_resized_is_replaced(snap: Snapshot) -> None:
    assert steps(snap, RollPod)


def test_a_replica_makes_the_grace_period_of_its_primary_matter_less() -> None:
    snap = situation(grace=60, persistence={"mode": "Snapshot", "size": "2Gi"})
    assert len(steps(snap, ResizePod)) == 2


@pytest.mark.parametrize(
    ("state", "waited", "rolled"),
    [
        (ResizeState.INFEASIBLE, 0, True),
        (ResizeState.DEFERRED, 30, False),
        (ResizeState.DEFERRED, 61, True),
        (ResizeState.FAILED, 61, True),
        (ResizeState.UNDER_WAY, 30, False),
        (ResizeState.UNDER_WAY, 61, True),
    ],
)
def test_patience_with_a_kubelet(state: ResizeState, waited: int, rolled: bool) -> None:
    snap = with_pods(situation(asked={"cart-0-0": "1Gi", "cart-0-1": "1Gi"}), resize=Resize(state, "why"))
    since = {pod.uid: NOW - waited for pod in snap.pods}
    assert bool(steps(replace(snap, resizing_since=since), RollPod)) is rolled


def test_a_partition_is_not_lowered_past_a_pod_that_is_being_resized() -> None:
    """The StatefulSet controller would replace that one, too."""
    snap = situation(resize_refusals=frozenset({("uid-cart-0-0", fingerprint(amounts("1Gi")))}))
    assert [a.pod for a in steps(snap, ResizePod)] == ["cart-0-1"]
    assert not steps(snap, RollPod)


def test_s1_a_silent_pod_that_is_being_resized_is_not_taken_for_a_broken_one() -> None:
    snap = situation(resizable=False)
    pods = tuple(replace(p, revision=names.no_revision("cart", 0), created_at=NOW - 10_000) for p in snap.pods)
    snap = replace(snap, pods=pods, views={})
    assert plan(snap).steps == ()


def test_a_refused_resize_is_said_and_stalls_nothing() -> None:
    snap = situation()
    p = plan(snap)
    status = derive(snap, p, [Outcome(p.steps[0], "no", rejected=True)])
    assert status.reason == Reason.RESIZING_PODS
    assert "replaced instead" in status.message
    assert {c.type: c.status for c in status.conditions}[ConditionType.STALLED] == "False"


def test_the_engine_is_told_only_what_its_limit_holds() -> None:
    half_way = with_pods(situation(asked={"cart-0-0": "1Gi", "cart-0-1": "1Gi"}), role_label=None)
    assert not steps(half_way, Configure)
    assert maxmemory(formed(resources={"limits": {"memory": "1Gi"}}).spec) == 2**30 * 60 // 100


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"resources": {"limits": {"memory": "2Gi"}}}, True),
        ({"resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}, False),
        ({"resources": {"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}}}, False),
        ({"startupProbe": {"failureThreshold": 99}}, True),
        ({"startupProbe": {"periodSeconds": 99}}, False),
        ({"image": "other"}, False),
    ],
    ids=str,
)
def test_what_a_running_pod_can_become(change: dict[str, Any], same: bool) -> None:
    container = {
        "name": names.CONTAINER,
        "image": "valkey",
        "resources": {"limits": {"memory": "1Gi"}},
        "startupProbe": {"failureThreshold": 90},
    }
    one: Manifest = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 30}}
    probe = {**container["startupProbe"], **change.get("startupProbe", {})}  # type: ignore[dict-item]
    other: Manifest = {
        "spec": {"containers": [{**container, **change, "startupProbe": probe}], "terminationGracePeriodSeconds": 60}
    }
    assert (fixed_hash(one) == fixed_hash(other)) is same


def test_requests_follow_from_limits_as_the_api_server_has_it() -> None:
    container = {"name": names.CONTAINER, "resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}}
    assert resources_of({"spec": {"containers": [container]}}) == {
        "limits": {"memory": "1Gi"},
        "requests": {"memory": "1Gi", "cpu": "1"},
    }


def test_s11_a_pod_that_has_found_no_place_goes_back_to_the_last_good_template() -> None:
    """It was made for more than there is, and the edit is taken back: nothing is in it that could be kept."""
    snap = situation("256Mi", before="900Gi")
    lost = replace(snap.pods[1], host=None, container=None, unschedulable="no room", ready=False, revision="rev-big")
    kept = replace(snap.pods[0], revision="rev-t2")
    views = {"cart-0-0": snap.views["cart-0-0"]}
    [action] = steps(replace(snap, pods=(kept, lost), views=views), Delete)
    assert action.key.name == "cart-0-1"
