"""Asking for a failover or a restart: what is written, what is waited for, what is said."""

import json

import pytest

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.requests import failover, restart
from cachecluster.cli.kubectl_cache.session import Problem
from cachecluster.kube.api import Conflict, Unavailable
from tests.unit.cli.kubectl_cache.shelf import Desk, Obj, Shelf, body_of
from tests.unit.domain.building import NOW, formed

MOMENT = "1970-01-12T13:46:40Z"
REQUEST = f"cart-1-0@{MOMENT}"


def answered(shelf: Shelf, at_read: int) -> None:
    """The operator carries the request out just before the n-th read."""

    def meanwhile(read: int) -> None:
        if read == at_read:
            body = shelf.clusters["cart"]
            shard = body["status"]["shards"][1]
            primary = {"pod": "cart-1-1", "zone": "c"}
            shards = [*body["status"]["shards"]]
            shards[1] = {**shard, "primary": primary}
            shelf.clusters["cart"] = {
                **body,
                "metadata": {**body["metadata"], "resourceVersion": "2"},
                "status": {**body["status"], "shards": shards, "lastHandledFailover": REQUEST},
            }

    shelf.before_read = meanwhile


def annotation(shelf: Shelf, key: str) -> str | None:
    value: str | None = shelf.clusters["cart"]["metadata"].get("annotations", {}).get(key)
    return value


@pytest.mark.parametrize("shard", ["1", "cart-1"])
async def test_failover_names_the_primary_and_reports_who_leads_now(shard: str) -> None:
    shelf = Shelf(body_of(formed()))
    answered(shelf, 3)
    desk = Desk(shelf)
    assert await failover(desk.session, "cart", shard, 60) == 0
    assert annotation(shelf, names.ANNOTATION_FAILOVER) == REQUEST
    assert desk.text.splitlines()[-1] == "cart-1: cart-1-1 leads, cart-1-0 has handed over"
    assert shelf.patches[0]["metadata"]["uid"] == "uid-cart"


async def test_failover_for_programs_is_one_document() -> None:
    shelf = Shelf(body_of(formed()))
    answered(shelf, 4)
    desk = Desk(shelf, "json")
    await failover(desk.session, "cart", "1", 60)
    found = json.loads(desk.text)
    assert (found["shard"], found["from"], found["to"], found["request"]) == ("cart-1", "cart-1-0", "cart-1-1", REQUEST)


async def test_failover_that_does_not_come_to_pass_is_taken_back() -> None:
    shelf = Shelf(body_of(formed()))
    desk = Desk(shelf)
    with pytest.raises(Problem, match=r"within 20 s, and the request is taken back\. ClusterReady: 3 shards"):
        await failover(desk.session, "cart", "1", 20)
    assert annotation(shelf, names.ANNOTATION_FAILOVER) is None
    assert 20 <= desk.time - NOW < 22


async def test_failover_that_comes_to_pass_while_it_is_taken_back_counts() -> None:
    shelf = Shelf(body_of(formed()))
    answered(shelf, 4)  # after reads before, and at, the time-out
    desk = Desk(shelf)
    assert await failover(desk.session, "cart", "1", 1) == 0
    assert len(shelf.patches) == 1


async def test_somebody_elses_newer_request_is_not_taken_back() -> None:
    shelf = Shelf(body_of(formed()))

    def meanwhile(read: int) -> None:
        if read == 2:
            shelf.clusters["cart"]["metadata"]["annotations"][names.ANNOTATION_FAILOVER] = "cart-0-0@other"

    shelf.before_read = meanwhile
    with pytest.raises(Problem):
        await failover(Desk(shelf).session, "cart", "1", 2)
    assert annotation(shelf, names.ANNOTATION_FAILOVER) == "cart-0-0@other"


async def test_silence_of_the_api_server_is_waited_out() -> None:
    shelf = Shelf(body_of(formed()))
    answered(shelf, 3)
    scripted = shelf.before_read

    def meanwhile(read: int) -> None:
        if read == 2:
            raise Unavailable("no answer within 15 s")
        scripted(read)

    shelf.before_read = meanwhile
    assert await failover(Desk(shelf).session, "cart", "1", 60) == 0


def without_primary(body: Obj) -> None:
    del body["status"]["shards"][1]["primary"]


def without_replicas(body: Obj) -> None:
    body["status"]["shards"][1]["replicas"] = []


def paused(body: Obj) -> None:
    body["spec"]["paused"] = True


@pytest.mark.parametrize(
    ("change", "shard", "message"),
    [
        (lambda _: None, "7", "cart has no shard 7: its shards are cart-0, cart-1, cart-2"),
        (lambda _: None, "cart-1-0", "cart has no shard cart-1-0: its shards are"),
        (lambda body: body.update(status={}), "0", "the operator has not reported any yet"),
        (without_primary, "1", "cart-1 has no primary that could hand over"),
        (without_replicas, "1", "cart-1 has no replica that could take over"),
        (paused, "1", "cart is paused"),
    ],
)
async def test_a_failover_that_cannot_be_is_refused_before_anything_is_written(
    change: object, shard: str, message: str
) -> None:
    body = body_of(formed())
    assert callable(change)
    change(body)
    shelf = Shelf(body)
    with pytest.raises(Problem, match=message):
        await failover(Desk(shelf).session, "cart", shard, 60)
    assert not shelf.patches


async def test_restart_writes_the_moment_and_says_how_to_follow() -> None:
    shelf = Shelf(body_of(formed()))
    desk = Desk(shelf)
    assert await restart(desk.session, "cart") == 0
    assert annotation(shelf, names.ANNOTATION_RESTARTED) == MOMENT
    assert "kubectl cache watch -n shop cart" in desk.text
    assert "paused" not in desk.text


async def test_restart_of_a_paused_cluster_says_that_nothing_happens_yet() -> None:
    body = body_of(formed())
    paused(body)
    desk = Desk(Shelf(body), "text")
    await restart(desk.session, "cart")
    assert "spec.paused" in desk.text


async def test_an_unknown_cluster_is_said_with_those_that_there_are() -> None:
    with pytest.raises(Problem, match="no CacheCluster card in namespace shop: there are cart"):
        await restart(Desk(Shelf(body_of(formed()))).session, "card")
    with pytest.raises(Problem, match="no CacheCluster cart in namespace shop: there is none"):
        await restart(Desk(Shelf()).session, "cart")


async def test_another_cluster_of_the_same_name_is_not_asked() -> None:
    shelf = Shelf(body_of(formed()))

    def recreated(_: int) -> None:
        body = body_of(formed())
        body["metadata"]["uid"] = "uid-new"
        shelf.clusters = {"cart": body}

    body = await Desk(shelf).session.cluster("cart")
    recreated(0)
    with pytest.raises(Conflict):
        await Desk(shelf).session.annotate(body, names.ANNOTATION_RESTARTED, MOMENT)
