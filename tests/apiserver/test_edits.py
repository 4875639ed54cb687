"""Edits that a living cluster cannot follow are refused; all others pass; a status is stored whole."""

from typing import Any

import pytest

from cachecluster.api.conditions import Condition, ConditionType
from cachecluster.api.status import (
    CacheClusterStatus,
    Effective,
    Endpoint,
    Endpoints,
    PrimaryStatus,
    ReplicaStatus,
    ShardStatus,
)
from tests.apiserver.conftest import NAMESPACE, Clusters
from tests.unit.api.cases import FULL, VALID

TOPOLOGY = VALID["topology"]


@pytest.fixture(scope="session")
def least(clusters: Clusters) -> str:
    """Name of a stored cluster with the least spec."""
    assert clusters.create(VALID, "least", dry_run=False).accepted
    return "least"


@pytest.fixture(scope="session")
def full(clusters: Clusters) -> str:
    """Name of a stored cluster with every field set."""
    assert clusters.create(FULL, "full", dry_run=False).accepted
    return "full"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"placement": {"zones": ["a"]}}, "placement"),
        ({"auth": {"mode": "Disabled"}}, "auth"),
    ],
    ids=str,
)
def test_an_edit_that_cannot_be_followed_is_refused(
    clusters: Clusters, least: str, change: dict[str, Any], field: str
) -> None:
    answer = clusters.edit(least, {**VALID, **change})
    assert answer.code == 422, answer
    assert [cause[0] for cause in answer.causes] == [f"spec.{field}"]
    assert "of a living cluster cannot be changed by this version" in str(answer)
    assert "create a new CacheCluster" in str(answer)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("persistence", {**FULL["persistence"], "storageClassName": "slow"}),
        ("persistence", {"mode": "None"}),
        ("persistence", None),
        ("placement", {**FULL["placement"], "spread": "Required"}),
        ("placement", {**FULL["placement"], "tolerations": []}),
        ("placement", {**FULL["placement"], "spread": "Required", "nodeLossGraceSeconds": 10}),
        ("placement", None),
    ],
    ids=str,
)
def test_a_field_that_is_set_can_neither_be_changed_nor_removed(
    clusters: Clusters, full: str, field: str, value: Any
) -> None:
    spec = {key: part for key, part in {**FULL, field: value}.items() if part is not None}
    answer = clusters.edit(full, spec)
    assert answer.code == 422, answer
    assert f"spec.{field}" in [cause[0] for cause in answer.causes]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"persistence": {"mode": "None"}},
        {"auth": {"mode": "Password"}},
        {"topology": {**TOPOLOGY, "shards": 6}},
        {"topology": {**TOPOLOGY, "shards": 1, "replicasPerShard": 0}},
        {"version": "9.1"},
        {"image": "valkey/valkey:8.1.4"},
        {"imagePullSecrets": [{"name": "registry"}]},
        {"resources": {"limits": {"memory": "1Gi"}, "requests": {"cpu": "1"}}},
        {"parameters": {"maxmemory-policy": "allkeys-lru"}},
        {"network": {"allowFrom": []}},
        {"pod": {"labels": {"team": "shop"}}},
        {"placement": {"nodeLossGraceSeconds": 30}},
        {"deletionPolicy": "Delete"},
        {"durability": {"mode": "Default"}},
        {"recovery": {"onDataLoss": "Recreate"}},
        {"recovery": {"onDataLoss": "WaitForApproval"}},
        {"durability": {"mode": "AtLeastOneReplica"}, "topology": {**TOPOLOGY, "replicasPerShard": 2}},
        {"paused": True},
    ],
    ids=str,
)
def test_edits_that_are_followed_pass(clusters: Clusters, least: str, change: dict[str, Any]) -> None:
    answer = clusters.edit(least, {**VALID, **change})
    assert answer.accepted, answer


def test_replicas_that_durability_needs_stay_unless_it_goes_too(clusters: Clusters, full: str) -> None:
    fewer = {**FULL, "topology": {**FULL["topology"], "replicasPerShard": 1}}
    answer = clusters.edit(full, fewer)
    assert [cause[0] for cause in answer.causes] == ["spec.durability.mode"], answer
    assert "write topology.replicasPerShard: 2 or more, or durability.mode: Default" in str(answer)
    assert clusters.edit(full, {**fewer, "durability": {"mode": "Default"}}).accepted


@pytest.mark.parametrize("seconds", [10, None])
def test_the_grace_of_lost_nodes_changes_while_the_rest_of_the_placement_stays(
    clusters: Clusters, full: str, seconds: int | None
) -> None:
    changed = {**FULL["placement"], "nodeLossGraceSeconds": seconds}
    placement = {field: value for field, value in changed.items() if value is not None}
    answer = clusters.edit(full, {**FULL, "placement": placement})
    assert answer.accepted, answer


def test_the_defaults_may_be_written_or_left_out(clusters: Clusters) -> None:
    spec = {**VALID, "persistence": {"mode": "None"}, "auth": {"mode": "Password"}}
    assert clusters.create(spec, "explicit", dry_run=False).accepted
    answer = clusters.edit("explicit", VALID)
    assert answer.accepted, answer


def status(version: str) -> dict[str, Any]:
    """A status with every field, of a cluster whose nodes all run ``version``."""
    condition = Condition(
        type=ConditionType.READY,
        status="True",
        reason="ClusterReady",
        message="1 shards serve all slots",
        last_transition_time="2026-01-01T00:00:00Z",
        observed_generation=1,
    )
    shard = ShardStatus(
        name="upgraded-0",
        slots="0-16383",
        primary=PrimaryStatus(pod="upgraded-0-0", zone="a"),
        replicas=[ReplicaStatus(pod="upgraded-0-1", zone="b", synced=True)],
    )
    return CacheClusterStatus(
        observed_generation=1,
        reason="ClusterReady",
        message="1 shards serve all slots",
        nodes=2,
        ready_nodes=2,
        conditions=[condition],
        endpoints=Endpoints(configuration=Endpoint(host="upgraded.shop.svc", port=6379)),
        shards=[shard],
        effective=Effective(version=version, image="valkey/valkey:9.0", parameters_hash="abc"),
        pending_modifications=["parameters.hz", "resources"],
    ).to_json()


def test_a_major_version_goes_back_only_while_not_every_node_runs_it(clusters: Clusters) -> None:
    assert clusters.create({**VALID, "version": "9.0"}, "upgraded", dry_run=False).accepted
    assert clusters.edit("upgraded", {**VALID, "version": "8.1"}).accepted  # nothing runs yet
    assert clusters.write_status("upgraded", status("8.1.4")).accepted
    assert clusters.edit("upgraded", {**VALID, "version": "8.1"}).accepted  # the roll is stuck, and is taken back
    assert clusters.write_status("upgraded", status("9.0.1")).accepted
    answer = clusters.edit("upgraded", {**VALID, "version": "8.1"})
    assert answer.code == 422
    assert answer.causes[0][0] == "spec.version"
    assert "do not read what it wrote" in str(answer)
    assert "create a new CacheCluster" in str(answer)
    assert clusters.edit("upgraded", {**VALID, "version": "8.0"}).code == 422
    assert clusters.edit("upgraded", {**VALID, "version": "9.0", "paused": True}).accepted
    assert clusters.edit("upgraded", {**VALID, "version": "9.1"}).accepted


@pytest.mark.parametrize(("newer", "exact", "older"), [("8.1", "8.1.4", "8.0"), ("9.1", "9.1.2", "9.0")])
def test_a_version_goes_back_within_its_major_one(clusters: Clusters, newer: str, exact: str, older: str) -> None:
    name = f"back-to-{older.replace('.', '-')}"
    assert clusters.create({**VALID, "version": newer}, name, dry_run=False).accepted
    assert clusters.write_status(name, status(exact)).accepted
    assert clusters.edit(name, {**VALID, "version": older}).accepted


def test_a_status_is_stored_whole_and_shown(clusters: Clusters) -> None:
    assert clusters.create(VALID, "shown", dry_run=False).accepted
    answer = clusters.write_status("shown", status("8.1.4"))
    assert answer.accepted, answer
    assert answer.body["status"] == status("8.1.4")
    row = clusters.server.kubectl("get", "cc", "shown", "-n", NAMESPACE, "-o", "wide").splitlines()[1]
    assert row.split()[5:7] == ["2/2", "ClusterReady"]
    assert row.endswith("1 shards serve all slots")


def test_a_spec_edit_leaves_the_status_alone(clusters: Clusters) -> None:
    assert clusters.create(VALID, "separate", dry_run=False).accepted
    assert clusters.write_status("separate", status("8.1.4")).accepted
    body = {**clusters.get("separate"), "status": {}}
    answer = clusters.server.call("PUT", f"{clusters.path}/separate", body)
    assert answer.body["status"] == status("8.1.4")


def test_mode_and_class_of_volumes_are_fixed(clusters: Clusters, least: str) -> None:
    answer = clusters.edit(least, {**VALID, "persistence": {"mode": "Snapshot", "size": "8Gi"}})
    assert answer.code == 422, answer
    assert [cause[0] for cause in answer.causes] == ["spec.persistence"]
    assert "only its size can grow" in str(answer)
    assert "create a new CacheCluster" in str(answer)


def test_volumes_grow_and_shrink_only_to_what_they_have(clusters: Clusters) -> None:
    def sized(size: str) -> dict[str, Any]:
        return {**VALID, "persistence": {"mode": "Snapshot", "size": size}}

    assert clusters.create(sized("2Gi"), "sized", dry_run=False).accepted
    assert clusters.edit("sized", sized("1Gi")).accepted  # there are no volumes yet
    effective = {**status("8.1.4")["effective"], "volumeSize": "2Gi"}
    assert clusters.write_status("sized", {**status("8.1.4"), "effective": effective}).accepted
    answer = clusters.edit("sized", sized("1Gi"))
    assert answer.code == 422
    assert answer.causes[0][0] == "spec.persistence.size"
    assert "volumes cannot shrink" in str(answer)
    assert clusters.edit("sized", sized("2048Mi")).accepted
    assert clusters.edit("sized", sized("8Gi"), dry_run=False).accepted
    assert clusters.edit("sized", sized("2Gi")).accepted, "growth that has not come about can be taken back"
    assert clusters.edit("sized", sized("2047Mi")).code == 422
