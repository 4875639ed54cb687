"""Primaries are asked what their slots hold only when it matters, and nothing waits for one that does not tell."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pytest

from cachecluster.domain.nodes import NodeView, Role
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.topology import Topology, observe
from cachecluster.engines.client import NodeClient, NodeConnector, NodeRefused, NodeUnreachable
from cachecluster.reconcile import slot_sizes
from cachecluster.reconcile.dependencies import Senses
from tests.unit.domain.building import Cluster, Node, formed, spec_of

HALVES = share(2)
MIB = 2**20


def growing() -> Cluster:
    """Two shards, and a third one that has joined."""
    old = formed(2)
    new = (Node(2, 0, zone="c"), Node(2, 1, Role.REPLICA, follows="id-2-0-0", zone="a"))
    recorded = {0: HALVES[0], 1: HALVES[1], 2: NO_SLOTS}
    return replace(old, nodes=(*old.nodes, *new), spec=spec_of(3), recorded=recorded)


def seen(cluster: Cluster, sizes: Mapping[str, int] | None = None) -> Topology:
    """What a pass sees; ``sizes`` says how many bytes of keys a node has."""
    snap = cluster.snapshot()
    views = {
        pod: replace(view, dataset_bytes=(sizes or {}).get(pod, 0)) if isinstance(view, NodeView) else view
        for pod, view in snap.views.items()
    }
    return observe(replace(snap, views=views))


class Nodes:
    """Nodes by address, with the number of keys in their slots, or what happens when they are asked."""

    def __init__(self, answers: Mapping[str, Mapping[int, int] | Exception | None]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    @asynccontextmanager
    async def connect(self, ip: str, password: str | None) -> AsyncIterator[NodeClient]:
        assert password == "operator-secret"
        self.asked.append(ip)
        yield cast("NodeClient", _Node(self.answers[ip]))


class _Node:
    def __init__(self, answer: Mapping[int, int] | Exception | None) -> None:
        self.answer = answer

    async def count_keys(self, slots: SlotSet) -> Mapping[int, int]:
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        assert self.answer is not None
        return {slot: keys for slot, keys in self.answer.items() if slot in slots}


async def ask(topology: Topology, nodes: Nodes) -> dict[int, int]:
    senses = Senses(
        kube=cast("Any", None),
        nodes=cast("NodeConnector", nodes),
        hosts=dict,
        now=lambda: 0.0,
        operator_namespace="",
        leader=lambda: True,
        clock=lambda: 0.0,
    )
    return await slot_sizes.slot_bytes(topology, senses, "operator-secret")


async def test_a_shards_bytes_are_spread_over_its_slots_by_their_keys() -> None:
    topology = seen(growing(), {"cart-0-0": 40 * MIB, "cart-1-0": 3 * MIB})
    nodes = Nodes({"10.0.0.0": {0: 1, 7: 3}, "10.0.1.0": {9000: 2}})
    assert await ask(topology, nodes) == {0: 10 * MIB, 7: 30 * MIB, 9000: 3 * MIB}


async def test_shards_without_keys_are_not_asked() -> None:
    topology = seen(growing().with_node(1, 0, keys=0), {"cart-0-0": 40 * MIB, "cart-1-0": 1})
    nodes = Nodes({"10.0.0.0": {0: 1}})
    assert await ask(topology, nodes) == {0: 40 * MIB}


@pytest.mark.parametrize(
    "failure", [NodeUnreachable("connection lost"), NodeRefused("LOADING"), None], ids=["gone", "refuses", "silent"]
)
async def test_if_one_does_not_tell_nothing_is_known(
    failure: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_sizes, "COUNT_SECONDS", 0.05)
    topology = seen(growing(), {"cart-0-0": 40 * MIB, "cart-1-0": 3 * MIB})
    assert await ask(topology, Nodes({"10.0.0.0": {0: 1}, "10.0.1.0": failure})) == {}


@pytest.mark.parametrize(
    ("cluster", "size"),
    [
        (formed(2), 40 * MIB),
        (growing().with_node(2, 1, up=False, down_seconds=1), 40 * MIB),
        (growing().with_node(0, 1, answers=False), 40 * MIB),
        (growing(), MIB // 2),
    ],
    ids=["settled", "a node is not in step", "a node does not answer", "next to no data"],
)
async def test_nobody_is_asked_while_it_does_not_matter(cluster: Cluster, size: int) -> None:
    nodes = Nodes({})
    assert await ask(seen(cluster, {"cart-0-0": size}), nodes) == {}
    assert nodes.asked == []
