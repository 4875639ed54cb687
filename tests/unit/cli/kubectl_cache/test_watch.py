"""How far a cluster is: what counts as arrived, and how it looks on a terminal and elsewhere."""

import json
from dataclasses import replace
from typing import Any

import pytest
import yaml

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.progress import Progress, measure
from cachecluster.cli.kubectl_cache.session import Problem
from cachecluster.cli.kubectl_cache.watch import watch
from cachecluster.kube.api import Unavailable
from tests.unit.cli.kubectl_cache.shelf import Desk, Obj, Shelf, body_of, pod_of, pods_of, set_of
from tests.unit.domain.building import NOW, Cluster, blank, formed

SETS = [set_of(shard) for shard in range(3)]


def seen(cluster: Cluster, pods: list[Obj] | None = None, sets: list[Obj] = SETS, **annotations: str) -> Progress:
    body = body_of(cluster)
    body["metadata"]["annotations"] = annotations
    return measure(body, sets, pods_of(cluster) if pods is None else pods)


def rolling() -> Cluster:
    """Complete before, now on its way to another template."""
    before = body_of(formed())["status"]
    return replace(formed(), template="t2", update="rev-t2", more={"status": before})


def test_a_converged_cluster_has_arrived() -> None:
    assert seen(formed()).settled


def test_formation_counts_ready_nodes() -> None:
    found = seen(blank(), pods_of(blank())[:4])
    assert (found.done, found.total, found.unit, found.settled) == (4, 6, "nodes ready", False)
    assert found.line().startswith("[#############-------] 4/6 nodes ready  Forming: ")


def test_a_roll_counts_pods_that_are_replaced_and_ready() -> None:
    pods = [*pods_of(formed())[:3], pod_of("cart-1-1", revision="rev-t2"), pod_of("cart-2-0", revision="rev-t2")]
    pods.append(pod_of("cart-2-1", revision="rev-t2", ready=False))
    found = seen(rolling(), pods, [set_of(shard, "rev-t2") for shard in range(3)])
    assert (found.done, found.total, found.unit, found.settled) == (2, 6, "pods replaced", False)


def test_a_restart_that_the_operator_has_not_seen_is_under_way() -> None:
    asked: dict[str, Any] = {names.ANNOTATION_RESTARTED: "noon"}
    found = seen(formed(), **asked)
    assert (found.done, found.unit, found.settled) == (0, "pods replaced", False)
    assert seen(formed(), pods_of(formed(), restart="noon"), **asked).settled


def test_a_failover_that_is_not_confirmed_is_under_way() -> None:
    asked: dict[str, Any] = {names.ANNOTATION_FAILOVER: "cart-0-0"}
    assert not seen(formed(), **asked).settled


@pytest.mark.parametrize("kind", ["Ready", "Reconciling", "Stalled", "RolledOut"])
def test_every_condition_counts(kind: str) -> None:
    body = body_of(formed())
    [found] = [c for c in body["status"]["conditions"] if c["type"] == kind]
    found["status"] = {"True": "False", "False": "True"}[found["status"]]
    assert not measure(body, SETS, pods_of(formed())).settled


def test_a_status_of_an_older_spec_does_not_count() -> None:
    body = body_of(formed())
    body["metadata"]["generation"] = 4
    assert not measure(body, SETS, pods_of(formed())).settled


def test_a_cluster_without_a_status_is_at_its_start() -> None:
    found = measure(body_of(blank(), status={}), [], [])
    assert (found.done, found.total) == (0, 6)


def arriving(at_read: int = 3) -> Shelf:
    """Forms just before the n-th look."""
    shelf = Shelf(body_of(blank()), Pod=pods_of(formed()), StatefulSet=SETS)

    def meanwhile(read: int) -> None:
        if read == at_read:
            shelf.clusters["cart"] = body_of(formed())

    shelf.before_read = meanwhile
    return shelf


async def test_lines_come_when_something_changes_and_it_ends_on_arrival() -> None:
    desk = Desk(arriving(9))
    assert await watch(desk.session, "cart", forever=False, seconds=None) == 0
    first, second, last = desk.text.splitlines()
    assert first.startswith("[####################] 6/6 nodes ready  Forming:")
    assert second == "[####################] 6/6 nodes ready  ClusterReady: 3 shards serve all slots"
    assert last == "cart has arrived after 4s. ClusterReady: 3 shards serve all slots"


async def test_on_a_terminal_one_line_is_replaced() -> None:
    desk = Desk(arriving(), live=True)
    await watch(desk.session, "cart", forever=False, seconds=None)
    assert desk.text.count("\n") == 1
    assert desk.text.count("\r\x1b[2K") == 3
    assert desk.text.endswith("\x1b[2Kcart has arrived after 1s. ClusterReady: 3 shards serve all slots\n")


async def test_programs_get_a_document_for_each_change() -> None:
    desk = Desk(arriving(), "json")
    await watch(desk.session, "cart", forever=False, seconds=None)
    assert [json.loads(line)["settled"] for line in desk.text.splitlines()] == [False, True]
    desk = Desk(arriving(), "yaml")
    await watch(desk.session, "cart", forever=False, seconds=None)
    assert [document["settled"] for document in yaml.safe_load_all(desk.text)] == [False, True]


async def test_a_time_out_says_where_it_stands() -> None:
    desk = Desk(Shelf(body_of(blank()), Pod=pods_of(blank()), StatefulSet=SETS))
    with pytest.raises(Problem, match=r"cart has not arrived within 30 s\. Forming"):
        await watch(desk.session, "cart", forever=False, seconds=30)
    assert 30 <= desk.time - NOW < 31


async def test_forever_goes_on_after_arrival() -> None:
    desk = Desk(arriving(1))
    with pytest.raises(Problem):
        await watch(desk.session, "cart", forever=True, seconds=30)


async def test_a_silent_api_server_is_waited_out_but_not_at_the_start() -> None:
    shelf = arriving(4)
    scripted = shelf.before_read

    def meanwhile(read: int) -> None:
        if read == 2:
            raise Unavailable("no answer within 15 s")
        scripted(read)

    shelf.before_read = meanwhile
    desk = Desk(shelf)
    assert await watch(desk.session, "cart", forever=False, seconds=None) == 0
    assert "waiting for the API server: no answer within 15 s" in desk.text
    shelf = Shelf()
    shelf.refuses[names.KIND] = Unavailable("connection refused")
    with pytest.raises(Unavailable):
        await watch(Desk(shelf).session, "cart", forever=False, seconds=None)


async def test_a_cluster_that_is_deleted_meanwhile_ends_it() -> None:
    shelf = Shelf(body_of(blank()), Pod=[], StatefulSet=[])
    shelf.before_read = lambda read: shelf.clusters.clear() if read == 2 else None
    with pytest.raises(Problem, match="no CacheCluster cart"):
        await watch(Desk(shelf).session, "cart", forever=False, seconds=None)
