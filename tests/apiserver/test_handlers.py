"""The handlers under Kopf against a real API server."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.kube.api import NotFound, Unavailable
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials
from tests.apiserver.operating import (
    PATIENCE,
    delete_cluster,
    eventually,
    pod,
    running,
    system_secret,
    turns,
    until_gone_or,
    volume_claim,
    wake_by_child,
)
from tests.apiserver.server import ApiServer


@pytest.fixture
def cluster(server: ApiServer, cluster: dict[str, Any]) -> dict[str, Any]:
    """A CacheCluster in a namespace of its own, which has the same name; not yet created."""
    name = cluster["metadata"]["name"]
    assert server.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).accepted
    return {**cluster, "metadata": {"name": name, "namespace": name}}


@pytest.fixture
async def kube(credentials: Credentials) -> AsyncIterator[KubeClient]:
    async with KubeClient(credentials) as client:
        yield client


async def test_a_cluster_gets_a_finalizer_and_no_annotation(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        await operator.settled(name, kube)
        found = await kube.get(names.API_VERSION, names.KIND, name, name)
        assert found["metadata"]["finalizers"] == [names.FINALIZER]
        assert "annotations" not in found["metadata"]


async def test_the_steady_state_writes_nothing(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        await operator.settled(name, kube)
        before = await kube.get(names.API_VERSION, names.KIND, name, name)
        for n in range(5):
            await wake_by_child(operator, name, kube, n)
        after = await kube.get(names.API_VERSION, names.KIND, name, name)
    async with running(name, credentials, kube) as operator:  # a restart writes nothing either
        await operator.until(lambda: operator.passes.get(name, 0) > 0)
        await wake_by_child(operator, name, kube, 5)
        restarted = await kube.get(names.API_VERSION, names.KIND, name, name)
    versions = {o["metadata"]["resourceVersion"] for o in (before, after, restarted)}
    assert len(versions) == 1


async def test_a_child_that_is_created_edited_or_deleted_wakes_its_cluster(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        await operator.settled(name, kube)
        await wake_by_child(operator, name, kube, 1)
        uid = await wake_by_child(operator, name, kube, 2)
        count = operator.passes[name]
        await kube.delete("v1", "ConfigMap", name, f"{name}-child", uid=uid, resource_version=None)
        await operator.until(lambda: operator.passes[name] > count)


async def test_a_child_that_loses_its_label_wakes_its_cluster(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        await operator.settled(name, kube)
        await wake_by_child(operator, name, kube, 1)
        count = operator.passes[name]
        unlabelled = {"metadata": {"labels": {names.LABEL_MANAGED_BY: None}}}
        await kube.merge_patch("v1", "ConfigMap", name, f"{name}-child", unlabelled)
        await operator.until(lambda: operator.passes[name] > count)


async def test_our_own_status_writes_wake_nobody(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        count = await operator.settled(name, kube)
        for status in ("True", "False"):
            await operator.sees_status(name, kube, status)
        assert operator.passes[name] == count


async def test_an_edited_spec_wakes_its_cluster(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        count = await operator.settled(name, kube)
        await kube.merge_patch(names.API_VERSION, names.KIND, name, name, {"spec": {"paused": True}})
        await operator.until(lambda: operator.passes[name] > count)


async def test_a_node_wakes_the_clusters_on_it_but_its_heartbeat_nobody(
    server: ApiServer, credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    server.call("POST", f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    ours, other = f"ours-{name}", f"other-{name}"
    for node in (ours, other):
        await kube.create({"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}})
    async with running(name, credentials, kube) as operator:
        await kube.create(cluster)
        count = await operator.settled(name, kube)
        await kube.create(pod(name, ours))
        await operator.until(lambda: operator.passes[name] > count)
        await turns()
        count = operator.passes[name]
        await kube.merge_patch("v1", "Node", "", ours, {"metadata": {"annotations": {"heartbeat": "1"}}})
        await kube.merge_patch("v1", "Node", "", other, {"spec": {"unschedulable": True}})
        await eventually(lambda: not operator.hosts.hosts()[other].schedulable)
        await turns()
        assert operator.passes[name] == count
        await kube.merge_patch("v1", "Node", "", ours, {"spec": {"unschedulable": True}})
        await operator.until(lambda: operator.passes[name] > count)


async def test_a_deleted_cluster_is_torn_down_and_gone_at_once(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        created = await kube.create(cluster)
        await kube.create(system_secret(created))
        await operator.settled(name, kube)
        await delete_cluster(kube, created)
        await until_gone_or(kube, name, lambda o: o is None)
        assert name in operator.torn_down
        secret = await kube.get("v1", "Secret", name, names.system_secret(name))
        assert "finalizers" not in secret["metadata"]


async def test_a_cluster_deleted_while_no_operator_ran_is_torn_down_at_the_next_start(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        created = await kube.create(cluster)
        await kube.create(system_secret(created))
        await operator.settled(name, kube)
    await delete_cluster(kube, created)
    async with running(name, credentials, kube) as operator:
        await until_gone_or(kube, name, lambda o: o is None)
        assert name in operator.torn_down


@pytest.mark.parametrize("deleted_while_it_runs", [True, False])
async def test_an_operator_that_leaves_before_a_teardown_has_worked_does_not_let_the_cluster_go(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any], deleted_while_it_runs: bool
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube, no_teardown=True) as operator:
        created = await kube.create(cluster)
        await operator.settled(name, kube)
        if deleted_while_it_runs:
            await delete_cluster(kube, created)
            await operator.until(lambda: bool(operator.refused))
    if not deleted_while_it_runs:
        await delete_cluster(kube, created)
        async with running(name, credentials, kube, no_teardown=True) as operator:
            await operator.until(lambda: bool(operator.refused))
    await kube.get(names.API_VERSION, names.KIND, name, name)
    async with running(name, credentials, kube) as operator:
        await until_gone_or(kube, name, lambda o: o is None)
        assert name in operator.torn_down


@pytest.mark.parametrize(("policy", "goes"), [("Delete", True), ("Retain", False)])
async def test_s6_volumes_go_only_at_the_word_of_the_deleted_cluster(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any], policy: str, goes: bool
) -> None:
    name = cluster["metadata"]["name"]
    spec = {**cluster["spec"], "persistence": {"mode": "AppendOnly", "size": "1Gi"}, "deletionPolicy": policy}
    async with running(name, credentials, kube) as operator:
        created = await kube.create({**cluster, "spec": spec})
        volume = await kube.create(volume_claim(created))
        await operator.settled(name, kube)
        await delete_cluster(kube, created)
        await until_gone_or(kube, name, lambda o: o is None)
        left = await kube.list("v1", "PersistentVolumeClaim", name)
        kept = [c["metadata"]["uid"] for c in left if "deletionTimestamp" not in c["metadata"]]
        assert kept == ([] if goes else [volume["metadata"]["uid"]])


async def test_the_secret_of_a_cluster_whose_finalizer_was_forced_off_is_let_go(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    created = await kube.create(cluster)  # no operator, so no finalizer
    secret = (await kube.create(system_secret(created)))["metadata"]
    await delete_cluster(kube, created)
    await kube.delete("v1", "Secret", name, secret["name"], uid=secret["uid"], resource_version=None)
    async with running(name, credentials, kube) as operator:
        await operator.until(lambda: name in operator.torn_down)
        with pytest.raises(NotFound):
            await kube.get("v1", "Secret", name, secret["name"])


async def test_a_cluster_without_finalizer_that_vanishes_leaves_no_task_behind(
    credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    async with running(name, credentials, kube) as operator:
        created = await kube.create(cluster)
        await operator.settled(name, kube)
        await kube.merge_patch(
            names.API_VERSION,
            names.KIND,
            name,
            name,
            {"metadata": {"finalizers": None, "uid": created["metadata"]["uid"]}},
        )
        await delete_cluster(kube, created)
        await operator.until(lambda: name in operator.torn_down)


async def test_news_that_come_while_the_operator_leaves_start_nothing(
    server: ApiServer, credentials: Credentials, kube: KubeClient, cluster: dict[str, Any]
) -> None:
    name = cluster["metadata"]["name"]
    path = f"/apis/{names.API_VERSION}/namespaces/{name}/{names.PLURAL}/{name}"
    async with running(
        name, credentials, kube, leaves_within=5.0
    ) as operator:  # so long Kopf waits for what it started
        await kube.create(cluster)
        await operator.settled(name, kube)
        for n in range(50):  # no await before the operator is told to leave: it finds the events and that together
            label = {"metadata": {"labels": {"n": str(n)}}}
            assert server.call("PATCH", path, label, content_type="application/merge-patch+json").accepted


async def test_expired_credentials_are_waited_out_until_there_are_new_ones(
    server: ApiServer, kube: KubeClient, cluster: dict[str, Any], tmp_path: Path
) -> None:
    name = cluster["metadata"]["name"]
    given = make_token(server, name, "first")
    write_kubeconfig(server.kubeconfig, tmp_path / "ours", given)
    write_kubeconfig(server.kubeconfig, tmp_path / "expired", given)
    ours, expired = Credentials(str(tmp_path / "ours")), Credentials(str(tmp_path / "expired"))
    async with KubeClient(ours) as own, KubeClient(expired) as probe, running(name, ours, own) as operator:
        assert server.call("DELETE", f"/api/v1/namespaces/{name}/secrets/first").accepted
        async with asyncio.timeout(PATIENCE):  # the API server remembers a good token for some seconds
            while not await refused(probe, name):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        await kube.create(cluster)
        await operator.until(lambda: operator.passes.get(name, 0) > 0)
        write_kubeconfig(server.kubeconfig, tmp_path / "ours", make_token(server, name, "second"))
        await until_gone_or(
            kube, name, lambda o: o is not None and names.FINALIZER in o["metadata"].get("finalizers", ())
        )


async def refused(kube: KubeClient, namespace: str) -> bool:
    try:
        await kube.list("v1", "ConfigMap", namespace)
    except Unavailable as error:
        assert "credentials are not accepted" in str(error)  # noqa: PT017 - only this refusal counts
        return True
    return False


def make_token(server: ApiServer, namespace: str, name: str) -> str:
    """A token of an almighty account that is good as long as a Secret exists."""
    account = f"/api/v1/namespaces/{namespace}/serviceaccounts"
    server.call("POST", account, {"metadata": {"name": "operator"}})
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"}
    binding = {"metadata": {"name": namespace}, "roleRef": role, "subjects": [subject]}
    server.call("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding)
    secret = server.call("POST", f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": name}})
    bound = {"kind": "Secret", "apiVersion": "v1", "name": name, "uid": secret.body["metadata"]["uid"]}
    answer = server.call("POST", f"{account}/operator/token", {"spec": {"boundObjectRef": bound}})
    assert answer.accepted, answer
    return str(answer.body["status"]["token"])


def write_kubeconfig(source: Path, target: Path, token: str) -> None:
    config = json.loads(source.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    target.write_text(json.dumps(config))
