"""The picture that people read, word for word."""

import json
from dataclasses import replace
from typing import Any

import yaml

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.status import status
from cachecluster.kube.api import Rejected
from tests.unit.cli.kubectl_cache.shelf import Desk, Shelf, body_of, pods_of
from tests.unit.domain.building import Cluster, blank, formed
from tests.unit.domain.losing import WAIT, without

HEALTHY = """\
cart in shop: Valkey 8.1.1, 3 shards of 2 nodes, 6/6 ready
ClusterReady: 3 shards serve all slots

SHARD   SLOTS        NODE      ROLE     ZONE  STATE
cart-0  0-5460       cart-0-0  primary  a     leads
                     cart-0-1  replica  b     in step
cart-1  5461-10921   cart-1-0  primary  b     leads
                     cart-1-1  replica  c     in step
cart-2  10922-16383  cart-2-0  primary  c     leads
                     cart-2-1  replica  a     in step

Connect: cart.shop.svc:6379, with the keys of Secret cart-connection
"""

WEAK = """\
cart in shop: Valkey 8.1.1, 3 shards of 2 nodes, 5/6 ready
SyncingReplica: shard 1: cart-1-1 is syncing from cart-1-0

SHARD   SLOTS        NODE      ROLE     ZONE  STATE
cart-0  0-5460       cart-0-0  primary  a     leads
                     cart-0-1  replica  b     in step
cart-1  5461-10921   cart-1-0  primary  b     leads
                     cart-1-1  replica  c     behind, pod is not ready
cart-2  10922-16383  cart-2-0  primary  c     leads
                     cart-2-1  replica  a     in step, pod is gone

Not as it should be:
  Ready is False for 2m (SyncingReplica): every slot is served; replicas are still on their way
  Reconciling is True for 2m (SyncingReplica): as said above
  Degraded is True for 2m (NoSyncedReplica): shard 1: cart-1-1 is not in step with cart-1-0

Connect: cart.shop.svc:6379, with the keys of Secret cart-connection
"""

UNSEEN = """\
cart in shop: Valkey 8.1, 3 shards of 2 nodes
the operator has not reported on it yet
Is the operator running? kubectl get deployments -A -l app.kubernetes.io/name=cachecluster-operator
"""


async def shown(shelf: Shelf, name: str | None = "cart", **how: Any) -> str:
    desk = Desk(shelf, **how)
    assert await status(desk.session, name) == 0
    return desk.text


def shelf_of(cluster: Cluster, **more: Any) -> Shelf:
    return Shelf(body_of(cluster, **more), Pod=pods_of(cluster))


async def test_a_healthy_cluster_shows_who_leads_and_where_to_connect() -> None:
    assert await shown(shelf_of(formed())) == HEALTHY


async def test_the_last_failover_is_told_with_what_it_meant() -> None:
    body = body_of(formed())
    told = {"time": "1970-01-12T13:43:40Z", "shard": "cart-0", "to": "cart-0-0", "cause": "PodGone"}
    body["status"]["lastFailover"] = told
    text = await shown(Shelf(body))
    assert "Last failover 3m ago: cart-0-0 took the place of a lost primary (PodGone)" in text.splitlines()
    body["status"]["lastFailover"] = {**told, "from": "cart-0-1", "writeUnavailableMilliseconds": 140}
    text = await shown(Shelf(body))
    assert text.splitlines()[-2] == (
        "Last failover 3m ago: cart-0-0 took the place of cart-0-1 (PodGone, no writes for 140 ms)"
    )


async def test_s2_lost_data_is_told_with_its_incident_and_the_command_that_gives_it_up() -> None:
    cluster = without(formed(3, 1, **WAIT), 0)
    body = body_of(cluster, ago=240)
    lines = (await shown(Shelf(body, Pod=pods_of(cluster)))).splitlines()
    incident = body["status"]["dataLoss"]["incident"]
    assert lines[1].startswith(f"DataLoss: data loss {incident}: every copy of slots 0-5460 (cart-0) is gone")
    assert lines[1].endswith(f"cachecluster.dev/approve-data-loss={incident} --overwrite")
    assert f"Data loss {incident} found 4m ago: slots 0-5460 (cart-0); WaitingForApproval" in lines
    assert "  DataLoss is True for 4m (DataLoss): as said above" in lines


async def test_what_is_not_as_it_should_be_is_said_with_its_reason() -> None:
    cluster = formed().with_node(1, 1, up=False, down_seconds=3, ready=False)
    shelf = Shelf(body_of(cluster, ago=150), Pod=pods_of(cluster)[:-1])
    assert await shown(shelf) == WEAK


async def test_a_cluster_that_nobody_looks_after_leads_to_the_operator() -> None:
    assert await shown(Shelf(body_of(formed(), status={}))) == UNSEEN


async def test_a_cluster_that_is_forming_has_nowhere_to_connect_yet() -> None:
    text = await shown(shelf_of(blank()))
    assert text.splitlines()[1].startswith("Forming: shard 0: cart-0-0 leads slots 0-5460")
    assert "Connect:" not in text


async def test_an_edit_that_the_operator_has_not_seen_is_said() -> None:
    body = body_of(formed())
    body["metadata"]["generation"] = 4
    assert "has not looked at the latest edit" in await shown(Shelf(body))


async def test_without_the_right_to_see_pods_the_rest_is_shown() -> None:
    shelf = Shelf(body_of(formed()))
    shelf.refuses["Pod"] = Rejected("list Pod shop: forbidden")
    assert await shown(shelf) == HEALTHY


async def test_what_keeps_a_pod_from_running_is_named() -> None:
    cluster = formed()
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
    engine = {"name": names.CONTAINER, "state": waiting, "restartCount": 3}
    pods = pods_of(cluster, containerStatuses=[engine])
    text = await shown(Shelf(body_of(cluster), Pod=pods))
    assert "cart-0-0  primary  a     leads, ImagePullFailed, restarted 3 x" in text


async def test_all_clusters_of_a_namespace_take_a_line_each() -> None:
    one, other = body_of(formed()), body_of(blank(1, 0))
    other["metadata"]["name"] = "basket"
    assert await shown(Shelf(one, other), None) == (
        "NAME    ENGINE  VERSION  SHARDS  READY  STATE\n"
        "basket  Valkey  8.1.1    1       1/1    Forming: shard 0: cart-0-0 leads slots 0-16383\n"
        "cart    Valkey  8.1.1    3       6/6    ClusterReady: 3 shards serve all slots\n"
    )
    assert await shown(Shelf(), None) == "no CacheCluster in namespace shop\n"


async def test_programs_get_the_status_and_the_name_of_the_secret() -> None:
    body = body_of(formed())
    expected = {
        "namespace": "shop",
        "name": "cart",
        "generation": 3,
        "connectionSecret": "cart-connection",
        "status": body["status"],
    }
    assert json.loads(await shown(Shelf(body), form="json")) == expected
    assert yaml.safe_load(await shown(Shelf(body), None, form="yaml")) == [expected]


async def test_colours_mark_good_busy_and_bad_and_change_no_word() -> None:
    lost = formed().with_node(0, 0, answers=False)
    was_formed = replace(lost, more={"status": body_of(formed())["status"]})
    for cluster, code in ((formed(), "32"), (blank(), "33"), (was_formed, "31")):
        plain = await shown(shelf_of(cluster))
        coloured = await shown(shelf_of(cluster), colour=True)
        assert f"\x1b[{code}m{plain.splitlines()[1]}\x1b[0m" in coloured
        for mark in ("1", "31", "32", "33", "0"):
            coloured = coloured.replace(f"\x1b[{mark}m", "")
        assert coloured == plain


async def test_conditions_and_fields_of_a_newer_operator_do_no_harm() -> None:
    body = body_of(formed())
    body["status"]["conditions"].append({"type": "Polished", "status": "False"})
    body["status"]["moon"] = {"phase": 3}
    assert await shown(Shelf(body, Pod=pods_of(formed()))) == HEALTHY
