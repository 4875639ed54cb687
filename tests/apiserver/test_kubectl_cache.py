"""``kubectl cache`` against a real API server: who is noted as the writer, and what people read who may not."""

import contextlib
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.cli.kubectl_cache import main
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials
from tests.apiserver.conftest import Clusters


@pytest.fixture
async def created(credentials: Credentials, cluster: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """A CacheCluster that no operator looks after, with a shard in its status."""
    async with KubeClient(credentials) as kube:
        made = await kube.create(cluster)
        name = made["metadata"]["name"]
        shard = {"name": f"{name}-0", "slots": "0-16383", "primary": {"pod": f"{name}-0-0"}}
        status = {"shards": [{**shard, "replicas": [{"pod": f"{name}-0-1", "synced": True}]}]}
        await kube.patch_status(names.API_VERSION, names.KIND, "default", name, status)
        yield made
        with contextlib.suppress(Exception):
            uid = made["metadata"]["uid"]
            await kube.delete(names.API_VERSION, names.KIND, "default", name, uid=uid, resource_version=None)


def run(clusters: Clusters, *arguments: str) -> tuple[int, str]:
    out = io.StringIO()
    return main([*arguments, "--kubeconfig", str(clusters.server.kubeconfig)], out), out.getvalue()


def read(clusters: Clusters, name: str) -> dict[str, Any]:
    path = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}/{name}"
    return clusters.server.call("GET", path).body


def test_a_restart_is_written_under_the_commands_own_name(clusters: Clusters, created: dict[str, Any]) -> None:
    name = created["metadata"]["name"]
    code, text = run(clusters, "restart", name, "-o", "json")
    assert code == 0
    metadata = read(clusters, name)["metadata"]
    assert metadata["annotations"][names.ANNOTATION_RESTARTED] == json.loads(text)["restartedAt"]
    assert "kubectl-cache" in {entry["manager"] for entry in metadata["managedFields"]}
    assert metadata["generation"] == created["metadata"]["generation"]


def test_a_failover_that_nobody_carries_out_leaves_nothing_behind(
    clusters: Clusters, created: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    name = created["metadata"]["name"]
    assert run(clusters, "failover", name, "0", "--timeout", "1s")[0] == 1
    assert f"{name}-0-0 has not handed over within 1 s, and the request is taken back" in capsys.readouterr().err
    assert names.ANNOTATION_FAILOVER not in read(clusters, name)["metadata"].get("annotations", {})


def test_the_status_can_confirm_a_failover(clusters: Clusters, created: dict[str, Any]) -> None:
    path = f"/apis/{names.API_VERSION}/namespaces/default/{names.PLURAL}/{created['metadata']['name']}/status"
    body = {**read(clusters, created["metadata"]["name"])}
    body["status"] = {**body["status"], "lastHandledFailover": "cart-0-0@now"}
    assert clusters.server.call("PUT", path + "?fieldValidation=Strict", body).accepted


def test_an_unknown_cluster_is_said(clusters: Clusters, capsys: pytest.CaptureFixture[str]) -> None:
    assert clusters
    assert run(clusters, "status", "card", "-n", "default")[0] == 1
    assert capsys.readouterr().err.startswith("error: no CacheCluster card in namespace default")


def test_who_has_no_rights_reads_which_one_is_missing(
    clusters: Clusters, created: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> None:
    account = {"metadata": {"name": "visitor"}}
    clusters.server.call("POST", "/api/v1/namespaces/default/serviceaccounts", account)
    config = json.loads(clusters.server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": clusters.server.kubectl("create", "token", "visitor").strip()}
    (tmp_path / "config").write_text(json.dumps(config))
    assert main(["restart", created["metadata"]["name"], "--kubeconfig", str(tmp_path / "config")], io.StringIO()) == 1
    told = capsys.readouterr().err
    assert 'cannot get resource "cacheclusters"' in told
    assert told.count("\n") == 1
