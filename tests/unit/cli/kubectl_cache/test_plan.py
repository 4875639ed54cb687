"""What a plan says: what would be done, what is waited for, and how much of the cluster it is built on."""

from dataclasses import replace
from typing import Any

from cachecluster.cli.kubectl_cache.plan import as_document, explain
from cachecluster.domain.actions import Apply
from cachecluster.domain.plan import Do, Plan
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Snapshot
from tests.unit.cli.kubectl_cache.shelf import Desk, Shelf
from tests.unit.domain.building import Cluster, formed

HEAD = "cart in shop: what the operator would do now; nothing is done"


def told(snap: Snapshot, **more: Any) -> list[str]:
    session = replace(Desk(Shelf()).session, **more)
    return list(explain(snap, plan(snap), session))


def rolling(cluster: Cluster) -> Snapshot:
    return replace(cluster, template="t2", update="rev-t2").snapshot()


def test_nothing_to_do_is_said() -> None:
    assert told(formed().snapshot()) == [
        HEAD,
        "6 of 6 nodes answer",
        "Nothing: the cluster is as its spec wants it.",
    ]


def test_steps_come_with_their_reason_and_message() -> None:
    assert told(rolling(formed()))[2:] == [
        "",
        "Would do, in this order, and then look again:",
        "  RollPod  RollingOut  cart-0-1 is replaced to run the new template",
    ]


def test_what_is_waited_for_and_held_back_is_told_apart() -> None:
    lines = told(rolling(formed(3, 0)))
    assert lines[3] == "Held back:"
    assert lines[4].startswith("  WouldLoseData  shard 0 has no replica and persistence.mode None")
    cluster = replace(formed(), template="t2", update="rev-t2").with_node(0, 1, up=False, down_seconds=3)
    assert "Waits:" in told(cluster.snapshot())


def test_nodes_that_cannot_be_reached_are_said_first_with_a_way_to_reach_them() -> None:
    cluster = formed()
    for node in cluster.nodes:
        cluster = cluster.with_node(node.shard, node.ordinal, answers=False)
    lines = told(cluster.snapshot())
    assert lines[1] == (
        "6 of 6 nodes cannot be reached from here: cart-0-0 (no answer), cart-0-1 (no answer), "
        "cart-1-0 (no answer), 3 more"
    )
    assert lines[3] == (
        "  kubectl exec -n cachecluster-system deploy/cachecluster-operator -- kubectl-cache plan -n shop cart"
    )
    inside = told(cluster.snapshot(), in_cluster=True)
    assert not [line for line in inside if "kubectl exec" in line]


def test_s12_a_document_names_actions_but_not_what_they_carry() -> None:
    secret = {"kind": "Secret", "metadata": {"name": "cart-auth"}, "data": {"password": "aHVzaA=="}}
    snap = formed().snapshot()
    found = Plan((Do(Apply(secret, None), plan(rolling(formed())).steps[0].reason, "creating Secret cart-auth"),))
    document = as_document(snap, found)
    assert "aHVzaA==" not in str(document)
    assert document["steps"] == [
        {"action": "Apply", "disruptive": False, "reason": "RollingOut", "message": "creating Secret cart-auth"}
    ]
    assert (document["nodes"], document["unreachable"]) == (6, {})
