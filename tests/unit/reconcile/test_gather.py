"""How long one silent node may keep a look at the others waiting."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.domain.nodes import Ending, LostConnection, NodeId, NodeView, Unreachable
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.engines.client import NodeClient, NodeConnector
from cachecluster.kube.api import KubeApi
from cachecluster.manifests.facts import PASSWORD_KEYS
from cachecluster.reconcile import gather as gathering
from cachecluster.reconcile.dependencies import Memory, Senses
from cachecluster.reconcile.detector import Detector
from tests.unit.domain.building import formed, gone

REF = ClusterRef("shop", "cart", "uid-cart")
NOW = 1_800_000_000.0


def owned(kind: str, name: str) -> list[dict[str, Any]]:
    return [{"kind": kind, "name": name, "uid": REF.uid, "controller": True}]


def rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(age: float, ready: str) -> dict[str, Any]:
    running = {"name": names.CONTAINER, "restartCount": 0, "state": {"running": {"startedAt": rfc3339(NOW - age)}}}
    return {
        "metadata": {
            "name": "cart-0-0",
            "uid": "uid-0",
            "labels": {names.LABEL_CLUSTER: "cart", names.LABEL_SHARD: "0"},
            "ownerReferences": owned("StatefulSet", "cart-0"),
            "creationTimestamp": rfc3339(NOW - age),
        },
        "spec": {"nodeName": "n1"},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.1",
            "containerStatuses": [running],
            "conditions": [{"type": "Ready", "status": ready}],
        },
    }


class Shelf:
    """Just enough of the API server."""

    def __init__(self, pod: Mapping[str, Any]) -> None:
        self.pod = pod

    async def get(self, *_: str) -> Mapping[str, Any]:
        return {"metadata": {"name": "cart", "uid": REF.uid}, "spec": {}}

    async def list(self, _: str, kind: str, *__: str) -> Sequence[Mapping[str, Any]]:
        metadata = {"name": names.system_secret("cart"), "ownerReferences": owned(names.KIND, "cart")}
        secret = {"kind": "Secret", "metadata": metadata, "data": dict.fromkeys(PASSWORD_KEYS.values(), "eA==")}
        objects: dict[str, list[Mapping[str, Any]]] = {"Pod": [self.pod], "Secret": [secret]}
        return objects.get(kind, [])


class Silence:
    """A network that drops every packet."""

    @asynccontextmanager
    async def connect(self, *_: str) -> AsyncIterator[NodeClient]:
        await asyncio.Event().wait()
        yield cast("NodeClient", None)


async def look(pod: Mapping[str, Any], *lost: LostConnection) -> Unreachable:
    senses = Senses(
        kube=cast("KubeApi", Shelf(pod)),
        nodes=cast("NodeConnector", Silence()),
        hosts=dict,
        now=lambda: NOW,
        operator_namespace="cachecluster-system",
        leader=lambda: True,
        clock=lambda: NOW,
    )
    known = {NodeId(connection.uid): connection for connection in lost}
    connected = {"uid-0": NodeId("id-0")}
    detector = SimpleNamespace(lost=lambda: known, connected=lambda: connected)
    snap = (await gathering.gather(REF, senses, Memory(), cast("Detector", detector))).snapshot
    assert (snap.lost, snap.connected) == (known, connected)
    view = snap.views["cart-0-0"]
    assert isinstance(view, Unreachable)
    assert view.silent
    return view


async def test_node_that_has_only_just_started_does_not_keep_the_others_waiting() -> None:
    began = time.monotonic()
    view = await look(pod(age=1, ready="False"))
    assert view.why == "no answer within 0.5 s"
    assert time.monotonic() - began < gathering.VIEW_SECONDS / 2


@pytest.mark.parametrize(("age", "ready"), [(60.0, "False"), (1.0, "True")])
async def test_any_other_node_is_given_its_time(monkeypatch: pytest.MonkeyPatch, age: float, ready: str) -> None:
    monkeypatch.setattr(gathering, "VIEW_SECONDS", 1.0)
    assert (await look(pod(age, ready))).why == "no answer within 1 s"


def ended(seconds: float) -> LostConnection:
    return LostConnection("cart-1-0", "uid-1", "10.0.0.2", "n1", Ending.CLOSED, 0.0, seconds)


async def test_a_silent_node_does_not_hold_up_what_a_lost_connection_calls_for() -> None:
    assert (await look(pod(60.0, "True"), ended(100.0), ended(0.01))).why == "no answer within 0.3 s"


async def test_nodes_get_their_time_back_as_a_lost_connection_ages() -> None:
    assert (await look(pod(60.0, "True"), ended(0.7))).why == "no answer within 0.7 s"


def test_when_anybody_has_last_heard_of_an_id_that_no_pod_has() -> None:
    late = gone("id-old", NO_SLOTS)
    early, never = replace(late, pong_age=900.0), replace(late, pong_age=None)
    snap = replace(formed(), ghosts=(late,)).snapshot()
    views = dict(snap.views)
    for pod, row in (("cart-0-0", early), ("cart-1-0", never)):
        view = views[pod]
        assert isinstance(view, NodeView)
        views[pod] = replace(view, peers=(*view.peers[:-1], row))
    [found] = gathering._foreign(snap.pods, views, Memory(), NOW)
    assert (found.node_id, found.alive_since, found.heard_at) == ("id-old", None, NOW - 60)
