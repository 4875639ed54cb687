"""A pod is deleted only if it still is the one that was seen, and still does not run (S1)."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.domain.actions import Delete
from cachecluster.domain.snapshot import ClusterRef, ObjectKey
from cachecluster.kube.api import KubeApi
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.object_actions import delete

REF = ClusterRef("shop", "cart", "uid-cart")


class Shelf:
    """Just enough of the API server: one pod."""

    def __init__(self, uid: str, ready: str) -> None:
        self.deleted: list[str] = []
        self._pod = {
            "metadata": {
                "name": "cart-0-1",
                "uid": uid,
                "labels": {names.LABEL_SHARD: "0"},
                "ownerReferences": [{"kind": "StatefulSet", "controller": True}],
                "creationTimestamp": "2026-01-31T12:00:00Z",
            },
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]},
        }

    async def get(self, *_: str) -> Mapping[str, Any]:
        return self._pod

    async def delete(self, _: str, __: str, ___: str, name: str, **____: Any) -> None:
        self.deleted.append(name)


async def attempt(shelf: Shelf) -> None:
    unused: Any = None
    deps = Dependencies(
        kube=cast("KubeApi", shelf),
        nodes=unused,
        watcher=unused,
        hosts=dict,
        now=float,
        generate_password=str,
        operator_namespace="system",
        events=unused,
        leader=lambda: True,
        clock=float,
    )
    await delete(Delete(ObjectKey("Pod", "cart-0-1"), "uid-1", None), Context(REF, deps, None))


async def test_a_pod_that_is_down_goes() -> None:
    shelf = Shelf("uid-1", "False")
    await attempt(shelf)
    assert shelf.deleted == ["cart-0-1"]


@pytest.mark.parametrize(("uid", "ready"), [("uid-1", "True"), ("uid-2", "False")], ids=["ready", "another"])
async def test_s1_a_pod_that_is_ready_by_now_or_another_one_stays(uid: str, ready: str) -> None:
    shelf = Shelf(uid, ready)
    with pytest.raises(Doubt):
        await attempt(shelf)
    assert not shelf.deleted
