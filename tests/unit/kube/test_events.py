"""Events are posted once, counted when repeated, and never trouble the caller."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from cachecluster.api.reasons import Reason
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.api import Conflict, KubeApi, NotFound, Rejected
from cachecluster.kube.events import REPEAT_SECONDS, KubeEventRecorder

CART = ClusterRef("shop", "cart", "uid-1")


class EventServer:
    """Stores Events by name and counts the requests."""

    def __init__(self) -> None:
        self.events: dict[str, dict[str, Any]] = {}
        self.requests = 0
        self.refuse = False

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self.requests += 1
        if self.refuse:
            raise Rejected("the namespace is being terminated")
        name = manifest["metadata"]["name"]
        if name in self.events:
            raise Conflict(name)
        self.events[name] = dict(manifest)
        return self.events[name]

    async def get(self, _version: str, _kind: str, _namespace: str, name: str) -> dict[str, Any]:
        self.requests += 1
        if name not in self.events:
            raise NotFound(name)
        return self.events[name]

    async def merge_patch(self, _v: str, _k: str, _n: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        self.requests += 1
        self.events[name] |= patch
        return self.events[name]


class Now:
    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def server() -> EventServer:
    return EventServer()


@pytest.fixture
def now() -> Now:
    return Now()


def recorder(server: EventServer, now: Now) -> KubeEventRecorder:
    return KubeEventRecorder(cast("KubeApi", server), instance="op-1", now=now)


async def test_an_event_is_about_the_cluster_and_says_why(server: EventServer, now: Now) -> None:
    await recorder(server, now).record(CART, "Warning", Reason.PRIMARY_LOST, "cart-0-0 is gone")
    (event,) = server.events.values()
    assert event["involvedObject"]["uid"] == "uid-1"
    assert (event["type"], event["reason"], event["message"]) == ("Warning", "PrimaryLost", "cart-0-0 is gone")
    assert event["count"] == 1


async def test_repeats_are_one_event_and_cost_no_request(server: EventServer, now: Now) -> None:
    recording = recorder(server, now)
    for _ in range(5):
        await recording.record(CART, "Normal", Reason.FORMING, "meeting")
        now.seconds += 60
    assert len(server.events) == 1
    assert server.requests == 1


async def test_repeats_are_counted_together_after_ten_minutes(server: EventServer, now: Now) -> None:
    recording = recorder(server, now)
    for _ in range(5):
        await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    now.seconds += REPEAT_SECONDS
    await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    (event,) = server.events.values()
    assert event["count"] == 6
    assert event["lastTimestamp"] > event["firstTimestamp"]


async def test_a_restarted_operator_finds_its_predecessors_event(server: EventServer, now: Now) -> None:
    await recorder(server, now).record(CART, "Normal", Reason.FORMING, "meeting")
    now.seconds += 5
    await recorder(server, now).record(CART, "Normal", Reason.FORMING, "meeting")
    (event,) = server.events.values()
    assert event["count"] == 1


async def test_an_expired_event_is_posted_anew(server: EventServer, now: Now) -> None:
    recording = recorder(server, now)
    await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    server.events.clear()
    now.seconds += 3600
    await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    assert len(server.events) == 1


async def test_other_news_and_another_cluster_of_the_same_name_have_their_own(server: EventServer, now: Now) -> None:
    recording = recorder(server, now)
    await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    await recording.record(CART, "Normal", Reason.FORMING, "assigning")
    await recording.record(CART, "Normal", Reason.JOINING_NODE, "meeting")
    await recording.record(ClusterRef("shop", "cart", "uid-2"), "Normal", Reason.FORMING, "meeting")
    assert len(server.events) == 4


async def test_a_refusal_is_not_the_callers_problem_and_is_tried_again(server: EventServer, now: Now) -> None:
    recording = recorder(server, now)
    server.refuse = True
    await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    server.refuse = False
    await recording.record(CART, "Normal", Reason.FORMING, "meeting")
    assert len(server.events) == 1


async def test_a_message_is_cut_to_what_the_api_server_accepts(server: EventServer, now: Now) -> None:
    await recorder(server, now).record(CART, "Normal", Reason.FORMING, "x" * 5000)
    (event,) = server.events.values()
    assert len(event["message"]) == 1024
