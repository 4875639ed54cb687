"""The failovers that people read, word for word."""

import json
from typing import Any

import yaml

from cachecluster.cli.kubectl_cache.failovers import failovers
from cachecluster.domain.status import derive
from tests.unit.cli.kubectl_cache.shelf import Desk, Obj, Shelf, body_of
from tests.unit.domain.building import NOW, Cluster, formed
from tests.unit.domain.test_death import killed
from tests.unit.domain.test_failovers import after, led_by_the_heir, promoted

TOLD = """\
cart in shop: 2 failovers, newest first

cart-0: cart-0-1 took the place of cart-0-0 2m ago, no writes for 150 ms
  ProcessEnded: the process in cart-0-0 has ended (it closed its connections to the operator and to a replica; nobody \
listens there any more)
  seen       1970-01-12T13:46:39.900Z
  confirmed  1970-01-12T13:46:40.020Z  +120 ms
  promoted   1970-01-12T13:46:40.050Z  +30 ms   by the operator
  writable   1970-01-12T13:46:40.050Z  +0 ms

cart-0: cart-0-1 took the place of cart-0-0 2m ago
  MarkedFailed: the other nodes have marked cart-0-0 as failed
  seen       not known
  confirmed  not known
  promoted   not known                 by the nodes themselves
  writable   1970-01-12T13:46:40.000Z
"""


def with_failovers(cluster: Cluster) -> Obj:
    """The cluster as its operator has left it: it looked on once, and acted once."""
    looked_on = after(led_by_the_heir().snapshot(), chronicle=after(formed().snapshot()))
    snap, plan, outcome, _ = promoted(killed())
    status = derive(snap, plan, (outcome,), chronicle=after(snap, outcome, chronicle=looked_on)).to_json()
    body = body_of(cluster)
    return {**body, "status": {**body["status"], "failovers": status["failovers"]}}


async def shown(shelf: Shelf, name: str | None = "cart", **how: Any) -> str:
    desk = Desk(shelf, **how)
    desk.time = NOW + 150
    assert await failovers(desk.session, name) == 0
    return desk.text


async def test_each_failover_has_its_steps_and_what_lay_between_them() -> None:
    assert await shown(Shelf(with_failovers(formed()))) == TOLD


async def test_a_cluster_that_never_lost_a_primary_says_so() -> None:
    assert await shown(Shelf(body_of(formed()))) == "cart in shop: no failover is known\n"
    assert await shown(Shelf(body_of(formed(), status={}))) == "cart in shop: no failover is known\n"


async def test_all_clusters_of_a_namespace_come_one_after_the_other() -> None:
    other = body_of(formed())
    other["metadata"] = {**other["metadata"], "name": "basket"}
    text = await shown(Shelf(with_failovers(formed()), other), None)
    assert text == f"basket in shop: no failover is known\n\n{TOLD}"
    assert await shown(Shelf(), None) == "no CacheCluster in namespace shop\n"


async def test_programs_get_what_the_status_has() -> None:
    body = with_failovers(formed())
    expected = {"namespace": "shop", "name": "cart", "failovers": body["status"]["failovers"]}
    assert json.loads(await shown(Shelf(body), form="json")) == expected
    assert yaml.safe_load(await shown(Shelf(body), None, form="yaml")) == [expected]


async def test_colours_change_no_word() -> None:
    coloured = await shown(Shelf(with_failovers(formed())), colour=True)
    assert "\x1b[31mno writes for 150 ms\x1b[0m" in coloured
    for mark in ("1", "31", "0"):
        coloured = coloured.replace(f"\x1b[{mark}m", "")
    assert coloured == TOLD


async def test_a_promoter_that_is_not_known_is_not_named() -> None:
    body = with_failovers(formed())
    body["status"]["failovers"] = [{k: v for k, v in body["status"]["failovers"][0].items() if k != "promotedBy"}]
    assert "by the" not in (await shown(Shelf(body))).partition("promoted")[2]
