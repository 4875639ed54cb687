"""What a promotion looks at once more right before it acts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import FailoverCause
from cachecluster.domain.actions import FailoverKind, Promote, Target
from cachecluster.domain.loss import Lost
from cachecluster.domain.nodes import NodeId, NodeView, Role
from cachecluster.domain.plan import Promotion
from cachecluster.engines.client import NobodyListens, NodeClient, NodeUnreachable
from cachecluster.kube.api import Conflict, NotFound
from cachecluster.manifests import Passwords
from cachecluster.reconcile import node_actions
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.node_actions import LAST_LOOK_SECONDS
from tests.unit.domain.building import REF, formed

HEIR = Target("cart-0-1", "uid-cart-0-1", "10.0.0.1", NodeId("id-0-1-0"), 0)
LOST = NodeId("id-0-0-0")
LOSS = Lost(LOST, FailoverCause.PROCESS_ENDED, "it is dead", "cart-0-0", "10.0.0.0")
PROMOTE = Promote(0, HEIR, FailoverKind.FORCE, LOSS)


def view(**changes: Any) -> NodeView:
    """The heir's, whose link is down."""
    cluster = formed().with_node(0, 1, **{"up": False, "down_seconds": 0, **changes})
    found = cluster.snapshot().view("cart-0-1")
    assert found is not None
    return found


@dataclass
class Heir:
    """Leads as soon as it is told to, unless it is never elected."""

    seen: NodeView = field(default_factory=view)
    elected: bool = True
    told: list[FailoverKind] = field(default_factory=list)

    async def node_id(self) -> NodeId:
        return self.seen.node_id

    async def view(self) -> NodeView:
        return self.seen

    async def failover(self, kind: FailoverKind) -> None:
        self.told.append(kind)
        if self.elected:
            self.seen = replace(self.seen, role=Role.PRIMARY, link=None)


@dataclass
class Former:
    """Whoever answers at the lost primary's address."""

    id: NodeId

    async def node_id(self) -> NodeId:
        return self.id


@dataclass
class Stage:
    heir: Heir = field(default_factory=Heir)
    former: Former | Exception = field(default_factory=lambda: NobodyListens("10.0.0.0: connection refused"))
    leads: bool = True
    deleting: bool = False
    taints: list[str] | None = None
    """Of the lost one's Kubernetes node; None: it is gone."""
    fence: str | None = None
    """What is written down on the lost one's pod; None: that is gone."""
    hung: bool = False
    """The machine of the lost one answers, its process does not."""
    written_on: bool = False
    """Somebody else writes on that pod at the same time."""

    async def get(self, _: str, kind: str, *args: str) -> dict[str, Any]:
        if kind == "Node":
            if self.taints is None:
                raise NotFound("no such node")
            return {"metadata": {}, "spec": {"taints": [{"key": key} for key in self.taints]}}
        if args[-1] == LOSS.pod:
            if self.fence is None:
                raise NotFound("no such pod")
            meta = {"name": LOSS.pod, "uid": "uid", "resourceVersion": "1"}
            return {"metadata": {**meta, "annotations": {names.ANNOTATION_FENCE: self.fence}}}
        going = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if self.deleting else {}
        return {"metadata": {"uid": HEIR.uid, **going}, "status": {"podIP": HEIR.ip}}

    async def merge_patch(self, *args: Any) -> dict[str, Any]:
        if self.written_on:
            raise Conflict("the object has been modified")
        assert args[-1]["metadata"]["resourceVersion"] == "1"
        self.fence = args[-1]["metadata"]["annotations"][names.ANNOTATION_FENCE]
        return {}

    @asynccontextmanager
    async def connect(self, ip: str, password: str) -> AsyncIterator[NodeClient]:
        if ip == HEIR.ip:
            yield cast("NodeClient", self.heir)
            return
        if isinstance(self.former, TimeoutError):
            await asyncio.Event().wait()
        if isinstance(self.former, Exception):
            raise self.former
        yield cast("NodeClient", self.former)

    async def has_machine(self, ip: str, seconds: float) -> bool:
        assert (ip, seconds) == (LOSS.address, LAST_LOOK_SECONDS)
        return self.hung

    async def promote(self, action: Promote = PROMOTE) -> Promotion:
        deps = Dependencies(
            kube=cast("Any", self),
            nodes=cast("Any", self),
            hosts=dict,
            now=float,
            operator_namespace="",
            leader=lambda: self.leads,
            generate_password=str,
            events=cast("Any", None),
            watcher=cast("Any", None),
            clock=float,
        )
        return await node_actions.promote(action, Context(REF, deps, Passwords("a", "b", "c", "d")))


async def refuses(stage: Stage, why: str) -> None:
    with pytest.raises(Doubt, match=why):
        await stage.promote()
    assert not stage.heir.told


@pytest.mark.parametrize("former", [NobodyListens("no"), NodeUnreachable("no"), TimeoutError(), Former(NodeId("new"))])
async def test_the_heir_is_promoted_where_nobody_answers_as_the_lost_one(former: Any) -> None:
    stage = Stage(former=former)
    assert await stage.promote() == Promotion(elected=False, takes_writes=True)
    assert stage.heir.told == [FailoverKind.FORCE]


async def test_one_that_does_not_see_the_cluster_in_order_leads_and_takes_no_writes() -> None:
    stage = Stage(heir=Heir(replace(view(), cluster_state_ok=False)))
    assert await stage.promote() == Promotion(elected=False, takes_writes=False)


async def test_s10_a_primary_that_answers_again_is_not_replaced() -> None:
    await refuses(Stage(former=Former(LOST)), "answers again")


@pytest.mark.parametrize("changes", [{"up": True, "down_seconds": None}, {"down_seconds": -1}, {"follows": "another"}])
async def test_s10_an_heir_that_is_not_what_it_was_is_not_promoted(changes: dict[str, Any]) -> None:
    await refuses(Stage(heir=Heir(view(**changes))), "not what it was")


@pytest.mark.parametrize(("up", "promoted"), [(False, True), (True, False)])
async def test_s5_who_has_restarted_with_newer_data_is_promoted_unless_it_has_copied_the_older(
    up: bool, promoted: bool
) -> None:
    stage = Stage(heir=Heir(view(up=up, down_seconds=None if up else -1)))
    quarantined = Lost(LOST, FailoverCause.OLDER_DATA, "it has older data", "cart-0-0")
    if promoted:
        await stage.promote(replace(PROMOTE, lost=quarantined))
    else:
        with pytest.raises(Doubt, match="not what it was"):
            await stage.promote(replace(PROMOTE, lost=quarantined))
    assert bool(stage.heir.told) is promoted


@pytest.mark.parametrize("last_io", [1, 2])
async def test_s10_an_heir_that_hears_a_silent_primary_again_is_not_promoted(last_io: int) -> None:
    stage = Stage(heir=Heir(view(up=True, down_seconds=None, last_io=last_io)), former=TimeoutError())
    silent = replace(PROMOTE, lost=replace(LOSS, unheard=True))
    if last_io < 2:
        with pytest.raises(Doubt, match="not what it was"):
            await stage.promote(silent)
    else:
        await stage.promote(silent)
    assert bool(stage.heir.told) == (last_io >= 2)


async def test_an_heir_whose_pod_is_being_deleted_is_not_promoted() -> None:
    await refuses(Stage(deleting=True), "being deleted")


@pytest.mark.parametrize("taints", [None, [names.TAINT_OUT_OF_SERVICE], ["node.kubernetes.io/unreachable"]])
async def test_s10_a_kubernetes_node_that_is_there_after_all_is_no_proof(taints: list[str] | None) -> None:
    stage = Stage(heir=Heir(view(up=True, down_seconds=None, last_io=9)), taints=taints)
    action = replace(PROMOTE, lost=replace(LOSS, unheard=True, host="host-a"))
    if taints == ["node.kubernetes.io/unreachable"]:
        with pytest.raises(Doubt, match="host-a is there"):
            await stage.promote(action)
        assert not stage.heir.told
    else:
        await stage.promote(action)
        assert stage.heir.told


async def test_who_does_not_lead_promotes_nobody() -> None:
    await refuses(Stage(leads=False), "does not lead")


async def test_who_was_elected_meanwhile_is_left_alone() -> None:
    stage = Stage(heir=Heir(replace(view(), role=Role.PRIMARY, link=None)))
    assert await stage.promote() == Promotion(elected=True, takes_writes=True)
    assert not stage.heir.told


async def test_a_lost_election_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_actions, "ELECTION_SECONDS", 0.05)
    stage = Stage(heir=Heir(elected=False))
    with pytest.raises(Doubt, match="not elected"):
        await stage.promote()


FENCED = replace(LOSS, cause=FailoverCause.FENCE_EXPIRED, unheard=True, fence="h 3 Default")


@pytest.mark.parametrize("link", [{"up": True, "down_seconds": None, "last_io": 7}, {"down_seconds": 7}])
async def test_s10_the_heir_of_a_fenced_primary_is_promoted_beside_it(link: dict[str, Any]) -> None:
    stage = Stage(Heir(view(**link)), former=NodeUnreachable("no"), fence=FENCED.fence)
    await stage.promote(replace(PROMOTE, kind=FailoverKind.TAKEOVER, lost=FENCED))
    assert stage.heir.told == [FailoverKind.TAKEOVER]
    assert stage.fence == "h 3 Default replaced"


async def test_s10_not_beside_a_process_that_hangs_on_a_machine_that_answers_again() -> None:
    stage = Stage(Heir(view(down_seconds=9)), former=NodeUnreachable("no"), fence=FENCED.fence, hung=True)
    with pytest.raises(Doubt, match="answers again"):
        await stage.promote(replace(PROMOTE, lost=FENCED))
    assert not stage.heir.told


async def test_s10_not_without_a_note_for_whoever_reaches_the_fenced_primary_later() -> None:
    stage = Stage(Heir(view(down_seconds=9)), former=NodeUnreachable("no"), fence=FENCED.fence, written_on=True)
    with pytest.raises(Doubt, match="meanwhile"):
        await stage.promote(replace(PROMOTE, lost=FENCED))
    assert not stage.heir.told


@pytest.mark.parametrize("fence", [None, "raising h 3 Default", "h 10 Default"])
async def test_s10_not_once_its_fence_has_been_crossed_out(fence: str | None) -> None:
    stage = Stage(Heir(view(down_seconds=9)), former=NodeUnreachable("no"), fence=fence)
    with pytest.raises(Doubt, match="fence"):
        await stage.promote(replace(PROMOTE, lost=FENCED))
    assert not stage.heir.told


@pytest.mark.parametrize("link", [{"up": True, "down_seconds": None, "last_io": 6}, {"down_seconds": 6}])
async def test_s10_not_before_the_fence_has_expired(link: dict[str, Any]) -> None:
    stage = Stage(Heir(view(**link)), former=NodeUnreachable("no"), fence=FENCED.fence)
    with pytest.raises(Doubt, match="its link is back"):
        await stage.promote(replace(PROMOTE, lost=FENCED))
    assert not stage.heir.told
