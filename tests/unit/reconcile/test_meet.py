"""Nodes that have met tell each other which slots they own."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cachecluster.domain.actions import Meet, Target
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.engines.client import NodeClient
from cachecluster.manifests import Passwords
from cachecluster.reconcile import node_actions
from cachecluster.reconcile.context import Context
from cachecluster.reconcile.dependencies import Dependencies
from tests.unit.domain.building import REF, formed

SNAP = formed(2).snapshot()
OWNER, REPLICA, OTHER = "cart-0-0", "cart-0-1", "cart-1-0"


@dataclass
class Node:
    """Knows nobody until somebody has met; remembers whom it was told to meet."""

    seen: NodeView
    stage: "Stage"
    met: list[str] = field(default_factory=list)

    async def node_id(self) -> NodeId:
        return self.seen.node_id

    async def view(self) -> NodeView:
        return self.seen if self.stage.acquainted else replace(self.seen, peers=(self.seen.myself,))

    async def meet(self, ip: str, _: int, __: int) -> None:
        self.met.append(ip)


@dataclass
class Stage:
    acquainted: bool = True
    nodes: dict[str, Node] = field(default_factory=dict)

    async def get(self, _: str, __: str, ___: str, name: str) -> dict[str, Any]:
        pod = next(p for p in SNAP.pods if p.name == name)
        return {"metadata": {"uid": pod.uid}, "status": {"podIP": pod.ip}}

    @asynccontextmanager
    async def connect(self, ip: str, _: str) -> AsyncIterator[NodeClient]:
        pod = next(p for p in SNAP.pods if p.ip == ip)
        view = SNAP.view(pod.name)
        assert view is not None
        yield cast("NodeClient", self.nodes.setdefault(pod.name, Node(view, self)))

    async def meet(self) -> dict[str, list[str]]:
        """Introduce the three; whom each was told to meet."""
        unused: Any = None
        deps = Dependencies(
            cast("Any", self), cast("Any", self), dict, float, "", lambda: True, float, str, unused, unused
        )
        targets = {n: target(n) for n in (OWNER, REPLICA, OTHER)}
        pairs = ((OWNER, REPLICA), (OWNER, OTHER), (REPLICA, OTHER))
        ids = tuple((targets[a].node_id, targets[b].node_id) for a, b in pairs)
        action = Meet(tuple(targets.values()), ids, ())
        await node_actions.meet(action, Context(REF, deps, Passwords("a", "b", "c", "d")))
        return {name: node.met for name, node in self.nodes.items()}


def target(name: str) -> Target:
    pod, view = next(p for p in SNAP.pods if p.name == name), SNAP.view(name)
    assert view is not None
    return Target(name, pod.uid, str(pod.ip), view.node_id, pod.shard)


async def test_owners_of_slots_meet_the_others_again_once_they_are_known() -> None:
    met = await Stage().meet()
    assert sorted(met[OWNER]) == ["10.0.0.1", "10.0.0.1", "10.0.1.0", "10.0.1.0"]
    assert sorted(met[OTHER]) == ["10.0.0.0", "10.0.0.1"]
    assert met[REPLICA] == ["10.0.1.0"]


async def test_who_is_not_known_yet_is_not_met_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_actions, "MEETING_SECONDS", 0.05)
    met = await Stage(acquainted=False).meet()
    assert (len(met[OWNER]), len(met[REPLICA]), len(met[OTHER])) == (2, 1, 0)
