"""KubeClient against a scripted HTTP server: credentials, time-outs, pages, errors."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from cachecluster.kube.api import Conflict, KubeError, NotFound, Rejected, Throttled, Unavailable
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cart", "namespace": "shop"}}
Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers each request as its script says, and remembers what was asked."""

    def __init__(self) -> None:
        self.script: Script = answering({})
        self.requests: list[tuple[str, str, Mapping[str, str], str]] = []
        self.tokens: list[str] = []
        self.port = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query), await request.text()))
        self.tokens.append(request.headers.get("Authorization", ""))
        return await self.script(request)


def answering(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Script:
    async def script(_: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status, headers=headers)

    return script


def failure(status: int, message: str = "no", reason: str = "", **details: Any) -> Script:
    body = {"kind": "Status", "status": "Failure", "message": message, "reason": reason, "details": details}
    return answering(body, status, {"Retry-After": "7"} if status == 429 else None)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    scripted = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", scripted.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.port = runner.addresses[0][1]
    yield scripted
    await runner.cleanup()


@pytest.fixture
def kubeconfig(server: Server, tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, server.port, "first")
    return path


def write_kubeconfig(path: Path, port: int, token: str) -> None:
    def context(user: str) -> dict[str, Any]:
        return {"name": user, "context": {"cluster": "c", "user": user}}

    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "main",
        "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "main", "user": {"token": token}}, {"name": "other", "user": {"token": "other-token"}}],
        "contexts": [context("main"), context("other")],
    }
    path.write_text(json.dumps(config))


@pytest.fixture
async def kube(kubeconfig: Path) -> AsyncIterator[KubeClient]:
    async with KubeClient(Credentials(str(kubeconfig)), timeout=5.0) as client:
        yield client


async def test_a_named_context_is_used_instead_of_the_current_one(server: Server, kubeconfig: Path) -> None:
    async with KubeClient(Credentials(str(kubeconfig), "other")) as client:
        await client.get("v1", "ConfigMap", "shop", "cart")
    assert server.tokens == ["Bearer other-token"]


async def test_an_expired_token_is_read_again_and_the_request_repeated(
    server: Server, kubeconfig: Path, kube: KubeClient
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        fresh = request.headers["Authorization"] == "Bearer second"
        return await (answering({"metadata": {"name": "cart"}}) if fresh else failure(401))(request)

    await kube.get("v1", "ConfigMap", "shop", "cart")
    server.script = script
    write_kubeconfig(kubeconfig, server.port, "second")
    found = await kube.get("v1", "ConfigMap", "shop", "cart")
    assert found["metadata"]["name"] == "cart"
    assert server.tokens == ["Bearer first", "Bearer first", "Bearer second"]


async def test_credentials_that_stay_refused_are_unavailable_after_two_tries(server: Server, kube: KubeClient) -> None:
    server.script = failure(401)
    with pytest.raises(Unavailable, match="credentials are not accepted"):
        await kube.get("v1", "ConfigMap", "shop", "cart")
    assert len(server.requests) == 2


async def test_without_a_kubeconfig_the_message_says_what_is_missing(tmp_path: Path) -> None:
    async with KubeClient(Credentials(str(tmp_path / "absent"))) as client:
        with pytest.raises(Unavailable, match="no credentials for the Kubernetes API"):
            await client.get("v1", "ConfigMap", "shop", "cart")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Rejected),
        (403, Rejected),
        (404, NotFound),
        (408, Unavailable),
        (409, Conflict),
        (422, Rejected),
        (429, Throttled),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
async def test_each_http_status_becomes_one_kind_of_error(
    server: Server, kube: KubeClient, status: int, error: type[KubeError]
) -> None:
    server.script = failure(status, "the reason why")
    with pytest.raises(error, match="get ConfigMap shop/cart: the reason why") as caught:
        await kube.get("v1", "ConfigMap", "shop", "cart")
    assert type(caught.value) is error


async def test_throttling_carries_the_servers_delay(server: Server, kube: KubeClient) -> None:
    server.script = failure(429)
    with pytest.raises(Throttled) as caught:
        await kube.create(CONFIG_MAP)
    assert caught.value.retry_after == 7


async def test_a_uid_that_belongs_to_another_object_is_a_conflict(server: Server, kube: KubeClient) -> None:
    server.script = failure(422, "field is immutable", causes=[{"field": "metadata.uid"}])
    with pytest.raises(Conflict):
        await kube.apply(CONFIG_MAP)


async def test_s12_an_error_about_a_secret_does_not_quote_it(server: Server, kube: KubeClient) -> None:
    server.script = failure(422, 'data: Invalid value: "hunter2"', reason="Invalid")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "shop"}}
    with pytest.raises(Rejected) as caught:
        await kube.apply(secret)
    assert str(caught.value) == "apply Secret shop/s: Invalid"


async def test_an_answer_that_is_not_json_is_unavailable(server: Server, kube: KubeClient) -> None:
    async def page(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>gateway</html>")

    server.script = page
    with pytest.raises(Unavailable, match="not JSON"):
        await kube.get("v1", "ConfigMap", "shop", "cart")


async def test_silence_is_unavailable_within_the_time_out(server: Server, kubeconfig: Path) -> None:
    never = asyncio.Event()

    async def hang(_: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    server.script = hang
    async with KubeClient(Credentials(str(kubeconfig)), timeout=0.05) as client:
        with pytest.raises(Unavailable, match="no answer within"):
            await client.get("v1", "ConfigMap", "shop", "cart")
    never.set()


async def test_a_refused_connection_is_unavailable(kubeconfig: Path) -> None:
    write_kubeconfig(kubeconfig, 1, "t")
    async with KubeClient(Credentials(str(kubeconfig))) as client:
        with pytest.raises(Unavailable, match="get ConfigMap shop/cart"):
            await client.get("v1", "ConfigMap", "shop", "cart")


async def test_no_more_requests_are_under_way_than_there_are_places(server: Server, kubeconfig: Path) -> None:
    under_way = most = 0
    four = asyncio.Event()

    async def count(_: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 4:
            four.set()
        await four.wait()
        under_way -= 1
        return web.json_response({})

    server.script = count
    async with KubeClient(Credentials(str(kubeconfig)), concurrency=4) as client:
        await asyncio.gather(*(client.get("v1", "ConfigMap", "shop", str(n)) for n in range(20)))
    assert most == 4


async def test_a_list_is_read_page_by_page_and_each_item_says_what_it_is(server: Server, kube: KubeClient) -> None:
    async def pages(request: web.Request) -> web.StreamResponse:
        second = request.query.get("continue") == "next"
        items = [{"metadata": {"name": "b" if second else "a"}}]
        return web.json_response({"metadata": {} if second else {"continue": "next"}, "items": items})

    server.script = pages
    found = await kube.list("v1", "ConfigMap", "shop", "cachecluster.dev/cluster=cart")
    assert [(i["apiVersion"], i["kind"], i["metadata"]["name"]) for i in found] == [
        ("v1", "ConfigMap", "a"),
        ("v1", "ConfigMap", "b"),
    ]
    assert [q["labelSelector"] for _, _, q, _ in server.requests] == ["cachecluster.dev/cluster=cart"] * 2
    assert not any("fieldSelector" in q for _, _, q, _ in server.requests)


async def test_events_are_selected_by_what_they_tell_of(server: Server, kube: KubeClient) -> None:
    server.script = answering({"items": []})
    assert await kube.list("v1", "Event", "shop", field_selector="reason=FailedCreate") == []
    (_, _, query, _) = server.requests[0]
    assert query["fieldSelector"] == "reason=FailedCreate"
    assert "labelSelector" not in query


async def test_a_list_that_expired_half_way_starts_again_but_not_for_ever(server: Server, kube: KubeClient) -> None:
    expiries = 1

    async def expiring(request: web.Request) -> web.StreamResponse:
        nonlocal expiries
        if "continue" not in request.query:
            return web.json_response({"metadata": {"continue": "x"}, "items": [{"metadata": {"name": "a"}}]})
        if expiries:
            expiries -= 1
            return await failure(410)(request)
        return web.json_response({"items": [{"metadata": {"name": "b"}}]})

    server.script = expiring
    assert [i["metadata"]["name"] for i in await kube.list("v1", "ConfigMap", "shop")] == ["a", "b"]
    expiries = 99
    with pytest.raises(Unavailable, match="expired 3 times"):
        await kube.list("v1", "ConfigMap", "shop")


async def test_writes_say_who_writes_and_deletes_say_what_was_seen(server: Server, kube: KubeClient) -> None:
    await kube.apply(CONFIG_MAP)
    await kube.patch_status("cachecluster.dev/v1alpha1", "CacheCluster", "shop", "cart", {"shards": []})
    await kube.delete("v1", "ConfigMap", "shop", "cart", uid="u1", resource_version="7")
    apply, status, delete = server.requests
    assert apply[:3] == (
        "PATCH",
        "/api/v1/namespaces/shop/configmaps/cart",
        {"fieldManager": "cachecluster-operator", "force": "true"},
    )
    assert status[:3] == (
        "PATCH",
        "/apis/cachecluster.dev/v1alpha1/namespaces/shop/cacheclusters/cart/status",
        {"fieldManager": "cachecluster-operator-status", "force": "true"},
    )
    assert json.loads(delete[3])["preconditions"] == {"uid": "u1", "resourceVersion": "7"}


async def test_deleting_what_is_gone_already_is_fine(server: Server, kube: KubeClient) -> None:
    server.script = failure(404)
    await kube.delete("v1", "ConfigMap", "shop", "cart", uid="u1", resource_version=None)


async def test_every_request_is_observed_with_its_outcome(server: Server, kubeconfig: Path) -> None:
    seen: list[tuple[str, str, str]] = []
    async with KubeClient(Credentials(str(kubeconfig)), observe=lambda *o: seen.append(o[:3])) as client:
        await client.get("v1", "ConfigMap", "shop", "cart")
        server.script = failure(409)
        with pytest.raises(Conflict):
            await client.create(CONFIG_MAP)
    assert seen == [("get", "ConfigMap", "ok"), ("create", "ConfigMap", "Conflict")]


async def test_a_kind_outside_the_table_is_a_programming_error(kube: KubeClient) -> None:
    with pytest.raises(ValueError, match="batch/v1 Job"):
        await kube.get("batch/v1", "Job", "shop", "x")


async def test_a_resize_names_the_container_and_the_very_pod(server: Server, kube: KubeClient) -> None:
    await kube.resize_pod("shop", "cart-0-0", "u1", "engine", {"limits": {"memory": "1Gi"}})
    method, path, _, body = server.requests[-1]
    assert (method, path) == ("PATCH", "/api/v1/namespaces/shop/pods/cart-0-0/resize")
    assert json.loads(body) == {
        "metadata": {"uid": "u1"},
        "spec": {"containers": [{"name": "engine", "resources": {"limits": {"memory": "1Gi"}}}]},
    }


@pytest.mark.parametrize(("listed", "served"), [(["pods", "pods/resize"], True), (["pods"], False), ([], False)])
async def test_what_the_api_server_can_do_is_asked(
    server: Server, kube: KubeClient, listed: list[str], served: bool
) -> None:
    server.script = answering({"kind": "APIResourceList", "resources": [{"name": name} for name in listed]})
    assert await kube.serves("v1", "pods/resize") is served
    assert server.requests[-1][:2] == ("GET", "/api/v1")


@pytest.mark.parametrize(("orphan", "policy"), [(False, "Background"), (True, "Orphan")])
async def test_a_delete_says_what_becomes_of_the_rest(
    server: Server, kube: KubeClient, orphan: bool, policy: str
) -> None:
    await kube.delete("apps/v1", "StatefulSet", "shop", "cart-0", uid="u", resource_version="7", orphan=orphan)
    sent = json.loads(server.requests[-1][3])
    assert sent["propagationPolicy"] == policy
    assert sent["preconditions"] == {"uid": "u", "resourceVersion": "7"}


async def test_a_storage_class_has_no_namespace(server: Server, kube: KubeClient) -> None:
    await kube.get("storage.k8s.io/v1", "StorageClass", "", "ssd")
    assert server.requests[-1][1] == "/apis/storage.k8s.io/v1/storageclasses/ssd"


@pytest.mark.parametrize(("seconds", "sent"), [(None, None), (0, 0), (1, 1)])
async def test_a_pod_keeps_its_own_grace_unless_another_is_asked_for(
    server: Server, kube: KubeClient, seconds: int | None, sent: int | None
) -> None:
    await kube.delete("v1", "Pod", "shop", "cart-0-0", uid="u", resource_version="7", grace_seconds=seconds)
    assert json.loads(server.requests[-1][3]).get("gracePeriodSeconds") == sent
