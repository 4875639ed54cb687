"""Raising and lowering a fence: in which order, and what is never written down."""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.domain import durability, fence
from cachecluster.domain.actions import LowerFence, RaiseFence, Target
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.domain.snapshot import Parameters
from cachecluster.kube.api import Conflict
from cachecluster.manifests import Passwords
from cachecluster.reconcile import fences
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from tests.unit.domain.building import REF, formed

PRIMARY = Target("cart-0-0", "uid-cart-0-0", "10.0.0.0", NodeId("id-0-0-0"), 0)
RAISE = RaiseFence(PRIMARY, "0-h1", "0-h1 3 Default")
LOWER = LowerFence(PRIMARY, fence.LOWERED)


@dataclass
class Stage:
    """A primary, its pod, and everything that is done to them, in order."""

    lag: int | None = 0
    deaf: bool = False
    """It takes a value and shows another."""
    leads: Callable[[], bool] = lambda: True
    meddle: Callable[["Stage"], None] = lambda _: None
    """What somebody else does once the parameters are set."""
    done: list[str] = field(default_factory=list)
    note: str | None = None
    version: int = 1
    history: str = "h1"
    parameters: dict[str, str] = field(default_factory=lambda: dict(fence.LOWERED))

    async def node_id(self) -> NodeId:
        return PRIMARY.node_id

    async def view(self, _: Collection[str] = ()) -> NodeView:
        node = formed(1, 1).with_node(0, 0, replica_lag=self.lag, history=self.history, parameters=self.parameters)
        found = node.snapshot().view("cart-0-0")
        assert found is not None
        return found

    async def configure(self, parameters: Parameters) -> None:
        self.done.append(f"set {dict(parameters)[durability.TO_WRITE]}")
        if not self.deaf:
            self.parameters.update(parameters)
        self.meddle(self)

    async def get(self, *_: str) -> dict[str, Any]:
        annotations = {} if self.note is None else {names.ANNOTATION_FENCE: self.note}
        meta = {"uid": PRIMARY.uid, "resourceVersion": str(self.version), "annotations": annotations}
        return {"metadata": meta, "status": {"podIP": PRIMARY.ip}}

    async def merge_patch(self, _: str, __: str, ___: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        meta = patch["metadata"]
        assert (name, meta["uid"]) == (PRIMARY.pod, PRIMARY.uid)
        if meta.get("resourceVersion", str(self.version)) != str(self.version):
            raise Conflict("the object has been modified")
        self.write(meta["annotations"][names.ANNOTATION_FENCE])
        return {"metadata": {"resourceVersion": str(self.version)}}

    def write(self, note: str | None) -> None:
        if note != self.note:
            self.note, self.version = note, self.version + 1
        self.done.append(f"note {note}")

    @asynccontextmanager
    async def connect(self, *_: str) -> AsyncIterator["Stage"]:
        yield self

    def context(self) -> Context:
        edge = cast("Any", self)
        deps = Dependencies(
            kube=edge,
            nodes=edge,
            hosts=dict,
            now=float,
            operator_namespace="",
            leader=self.leads,
            generate_password=str,
            events=edge,
            watcher=edge,
            clock=float,
        )
        return Context(REF, deps, Passwords("a", "b", "c", "d"))


async def test_s10_it_is_written_down_once_it_is_up() -> None:
    stage = Stage()
    await fences.raise_fence(RAISE, stage.context())
    assert stage.done == [f"note raising {RAISE.record}", "set 1", f"note {RAISE.record}"]


async def test_s10_it_is_crossed_out_before_it_is_down() -> None:
    stage = Stage(note=RAISE.record)
    await fences.lower_fence(LOWER, stage.context())
    assert stage.done == ["note None", "set 0"]
    await fences.lower_fence(replace(LOWER, parameters=()), stage.context())
    assert stage.done[2:] == ["note None"]


@pytest.mark.parametrize("stage", [Stage(lag=None), Stage(lag=2), Stage(history="h2"), Stage(leads=lambda: False)])
async def test_it_is_not_raised_where_things_have_moved_on(stage: Stage) -> None:
    with pytest.raises(Doubt):
        await fences.raise_fence(RAISE, stage.context())
    assert not stage.done


async def test_s10_who_was_frozen_while_another_lowered_it_writes_nothing_down() -> None:
    stage = Stage(meddle=lambda stage: stage.write(None))
    with pytest.raises(Doubt, match="meanwhile"):
        await fences.raise_fence(RAISE, stage.context())
    assert stage.note is None


@pytest.mark.parametrize("stage", [Stage(deaf=True), Stage(meddle=lambda stage: setattr(stage, "history", "h2"))])
async def test_s10_what_is_not_seen_to_be_up_is_not_written_down(stage: Stage) -> None:
    with pytest.raises(Exception, match=r"shows another value|not the primary any more"):
        await fences.raise_fence(RAISE, stage.context())
    assert fence.Record.parse(stage.note or "") is None


@pytest.mark.parametrize("action", [RAISE, LOWER])
async def test_s10_one_in_whose_place_another_has_been_told_to_lead_meanwhile_is_left_alone(
    action: RaiseFence | LowerFence,
) -> None:
    stage = Stage(note=fence.replaced(RAISE.record))
    with pytest.raises(Doubt, match="in place of"):
        await _carry_out(action, stage)
    assert not stage.done
    await _carry_out(replace(action, known=stage.note or ""), stage)
    assert stage.done


async def _carry_out(action: RaiseFence | LowerFence, stage: Stage) -> None:
    if isinstance(action, RaiseFence):
        await fences.raise_fence(action, stage.context())
    else:
        await fences.lower_fence(action, stage.context())


async def test_s10_who_leads_no_more_lowers_nothing() -> None:
    stage = Stage(note=RAISE.record)
    stage.leads = lambda: stage.note is not None
    with pytest.raises(Doubt, match="does not lead"):
        await fences.lower_fence(LOWER, stage.context())
    assert stage.done == ["note None"]
