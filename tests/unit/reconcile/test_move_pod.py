"""What is looked at once more before a replica is made anew in another zone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cachecluster.domain.actions import MovePod, Target
from cachecluster.domain.nodes import NodeId, NodeView, Role
from cachecluster.engines.client import NodeClient
from cachecluster.kube.api import NotFound
from cachecluster.manifests import Passwords
from cachecluster.reconcile import object_actions
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from tests.unit.domain.building import REF, Cluster, formed

PRIMARY = Target("cart-0-0", "uid-cart-0-0", "10.0.0.0", NodeId("id-0-0-0"), 0)
REPLICA = Target("cart-0-1", "uid-cart-0-1", "10.0.0.1", NodeId("id-0-1-0"), 0)


@dataclass
class Node:
    """Whoever answers at an address."""

    seen: NodeView

    async def node_id(self) -> NodeId:
        return self.seen.node_id

    async def view(self) -> NodeView:
        return self.seen


@dataclass
class Stage:
    """An API server with two pods, and what their nodes say."""

    cluster: Cluster = field(default_factory=formed)
    uid: str = REPLICA.uid
    leads: bool = True
    gone: str = ""
    ending: str = ""
    deleted: list[dict[str, Any]] = field(default_factory=list)

    async def get(self, _: str, __: str, ___: str, name: str) -> dict[str, Any]:
        if name == self.gone:
            raise NotFound(name)
        uid, ip = (self.uid, REPLICA.ip) if name == REPLICA.pod else (PRIMARY.uid, PRIMARY.ip)
        metadata = {"name": name, "uid": uid, "resourceVersion": "7"}
        if name == self.ending:
            metadata["deletionTimestamp"] = "2026-01-31T12:00:00Z"
        return {"metadata": metadata, "status": {"podIP": ip}}

    async def delete(self, _: str, __: str, ___: str, name: str, **how: Any) -> None:
        self.deleted.append({"name": name, **how})

    @asynccontextmanager
    async def connect(self, ip: str, _: str) -> AsyncIterator[NodeClient]:
        found = self.cluster.snapshot().view(PRIMARY.pod if ip == PRIMARY.ip else REPLICA.pod)
        assert found is not None
        yield cast("NodeClient", Node(found))

    async def move(self) -> None:
        unused: Any = None
        deps = Dependencies(
            cast("Any", self), cast("Any", self), dict, float, "", lambda: self.leads, float, str, unused, unused
        )
        await object_actions.move_pod(MovePod(REPLICA, PRIMARY), Context(REF, deps, Passwords("a", "b", "c", "d")))


async def test_a_replica_in_step_is_deleted_as_it_was_seen_with_all_its_grace() -> None:
    stage = Stage()
    await stage.move()
    seen = {"name": REPLICA.pod, "uid": REPLICA.uid, "resource_version": "7"}
    assert stage.deleted == [{**seen, "grace_seconds": None}]


@pytest.mark.parametrize(
    "stage",
    [
        Stage(formed().with_node(0, 1, up=False, down_seconds=1)),
        Stage(formed().with_node(0, 1, follows="id-1-0-0")),
        Stage(formed().with_node(0, 1, role=Role.PRIMARY, follows=None)),
        Stage(formed().with_node(0, 0, role=Role.REPLICA, follows="id-0-1-0")),
        Stage(uid="another"),
        Stage(gone=REPLICA.pod),
        Stage(gone=PRIMARY.pod),
        Stage(ending=PRIMARY.pod),
        Stage(ending=REPLICA.pod),
        Stage(leads=False),
    ],
    ids=["behind", "elsewhere", "leads", "follows", "other", "gone", "alone", "last", "going", "not-leading"],
)
async def test_s7_with_any_doubt_it_stays(stage: Stage) -> None:
    with pytest.raises(Doubt):
        await stage.move()
    assert not stage.deleted
