"""What users read: conditions, the one-line state, times that move only when a status does."""

from dataclasses import replace

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.api.status import CacheClusterStatus
from cachecluster.domain.plan import Outcome
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import Container, ContainerState
from cachecluster.domain.status import derive
from tests.unit.domain.building import NOW, Cluster, blank, formed, spec_of


def status_of(cluster: Cluster) -> CacheClusterStatus:
    snap = cluster.snapshot()
    return derive(snap, plan(snap))


def condition(status: CacheClusterStatus, kind: ConditionType) -> tuple[str, str]:
    found = next(c for c in status.conditions if c.type is kind)
    return found.status, found.reason


def test_a_healthy_cluster_is_ready_and_at_rest() -> None:
    status = status_of(formed())
    assert condition(status, ConditionType.READY) == ("True", Reason.CLUSTER_READY)
    assert condition(status, ConditionType.RECONCILING)[0] == "False"
    assert condition(status, ConditionType.STALLED)[0] == "False"
    assert condition(status, ConditionType.DEGRADED)[0] == "False"
    assert condition(status, ConditionType.ZONES_SPREAD)[0] == "True"
    assert (status.ready_nodes, status.nodes) == (6, 6)
    assert status.reason == Reason.CLUSTER_READY
    assert [s.slots for s in status.shards] == ["0-5460", "5461-10921", "10922-16383"]
    assert status.shards[0].replicas[0].synced


def test_a_new_cluster_is_not_ready_but_reconciling() -> None:
    status = status_of(blank())
    assert condition(status, ConditionType.READY) == ("False", Reason.FORMING)
    assert condition(status, ConditionType.RECONCILING)[0] == "True"


def test_a_new_cluster_is_not_ready_while_a_node_does_not_know_where_all_slots_are() -> None:
    snap = formed().snapshot()
    view = snap.view("cart-1-1")
    assert view is not None
    peers = tuple(replace(p, slots=NO_SLOTS) if p.node_id == "id-0-0-0" else p for p in view.peers)
    unaware = replace(snap, views={**snap.views, "cart-1-1": replace(view, peers=peers)})
    assert plan(unaware).waits[0].message == "not every node knows yet where all slots are"
    new = derive(unaware, plan(unaware))
    assert condition(new, ConditionType.READY) == ("False", Reason.FORMING)
    known = derive(snap, plan(snap)).to_json()
    again = replace(unaware, status=known)
    assert condition(derive(again, plan(again)), ConditionType.READY) == ("True", Reason.CLUSTER_READY)


def test_a_lost_replica_degrades_but_stays_ready() -> None:
    snap = formed().with_node(1, 1, up=False, down_seconds=3).snapshot()
    before = status_of(formed()).to_json()
    status = derive(replace(snap, status=before), plan(snap))
    assert condition(status, ConditionType.READY)[0] == "True"
    assert condition(status, ConditionType.DEGRADED) == ("True", Reason.NO_SYNCED_REPLICA)


def test_slots_that_are_served_again_make_it_ready_before_all_copies_are_back() -> None:
    cluster = formed().with_node(1, 1, up=False, down_seconds=3)
    new = cluster.snapshot()
    assert condition(derive(new, plan(new)), ConditionType.READY) == ("False", Reason.SYNCING_REPLICA)
    dark = cluster.with_node(1, 0, answers=False).snapshot()
    before = derive(dark, plan(dark))
    assert condition(before, ConditionType.READY) == ("False", Reason.SLOTS_UNCOVERED)
    again = replace(new, status=before.to_json())
    assert condition(derive(again, plan(again)), ConditionType.READY) == ("True", Reason.CLUSTER_READY)


def test_s1_silence_is_unknown_not_down() -> None:
    cluster = formed()
    for n in cluster.nodes:
        cluster = cluster.with_node(n.shard, n.ordinal, answers=False)
    assert condition(status_of(cluster), ConditionType.READY) == ("Unknown", Reason.NODE_UNREACHABLE)


def test_a_primary_that_is_closed_until_its_data_has_been_compared_serves_nobody() -> None:
    closed = formed().with_node(0, 0, quarantined=True).with_node(0, 1, answers=False).snapshot()
    status = derive(replace(closed, status=status_of(formed()).to_json()), plan(closed))
    assert condition(status, ConditionType.READY) == ("False", Reason.RELEASING_QUARANTINE)


def test_transition_times_move_only_with_the_status() -> None:
    snap = formed().snapshot()
    first = derive(snap, plan(snap)).to_json()
    later = replace(snap, now=NOW + 60, status=first)
    assert derive(later, plan(later)).to_json() == first


def test_a_pod_whose_image_does_not_exist_stalls_with_advice() -> None:
    waiting = Container(ContainerState.WAITING, "ImagePullBackOff", "not found", 0, None, "", None)
    status = status_of(blank().with_node(0, 0, answers=False, container=waiting))
    assert condition(status, ConditionType.STALLED) == ("True", Reason.IMAGE_PULL_FAILED)
    assert "spec.image" in status.message


def test_paused_is_said_first() -> None:
    status = status_of(replace(formed(), spec=spec_of(3, 1, paused=True)))
    assert status.reason == Reason.PAUSED
    assert condition(status, ConditionType.RECONCILING) == ("False", Reason.PAUSED)
    assert condition(status, ConditionType.READY)[0] == "True"


def test_a_rejected_object_stalls_with_the_servers_words() -> None:
    snap = replace(formed().snapshot(), children={})
    steps = plan(snap)
    outcomes = [Outcome(steps.steps[0], "exceeded quota: pods=10", rejected=True)]
    status = derive(snap, steps, outcomes)
    assert condition(status, ConditionType.STALLED) == ("True", Reason.OBJECT_REJECTED)
    assert "exceeded quota" in status.message


def test_a_pod_that_may_not_be_created_stalls_with_the_servers_words_and_one_on_its_way_does_not() -> None:
    whole = formed(3, 1)
    short = replace(whole, nodes=tuple(n for n in whole.nodes if n.name != "cart-1-1"))
    refused = replace(short, more={"refused_pods": {"cart-1": 'pods "cart-1-1" is forbidden: exceeded quota: few'}})
    assert condition(status_of(short), ConditionType.STALLED)[0] == "False"
    status = status_of(refused)
    assert condition(status, ConditionType.STALLED) == ("True", Reason.OBJECT_REJECTED)
    assert "exceeded quota: few" in status.message


def test_a_requested_failover_is_confirmed_once_another_pod_leads() -> None:
    def handled(request: str, before: str | None = None) -> str | None:
        status = {} if before is None else {"lastHandledFailover": before}
        more = {"annotations": {names.ANNOTATION_FAILOVER: request}, "status": status}
        return status_of(replace(formed(), more=more)).last_handled_failover

    assert handled("cart-0-0@a") is None
    assert handled("cart-0-1@a") == "cart-0-1@a"
    assert handled("cart-0-0@b", before="cart-0-1@a") == "cart-0-1@a"
    assert handled("cart-9-9") is None
    lost = replace(formed(), more={"annotations": {names.ANNOTATION_FAILOVER: "cart-0-1"}})
    assert status_of(lost.with_node(0, 0, answers=False)).last_handled_failover is None


def test_what_a_newer_operator_has_reported_stops_no_pass() -> None:
    failover = {"shard": "cart-0", "from": "cart-0-0", "to": "cart-0-1", "time": "2026-01-02T03:04:05.678Z"}
    newer = {**failover, "cause": "SomethingNew", "message": "it ended", "howOften": 2}
    reported = {
        "failovers": [newer, {"when": "a list of another form"}],
        "lastFailover": newer,
        "resharding": {"from": "another form"},
        "effective": {"another": "form"},
    }
    status = derive(snap := replace(formed().snapshot(), status=reported), plan(snap))
    assert [f.cause for f in status.failovers] == ["SomethingNew"]
    assert status.last_failover is not None
    assert status.last_failover.cause == "SomethingNew"
    assert status.resharding is None
