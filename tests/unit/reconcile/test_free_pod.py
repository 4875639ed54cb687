"""What is looked at once more before a pod on a lost Kubernetes node is deleted by force."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.domain.actions import FreePod, Target
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.engines.client import NobodyListens, NodeClient, NodeDenied, NodeRefused, NodeUnreachable
from cachecluster.kube.api import Conflict, NotFound
from cachecluster.manifests import Passwords
from cachecluster.reconcile import lost_hosts
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from tests.unit.domain.building import REF, formed

POD, UID, IP = "cart-0-1", "uid-cart-0-1", "10.0.0.1"
KEEPER = Target("cart-0-0", "uid-cart-0-0", "10.0.0.0", NodeId("id-0-0-0"), 0)


def keeper(*, heard: float = 100, **changes: Any) -> NodeView:
    """The primary, which has not heard of the lost replica for so long."""
    cluster = formed(1).with_node(0, 1, pong_age=heard, suspected=heard > 5).with_node(0, 0, **changes)
    found = cluster.snapshot().view(KEEPER.pod)
    assert found is not None
    return found


def machine(ready: str = "Unknown", *, off: bool = False) -> dict[str, Any]:
    taints = [{"key": names.TAINT_OUT_OF_SERVICE, "effect": "NoExecute"}] if off else []
    return {"spec": {"taints": taints}, "status": {"conditions": [{"type": "Ready", "status": ready}]}}


@dataclass
class Node:
    """Whoever answers at an address."""

    seen: NodeView | None = None

    async def node_id(self) -> NodeId:
        return self.seen.node_id if self.seen is not None else NodeId("somebody")

    async def view(self) -> NodeView | None:
        return self.seen


@dataclass
class Stage:
    """An API server with two pods and a machine, and what nodes say."""

    answer: Exception | None = field(default_factory=lambda: NodeUnreachable("no answer in time"))
    keeper: NodeView = field(default_factory=keeper)
    machine: dict[str, Any] | None = field(default_factory=machine)
    uid: str = UID
    host: str = "lost"
    deleting: bool = False
    leads: bool = True
    conflict: bool = False
    deleted: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, _: str, kind: str, __: str, name: str) -> dict[str, Any]:
        if kind == "Node":
            if self.machine is None:
                raise NotFound(name)
            return self.machine
        if name == KEEPER.pod:
            return {"metadata": {"name": name, "uid": KEEPER.uid}, "status": {"podIP": KEEPER.ip}}
        metadata = {"name": name, "uid": self.uid, "resourceVersion": "7"}
        if self.deleting:
            metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
        return {"metadata": metadata, "spec": {"nodeName": self.host}, "status": {"podIP": IP}}

    async def delete(self, _: str, __: str, ___: str, name: str, **how: Any) -> None:
        if self.conflict:
            raise Conflict("modified")
        self.deleted.append({"name": name, **how})

    @asynccontextmanager
    async def connect(self, ip: str, _: str) -> AsyncIterator[NodeClient]:
        if ip == KEEPER.ip:
            yield cast("NodeClient", Node(self.keeper))
            return
        if isinstance(self.answer, TimeoutError):
            await asyncio.Event().wait()
        if self.answer is not None:
            raise self.answer
        yield cast("NodeClient", Node())

    async def free(self, **changes: Any) -> None:
        unused: Any = None
        deps = Dependencies(
            cast("Any", self), cast("Any", self), dict, float, "", lambda: self.leads, float, str, unused, unused
        )
        action = replace(FreePod(POD, UID, IP, "lost", KEEPER, on_word=False), **changes)
        await lost_hosts.free_pod(action, Context(REF, deps, Passwords("a", "b", "c", "d")))


async def refuses(stage: Stage, **changes: Any) -> None:
    with pytest.raises(Doubt):
        await stage.free(**changes)
    assert not stage.deleted


async def frees(stage: Stage, **changes: Any) -> None:
    await stage.free(**changes)
    assert stage.deleted == [{"name": POD, "uid": UID, "resource_version": "7", "grace_seconds": 0}]


@pytest.mark.parametrize("silence", [NodeUnreachable("no answer in time"), TimeoutError()], ids=str)
async def test_the_very_pod_goes_without_waiting_for_its_kubelet(
    silence: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_hosts, "LAST_LOOK_SECONDS", 0.05)
    await frees(Stage(silence))


async def test_so_does_one_that_is_being_deleted_in_vain() -> None:
    await frees(Stage(deleting=True))


@pytest.mark.parametrize(
    "stage",
    [Stage(uid="another"), Stage(host="elsewhere"), Stage(conflict=True), Stage(leads=False)],
    ids=["another pod", "on another machine", "changed meanwhile", "does not lead"],
)
async def test_only_the_pod_that_was_meant_by_whoever_leads(stage: Stage) -> None:
    await refuses(stage)


async def test_s1_a_machine_that_reports_again_keeps_its_pods() -> None:
    await refuses(Stage(machine=machine("True")))


@pytest.mark.parametrize("gone", [None, machine(off=True), machine("True", off=True)], ids=["deleted", "off", "both"])
async def test_somebody_says_that_the_machine_is_off(gone: dict[str, Any] | None) -> None:
    await frees(Stage(machine=gone), on_word=True)


@pytest.mark.parametrize("there", [machine("True"), machine("Unknown")], ids=["ready", "silent"])
async def test_s1_a_word_that_was_taken_back_or_never_given_does_not_count(there: dict[str, Any]) -> None:
    """The watch may lag behind: the Kubernetes node has only just been made."""
    await refuses(Stage(machine=there), on_word=True)


WORDS = [None, NobodyListens("refused"), NodeDenied("no"), NodeRefused("BUSY")]


@pytest.mark.parametrize("word", WORDS, ids=str)
async def test_s1_a_pod_from_which_anything_comes_is_left_alone(word: Exception | None) -> None:
    await refuses(Stage(word))


async def test_s1_a_node_that_its_primary_hears_again_is_left_alone() -> None:
    await refuses(Stage(keeper=keeper(heard=0.1)))


@pytest.mark.parametrize(
    "kept",
    [replace(keeper(), node_id=NodeId("another")), replace(keeper(), cluster_state_ok=False), keeper(quarantined=True)],
    ids=["another node", "cut off", "closed"],
)
async def test_s3_who_should_have_its_data_is_looked_at_again(kept: NodeView) -> None:
    await refuses(Stage(keeper=kept))


async def test_a_pod_that_never_had_an_address_is_not_asked() -> None:
    await frees(Stage(answer=None), ip=None)
