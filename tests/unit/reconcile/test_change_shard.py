"""A roll goes on by what it has seen, unless somebody has taken another pod of the shard meanwhile (S7)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cachecluster.domain.actions import RollPod
from cachecluster.kube.api import NotFound
from cachecluster.reconcile import object_actions
from cachecluster.reconcile.context import Context, Doubt
from tests.unit.domain.building import REF, statefulset

ROLL = RollPod(0, 1, statefulset(0, 2), "uid-cart-0")


@dataclass
class Kube:
    """Pods by name, and what was applied."""

    pods: Mapping[str, dict[str, Any]]
    applied: list[str] = field(default_factory=list)

    async def get(self, _version: str, _kind: str, _namespace: str, name: str) -> dict[str, Any]:
        if name not in self.pods:
            raise NotFound(name)
        return self.pods[name]

    async def apply(self, manifest: Mapping[str, Any]) -> None:
        self.applied.append(manifest["metadata"]["name"])


async def applied(**pods: dict[str, Any]) -> list[str]:
    """What the roll of cart-0-1 applies while the pods are like this."""
    kube = Kube({name.replace("_", "-"): {"metadata": meta} for name, meta in pods.items()})
    deps = SimpleNamespace(kube=kube, leader=lambda: True)
    await object_actions.change_shard(ROLL, cast("Context", SimpleNamespace(ref=REF, deps=deps)))
    return kube.applied


async def test_a_pod_is_replaced_while_its_siblings_stay() -> None:
    assert await applied(cart_0_0={}, cart_0_1={}) == ["cart-0"]
    assert await applied(cart_0_1={}) == ["cart-0"]


async def test_s7_it_is_not_if_another_of_the_shard_has_just_been_deleted() -> None:
    with pytest.raises(Doubt, match="cart-0-0 is being deleted"):
        await applied(cart_0_0={"deletionTimestamp": "now"}, cart_0_1={})
    assert await applied(cart_0_0={}, cart_0_1={"deletionTimestamp": "now"}) == ["cart-0"]
