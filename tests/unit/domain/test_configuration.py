"""Parameters that need no restart: noted first, then set on running nodes, then written down."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.domain import durability
from cachecluster.domain.actions import Apply, Configure
from cachecluster.domain.drift import key_of
from cachecluster.domain.live_parameters import noted as names_in
from cachecluster.domain.live_parameters import remembered
from cachecluster.domain.memory import maxmemory
from cachecluster.domain.nodes import NodeView
from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.domain.plan import Outcome
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Container, ContainerState, ObjectKey, PodShape, Snapshot
from cachecluster.domain.status import derive
from cachecluster.manifests.config import live_config_map
from tests.unit.domain.building import NOW, REF, as_live, formed, spec_of

OWN = f"maxmemory {maxmemory(spec_of())}\n"
NODES = [f"cart-{shard}-{ordinal}" for shard in range(3) for ordinal in range(2)]


def situation(
    before: dict[str, Any],
    after: dict[str, Any],
    nodes: dict[str, str],
    *,
    noted: str = "",
    odd: dict[tuple[int, int], dict[str, Any]] | None = None,
    **more: Any,
) -> Snapshot:
    """The ConfigMap was written for ``before``, the spec says ``after``, and the nodes have ``nodes`` (but for the
    ``odd`` ones, by shard and ordinal)."""
    spec = spec_of(parameters=after)
    live = as_live(live_config_map(spec_of(parameters=before), REF, noted.split()))
    desired = live_config_map(spec, REF, names_in(live))
    cluster = replace(formed(), spec=spec)
    for node in cluster.nodes:
        changes: dict[str, Any] = {"parameters": nodes} | (odd or {}).get((node.shard, node.ordinal), {})
        cluster = cluster.with_node(node.shard, node.ordinal, **changes)
    snap = cluster.snapshot()
    return replace(snap, desired=(desired, *snap.desired), children={**snap.children, key_of(live): live}, **more)


def test_an_unnoted_parameter_is_noted_before_any_node_is_told() -> None:
    (step,) = plan(situation({"hz": 20}, {"hz": 20, "timeout": 5}, {"hz": "20", "timeout": "0"})).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["metadata"]["annotations"][names.ANNOTATION_LIVE_NAMES] == "hz maxmemory timeout"
    assert step.action.manifest["data"]["live.conf"] == f"hz 20\n{OWN}", "nothing that no node has confirmed"
    assert step.action.resource_version == "1", "what another one has noted meanwhile is not forgotten"


def test_every_node_is_told_at_once_and_all_in_one_command() -> None:
    snap = situation({"hz": 20}, {"hz": 50, "timeout": 5}, {"hz": "20", "timeout": "0"}, noted="timeout")
    (step,) = plan(snap).steps
    assert isinstance(step.action, Configure)
    assert [t.pod for t in step.action.nodes] == NODES
    assert step.action.parameters == (("hz", "50"), ("timeout", "5"))
    assert step.reason is Reason.CONFIGURING
    assert not step.action.disruptive


def test_what_every_node_has_confirmed_is_written_down() -> None:
    (step,) = plan(situation({"hz": 20}, {"hz": 50}, {"hz": "50"})).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"]["live.conf"] == f"hz 50\n{OWN}"
    assert step.action.resource_version == "1"


def test_a_converged_cluster_is_left_alone() -> None:
    assert plan(
        situation({"repl-backlog-size": "64mb"}, {"repl-backlog-size": "64mb"}, {"repl-backlog-size": "67108864"})
    ).converged


def test_a_parameter_that_is_taken_back_gets_the_engines_own_value_and_stays_noted() -> None:
    (step,) = plan(situation({"hz": 20}, {}, {"hz": "20"})).steps
    assert isinstance(step.action, Configure)
    assert step.action.parameters == (("hz", "10"),)
    (step,) = plan(situation({"hz": 20}, {}, {"hz": "10"})).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"]["live.conf"] == OWN
    assert step.action.manifest["metadata"]["annotations"][names.ANNOTATION_LIVE_NAMES] == "hz maxmemory"


def test_only_the_node_that_differs_is_set_back_and_it_is_said() -> None:
    (step,) = plan(situation({"hz": 20}, {"hz": 20}, {"hz": "20"}, odd={(1, 1): {"parameters": {"hz": "500"}}})).steps
    assert isinstance(step.action, Configure)
    assert [t.pod for t in step.action.nodes] == ["cart-1-1"]
    assert (step.reason, step.message) == (Reason.REPAIRING_DRIFT, "cart-1-1 differs from the spec: setting hz to 20")


def test_s1_a_silent_node_keeps_back_the_file_but_not_the_others() -> None:
    silent = {(0, 1): {"answers": False}}
    p = plan(situation({"hz": 20}, {"hz": 50}, {"hz": "20"}, odd=silent))
    assert [[t.pod for t in s.action.nodes] for s in p.steps if isinstance(s.action, Configure)] == [
        [n for n in NODES if n != "cart-0-1"]
    ]
    p = plan(situation({"hz": 20}, {"hz": 50}, {"hz": "50"}, odd=silent))
    assert not p.steps
    assert any(w.reason is Reason.CONFIGURING and "cart-0-1" in w.message for w in p.waits)


def test_a_node_that_cannot_run_has_nothing_to_confirm() -> None:
    """Else a value that keeps it from starting could never be corrected."""
    ended = Container(ContainerState.WAITING, "CrashLoopBackOff", "", 5, None, "Error, exit code 1", 1)
    crashing = {(0, 1): {"answers": False, "container": ended}}
    steps = plan(situation({"hz": 20}, {"hz": 50}, {"hz": "50"}, odd=crashing)).steps
    assert [type(s.action) for s in steps] == [Apply]


def test_a_node_of_the_former_version_is_left_as_it_is() -> None:
    old = {(0, 1): {"version": "8.0.4", "parameters": {}}}
    assert plan(situation({"hz": 20}, {"hz": 20}, {"hz": "20"}, odd=old)).converged


def test_s11_what_the_engine_has_refused_is_held_back_and_explained() -> None:
    words = "10.0.0.1: CONFIG SET failed - no"
    refusals = {(("hz", "50"),): words}
    snap = situation({"hz": 20}, {"hz": 50}, {"hz": "20"}, refusals=refusals)
    p = plan(snap)
    assert not p.steps
    (block,) = p.blocks
    assert block.reason is Reason.PARAMETER_REFUSED
    assert not block.stops_rest
    assert words in block.message
    assert "Correct spec.parameters" in block.message
    status = derive(snap, p)
    conditions = {c.type: (c.status, c.reason) for c in status.conditions}
    assert conditions[ConditionType.STALLED] == ("True", Reason.PARAMETER_REFUSED)
    assert conditions[ConditionType.READY][0] == "True"
    assert conditions[ConditionType.ROLLED_OUT] == ("False", Reason.CONFIGURING)
    assert status.pending_modifications == ["parameters.hz"]
    other = situation({"hz": 20}, {"hz": 60}, {"hz": "20"}, refusals=refusals)
    assert [type(s.action) for s in plan(other).steps] == [Configure], "another value is tried at once"


def test_a_refusal_stalls_from_the_first_moment_on() -> None:
    snap = situation({"hz": 20}, {"hz": 50}, {"hz": "20"})
    p = plan(snap)
    status = derive(snap, p, [Outcome(p.steps[0], "10.0.0.1: no", refused=True)])
    stalled = next(c for c in status.conditions if c.type is ConditionType.STALLED)
    assert (stalled.status, stalled.reason) == ("True", Reason.PARAMETER_REFUSED)


def test_an_edited_label_is_put_back() -> None:
    snap = situation({"hz": 20}, {"hz": 20}, {"hz": "20"})
    key = key_of(snap.desired[0])
    live = snap.children[key]
    edited = {**live, "metadata": {**live["metadata"], "labels": {}}}
    (step,) = plan(replace(snap, children={**snap.children, key: edited})).steps
    assert step.reason is Reason.REPAIRING_DRIFT
    assert isinstance(step.action, Apply)


def test_a_missing_config_map_is_created_and_a_deleted_one_waited_for() -> None:
    snap = situation({}, {"hz": 50}, {"hz": "10"})
    key = key_of(snap.desired[0])
    gone = replace(snap, children={k: o for k, o in snap.children.items() if k != key})
    assert [s.reason for s in plan(gone).steps] == [Reason.CREATING_OBJECTS]
    leaving = {**snap.children[key], "metadata": {**snap.children[key]["metadata"], "deletionTimestamp": "now"}}
    assert not plan(replace(snap, children={**snap.children, key: leaving})).steps


def test_one_that_is_deleted_under_running_pods_comes_back_without_values_and_with_every_name() -> None:
    snap = situation({"hz": 20}, {"hz": 50}, {"hz": "20"})
    key = key_of(snap.desired[0])
    shape = PodShape("", {}, "", key.name, {}, {})
    pods = tuple(replace(p, shape=shape) for p in snap.pods)
    (step,) = plan(replace(snap, pods=pods, children={k: o for k, o in snap.children.items() if k != key})).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"] == {"live.conf": OWN}
    assert remembered(None, pods, key.name, "8.1") == DEFAULTS["8.1"].keys() | durability.NAMES
    assert remembered(None, snap.pods, key.name, "8.1") == frozenset()


class TestPending:
    @pytest.mark.parametrize(
        ("changes", "expected"),
        [
            ({}, []),
            ({"image": "old"}, ["image"]),
            ({"resources": {"limits": {"memory": "128Mi"}}}, ["resources"]),
            ({"labels": {}}, ["pod"]),
            ({"config": "cart-config-old"}, ["parameters.io-threads", "parameters.rdbchecksum"]),
        ],
        ids=str,
    )
    def test_what_a_pod_still_lacks_is_named(self, changes: dict[str, Any], expected: list[str]) -> None:
        spec = {
            "containers": [
                {"name": names.CONTAINER, "image": "new", "resources": {"limits": {"memory": "256Mi"}}},
            ],
            "volumes": [{"name": names.CONFIG_VOLUME, "configMap": {"name": "cart-config-new"}}],
        }
        shape = PodShape("new", {"limits": {"memory": "256Mi"}}, "cart-config-new", "", {"team": "shop"}, {})
        snap = replace(formed(), template="t2").snapshot()
        desired = tuple(
            {**m, "spec": {**m["spec"], "template": {"metadata": {"labels": {"team": "shop"}}, "spec": spec}}}
            for m in snap.desired
        )
        files = {
            "cart-config-old": "io-threads 2\nmaxmemory 5\nhz 10\n",
            "cart-config-new": "rdbchecksum no\nmaxmemory 7\nhz 10\n",
        }
        configs = [
            {"kind": "ConfigMap", "metadata": {"name": name}, "data": {"valkey.conf": text}}
            for name, text in files.items()
        ]
        snap = replace(
            snap,
            desired=desired,
            children={**snap.children, **{key_of(c): c for c in configs}},
            pods=tuple(replace(p, shape=replace(shape, **changes), created_at=NOW) for p in snap.pods),
        )
        assert derive(snap, plan(snap)).pending_modifications == expected

    def test_another_version_is_named_as_such(self) -> None:
        cluster = replace(formed(), template="t2")
        snap = cluster.with_node(0, 1, version="8.0.1").snapshot()
        template = snap.desired[0]["spec"]["template"]
        shape = PodShape("valkey:8.0", {}, "", "", {}, {})
        snap = replace(snap, pods=tuple(replace(p, shape=shape if p.name == "cart-0-1" else None) for p in snap.pods))
        assert template["spec"]["containers"][0]["image"] == "image-t2"
        assert derive(snap, plan(snap)).pending_modifications == ["version"]


def test_the_hash_of_what_is_in_force_moves_once_all_of_it_is() -> None:
    def effective(snap: Snapshot) -> str | None:
        found = derive(snap, plan(snap)).effective
        return found.parameters_hash if found else None

    before = effective(situation({"hz": 20}, {"hz": 20}, {"hz": "20"}))
    after = effective(situation({"hz": 50}, {"hz": 50}, {"hz": "50"}))
    assert before
    assert after
    assert before != after
    assert effective(situation({"hz": 20}, {"hz": 50}, {"hz": "20"})) is None, "under way: as the status was before"
    assert effective(situation({"hz": 20}, {"hz": 50}, {"hz": "50"})) is None, "not written down yet"
    plain, taken_back = situation({}, {}, {}), situation({}, {}, {"hz": "10"}, noted="hz")
    assert effective(plain) == effective(taken_back)


def test_a_limit_below_what_is_in_use_is_held_back_and_explained() -> None:
    snap = situation({}, {}, {"maxmemory": str(2**30 * 60 // 100)})
    pods = tuple(replace(pod, memory_limit=2**30) for pod in snap.pods)
    views = {n: replace(v, used_memory=200 * 2**20) for n, v in snap.views.items() if isinstance(v, NodeView)}
    p = plan(replace(snap, pods=pods, views=views))
    assert not p.steps
    [block] = p.blocks
    assert block.reason is Reason.INSUFFICIENT_MEMORY
    assert "200 MiB" in block.message
    assert "allkeys-lru" in block.message
    few = {n: replace(v, used_memory=100 * 2**20) for n, v in views.items()}
    (step,) = plan(replace(snap, pods=pods, views=few)).steps
    assert isinstance(step.action, Configure)
    assert step.action.parameters == (("maxmemory", str(256 * 2**20 * 60 // 100)),)


def test_a_maxmemory_that_not_every_node_has_yet_keeps_no_other_parameter_back() -> None:
    odd = {(0, 0): {"parameters": {"hz": "50", "maxmemory": str(128 * 2**20 * 60 // 100)}}}
    snap = situation({"hz": 20}, {"hz": 50}, {"hz": "50"}, odd=odd)
    pods = tuple(replace(p, memory_limit=128 * 2**20) if p.name == "cart-0-0" else p for p in snap.pods)
    key = ObjectKey("ConfigMap", "cart-live-8.1")
    live = dict(snap.children[key])
    live["data"] = {"live.conf": f"hz 20\nmaxmemory {128 * 2**20 * 60 // 100}\n"}
    (step,) = plan(replace(snap, pods=pods, children={**snap.children, key: live})).steps
    assert isinstance(step.action, Apply)
    assert step.action.manifest["data"]["live.conf"] == f"hz 50\nmaxmemory {128 * 2**20 * 60 // 100}\n"
