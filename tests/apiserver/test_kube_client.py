"""KubeClient against a real API server: preconditions, server-side apply, pages."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from cachecluster.api.status import says_the_same
from cachecluster.kube import client as client_module
from cachecluster.kube.api import Conflict, NotFound, Rejected
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials

OTHER_UID = "11111111-1111-1111-1111-111111111111"


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def kube(credentials: Credentials) -> AsyncIterator[KubeClient]:
    async with KubeClient(credentials) as client:
        yield client


def config_map(name: str, data: Mapping[str, str], **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default", **metadata},
        "data": data,
    }


async def live(kube: KubeClient, name: str) -> dict[str, Any]:
    return await kube.get("v1", "ConfigMap", "default", name)


async def test_create_refuses_to_overwrite(kube: KubeClient, name: str) -> None:
    await kube.create(config_map(name, {"a": "1"}))
    with pytest.raises(Conflict):
        await kube.create(config_map(name, {"a": "2"}))
    assert (await live(kube, name))["data"] == {"a": "1"}


async def test_apply_creates_changes_and_takes_back_only_what_we_sent(kube: KubeClient, name: str) -> None:
    await kube.apply(config_map(name, {"ours": "1", "former": "1"}))
    await kube.merge_patch("v1", "ConfigMap", "default", name, {"data": {"theirs": "1"}})
    await kube.apply(config_map(name, {"ours": "2"}))
    assert (await live(kube, name))["data"] == {"ours": "2", "theirs": "1"}


async def test_applying_the_same_again_changes_nothing(kube: KubeClient, name: str) -> None:
    first = await kube.apply(config_map(name, {"a": "1"}))
    second = await kube.apply(config_map(name, {"a": "1"}))
    assert first["metadata"]["resourceVersion"] == second["metadata"]["resourceVersion"]


async def test_apply_with_a_uid_meets_only_the_object_that_was_seen(kube: KubeClient, name: str) -> None:
    with pytest.raises(Conflict):  # not there any more: nothing is created in its place
        await kube.apply(config_map(name, {"a": "1"}, uid=OTHER_UID))
    with pytest.raises(NotFound):
        await live(kube, name)
    created = await kube.apply(config_map(name, {"a": "1"}))
    with pytest.raises(Conflict):
        await kube.apply(config_map(name, {"a": "2"}, uid=OTHER_UID))
    await kube.apply(config_map(name, {"a": "3"}, uid=created["metadata"]["uid"]))
    assert (await live(kube, name))["data"] == {"a": "3"}


async def test_merge_patch_with_a_uid_or_version_meets_only_the_object_that_was_seen(
    kube: KubeClient, name: str
) -> None:
    created = await kube.create(config_map(name, {"a": "1"}))
    for wrong in ({"uid": OTHER_UID}, {"resourceVersion": "1"}):
        with pytest.raises(Conflict):
            await kube.merge_patch("v1", "ConfigMap", "default", name, {"metadata": wrong, "data": {"a": "2"}})
    right = {"uid": created["metadata"]["uid"], "labels": {"x": "y"}}
    await kube.merge_patch("v1", "ConfigMap", "default", name, {"metadata": right})
    assert (await live(kube, name))["metadata"]["labels"] == {"x": "y"}


async def test_replace_needs_the_version_that_was_seen(kube: KubeClient, name: str) -> None:
    seen = await kube.create(config_map(name, {"a": "1"}))
    await kube.replace({**seen, "data": {"a": "2"}})
    with pytest.raises(Conflict):
        await kube.replace({**seen, "data": {"a": "3"}})
    assert (await live(kube, name))["data"] == {"a": "2"}


async def test_delete_meets_only_the_object_that_was_seen(kube: KubeClient, name: str) -> None:
    created = (await kube.create(config_map(name, {})))["metadata"]

    async def delete(uid: str, version: str | None) -> None:
        await kube.delete("v1", "ConfigMap", "default", name, uid=uid, resource_version=version)

    with pytest.raises(Conflict):
        await delete(OTHER_UID, None)
    with pytest.raises(Conflict):
        await delete(created["uid"], "1")
    await delete(created["uid"], created["resourceVersion"])
    with pytest.raises(NotFound):
        await live(kube, name)
    await delete(created["uid"], None)  # gone already


async def test_a_list_longer_than_a_page_is_whole(kube: KubeClient, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "PAGE", 3)
    await asyncio.gather(*(kube.create(config_map(f"{name}-{n}", {}, labels={"run": name})) for n in range(8)))
    found = await kube.list("v1", "ConfigMap", "default", f"run={name}")
    assert sorted(o["metadata"]["name"] for o in found) == [f"{name}-{n}" for n in range(8)]
    assert {(o["apiVersion"], o["kind"]) for o in found} == {("v1", "ConfigMap")}
    assert len(await kube.list("v1", "ConfigMap", None, f"run={name}")) == 8


async def test_a_rejected_object_names_the_field(kube: KubeClient) -> None:
    with pytest.raises(Rejected, match=r"metadata\.name"):
        await kube.create(config_map("UPPER", {}))


async def test_s12_a_rejected_secret_is_not_quoted(kube: KubeClient, name: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "default"}}
    with pytest.raises(Rejected) as caught:
        await kube.create({**secret, "data": {"password": "hunter2 is not base64"}})
    assert "hunter2" not in str(caught.value)


async def test_what_is_not_there_is_not_found(kube: KubeClient, name: str) -> None:
    with pytest.raises(NotFound):
        await live(kube, name)
    with pytest.raises(NotFound):
        await kube.create({**config_map(name, {}), "metadata": {"name": name, "namespace": "nowhere"}})


async def test_status_is_written_apart_from_the_spec(kube: KubeClient, cluster: Mapping[str, Any]) -> None:
    metadata = (await kube.create(cluster))["metadata"]
    where = ("cachecluster.dev/v1alpha1", "CacheCluster", metadata["namespace"], metadata["name"])
    written = await kube.patch_status(*where, {"observedGeneration": 1})
    assert written["status"] == {"observedGeneration": 1}
    assert written["metadata"]["generation"] == metadata["generation"]
    again = await kube.patch_status(*where, {"observedGeneration": 1})
    assert again["metadata"]["resourceVersion"] == written["metadata"]["resourceVersion"]
    shard = {"name": "cart-0", "slots": "", "replicas": [{"pod": "cart-0-1", "synced": True}]}
    full = {"observedGeneration": 1, "pendingModifications": ["resources"], "logGaps": [], "shards": [shard]}
    assert (await kube.patch_status(*where, full))["status"] == full
    emptied = {
        "observedGeneration": 1,
        "pendingModifications": [],
        "logGaps": [],
        "shards": [{**shard, "replicas": []}],
    }
    kept = (await kube.patch_status(*where, emptied))["status"]
    assert kept != emptied, "says_the_same can go"
    assert says_the_same(kept, emptied)
    assert not says_the_same(kept, full)
    with pytest.raises(NotFound):
        await kube.patch_status(*where[:3], "another", {"observedGeneration": 1})
