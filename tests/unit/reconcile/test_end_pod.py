"""What is looked at once more before a process that hangs is ended."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cachecluster.domain.actions import EndPod, Target
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.engines.client import (
    NoAnswer,
    NobodyListens,
    NodeClient,
    NodeDenied,
    NodeRefused,
    NodeUnreachable,
)
from cachecluster.manifests import Passwords
from cachecluster.reconcile import object_actions
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from tests.unit.domain.building import REF, formed

HUNG = Target("cart-0-0", "uid-cart-0-0", "10.0.0.0", NodeId("id-0-0-0"), 0)
KEEPER = Target("cart-0-1", "uid-cart-0-1", "10.0.0.1", NodeId("id-0-1-0"), 0)


def keeper(*, heard: float = 12, **changes: Any) -> NodeView:
    """The replica, which has not heard of its primary for so long."""
    cluster = (
        formed(1).with_node(0, 0, pong_age=heard, suspected=heard > 5).with_node(0, 1, **{"last_io": 12, **changes})
    )
    found = cluster.snapshot().view(KEEPER.pod)
    assert found is not None
    return found


@dataclass
class Node:
    """Whoever answers at an address."""

    seen: NodeView | None = None
    id: str = ""

    async def node_id(self) -> NodeId:
        return self.seen.node_id if self.seen is not None else NodeId(self.id)

    async def view(self) -> NodeView | None:
        return self.seen


@dataclass
class Stage:
    """An API server with two pods, and what their nodes say."""

    answer: str | Exception = field(default_factory=lambda: NoAnswer("no answer in time"))
    keeper: NodeView = field(default_factory=keeper)
    uid: str = HUNG.uid
    leads: bool = True
    deleted: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, _: str, __: str, ___: str, name: str) -> dict[str, Any]:
        uid, ip = (self.uid, HUNG.ip) if name == HUNG.pod else (KEEPER.uid, KEEPER.ip)
        return {"metadata": {"name": name, "uid": uid, "resourceVersion": "7"}, "status": {"podIP": ip}}

    async def delete(self, _: str, __: str, ___: str, name: str, **how: Any) -> None:
        self.deleted.append({"name": name, **how})

    @asynccontextmanager
    async def connect(self, ip: str, _: str) -> AsyncIterator[NodeClient]:
        if ip == KEEPER.ip:
            yield cast("NodeClient", Node(self.keeper))
            return
        if isinstance(self.answer, TimeoutError):
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        yield cast("NodeClient", Node(id=self.answer))

    async def end(self) -> None:
        unused: Any = None
        deps = Dependencies(
            cast("Any", self), cast("Any", self), dict, float, "", lambda: self.leads, float, str, unused, unused
        )
        await object_actions.end_pod(EndPod(HUNG, KEEPER), Context(REF, deps, Passwords("a", "b", "c", "d")))


async def refuses(stage: Stage) -> None:
    with pytest.raises(Doubt):
        await stage.end()
    assert not stage.deleted


@pytest.mark.parametrize("silence", [NoAnswer("no answer in time"), TimeoutError()])
async def test_a_process_that_says_nothing_is_ended_with_little_grace(
    silence: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_actions, "LAST_WORD_SECONDS", 0.05)
    stage = Stage(silence)
    await stage.end()
    assert stage.deleted == [{"name": HUNG.pod, "uid": HUNG.uid, "resource_version": "7", "grace_seconds": 1}]


WORDS = ["an id", NobodyListens("refused"), NodeDenied("no"), NodeRefused("BUSY"), NodeUnreachable("connection reset")]


@pytest.mark.parametrize("word", WORDS, ids=str)
async def test_s1_a_process_that_says_anything_or_has_ended_is_left_alone(word: str | Exception) -> None:
    await refuses(Stage(word))


async def test_s1_a_process_that_the_other_node_has_heard_meanwhile_is_left_alone() -> None:
    await refuses(Stage(keeper=keeper(heard=0.1)))


@pytest.mark.parametrize(
    "changes", [{"up": False, "down_seconds": -1}, {"up": False, "down_seconds": 60}, {"last_io": 0}], ids=str
)
async def test_s3_who_should_have_its_data_is_looked_at_again(changes: dict[str, Any]) -> None:
    await refuses(Stage(keeper=keeper(**changes)))


async def test_s3_another_node_in_its_place_has_nothing() -> None:
    await refuses(Stage(keeper=replace(keeper(), node_id=NodeId("another"))))


@pytest.mark.parametrize("stage", [Stage(uid="another"), Stage(leads=False)], ids=["another pod", "does not lead"])
async def test_only_the_pod_that_was_meant_by_whoever_leads(stage: Stage) -> None:
    await refuses(stage)
