"""What the end of a CacheCluster does to volumes and passwords (S6)."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.api import KubeApi, NotFound
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.teardown import tear_down

REF = ClusterRef("shop", "cart", "uid-new")
OWNER = [{"kind": names.KIND, "name": "cart", "uid": REF.uid, "controller": True}]


class Shelf:
    """Just enough of the API server."""

    def __init__(self, policy: str | None, cluster_uid: str = REF.uid) -> None:
        self.deleted: list[str] = []
        self.pods: list[Mapping[str, Any]] = []
        self.records: list[Mapping[str, Any]] = []
        self.patches: list[Mapping[str, Any]] = []
        spec = {} if policy is None else {"deletionPolicy": policy}
        self.objects: dict[str, Mapping[str, Any]] = {
            names.KIND: {"metadata": {"name": "cart", "uid": cluster_uid}, "spec": spec},
            "Secret": {
                "metadata": {
                    "name": "cart-system",
                    "uid": "s",
                    "ownerReferences": OWNER,
                    "finalizers": [names.SYSTEM_SECRET_FINALIZER, "others/finalizer"],
                }
            },
        }

    async def get(self, _: str, kind: str, __: str, ___: str) -> Mapping[str, Any]:
        if kind not in self.objects:
            raise NotFound(kind)
        return self.objects[kind]

    async def list(self, _: str, kind: str, __: str, ___: str) -> Sequence[Mapping[str, Any]]:
        if kind == "StatefulSet":
            return [{"metadata": {"name": "cart-0", "uid": "a", "ownerReferences": OWNER}}]
        if kind == "Pod":
            return self.pods
        if kind == "ConfigMap":
            return self.records
        if kind == "ControllerRevision":
            return [{"metadata": {"name": f"cart-{i}-abc", "uid": "r"}} for i in range(2)]
        claims = {"data-cart-0-0": REF.uid, "data-cart-1-0": "uid-old"}
        return [
            {"metadata": {"name": n, "uid": n, "annotations": {names.ANNOTATION_CLUSTER_UID: uid}}}
            for n, uid in claims.items()
        ]

    async def delete(self, _: str, __: str, ___: str, name: str, **____: Any) -> None:
        self.deleted.append(name)

    async def merge_patch(self, _: str, __: str, ___: str, ____: str, patch: Mapping[str, Any]) -> None:
        self.patches.append(patch)


async def end(shelf: Shelf) -> Shelf:
    kube = cast("KubeApi", shelf)
    unused: Any = None
    await tear_down(REF, Dependencies(kube, unused, dict, float, "system", lambda: True, float, str, unused, unused))
    return shelf


@pytest.mark.parametrize("policy", [None, "Retain"])
async def test_s6_volumes_stay_unless_the_user_says_otherwise(policy: str | None) -> None:
    shelf = await end(Shelf(policy))
    assert shelf.deleted == []


async def test_s6_delete_takes_the_clusters_own_volumes_and_no_earlier_ones() -> None:
    shelf = await end(Shelf("Delete"))
    assert shelf.deleted == ["cart-0", "data-cart-0-0"]


async def test_s6_volumes_stay_when_another_cluster_bears_the_name_by_now() -> None:
    shelf = await end(Shelf("Delete", cluster_uid="uid-newer"))
    assert shelf.deleted == []


async def test_the_system_secret_is_let_go_and_others_finalizers_are_kept() -> None:
    shelf = await end(Shelf(None))
    assert shelf.patches == [{"metadata": {"uid": "s", "finalizers": ["others/finalizer"]}}]


def pod(name: str, controller: str | None) -> Mapping[str, Any]:
    """A member as the API server lists it."""
    owners = [{"kind": controller, "name": "x", "uid": "x", "controller": True}] if controller else []
    labels = {names.LABEL_SHARD: "0", names.LABEL_POD_NAME: name}
    meta = {"name": name, "uid": f"uid-{name}", "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels}
    return {"metadata": {**meta, "ownerReferences": owners}}


@pytest.mark.parametrize(
    ("recorded", "deleted"), [(False, ["cart-0-1"]), (True, ["cart-0-0", "cart-0-1", "cart-0-abc"])]
)
async def test_pods_that_are_between_two_statefulsets_go_with_the_cluster(recorded: bool, deleted: list[str]) -> None:
    shelf = Shelf(None)
    shelf.pods = [pod("cart-0-0", "StatefulSet"), pod("cart-0-1", None), pod("cart-0-2", "Job")]
    if recorded:  # the controller may still let the first one go
        meta = {"name": names.shard_record("cart", 0), "uid": "r", "ownerReferences": OWNER}
        shelf.records = [{"kind": "ConfigMap", "metadata": meta}]
    await end(shelf)
    assert shelf.deleted == deleted
