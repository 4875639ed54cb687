"""What is read from watch events."""

from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.handlers.news import ClusterNews, cluster_of, orphaned_system_secret, ref_of
from cachecluster.reconcile.wake import ClusterKey

OWNER = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": "cart", "uid": "uid-1", "controller": True}


def body(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "shop", "name": "cart", "uid": "uid-1", "generation": 1, **metadata}}


@pytest.fixture
def news() -> ClusterNews:
    news = ClusterNews()
    news.observe(ref_of(body()), body())
    return news


def test_the_first_sight_is_news_of_a_new_spec() -> None:
    assert ClusterNews().observe(ref_of(body()), body()) == (True, True)


def test_the_echo_of_a_status_write_is_none(news: ClusterNews) -> None:
    echo = {**body(resourceVersion="99", managedFields=[{"manager": "us"}]), "status": {"conditions": []}}
    assert news.observe(ref_of(echo), echo) == (False, False)


def test_an_edited_spec_is_news_of_a_new_spec(news: ClusterNews) -> None:
    assert news.observe(ref_of(body()), body(generation=2)) == (True, True)


@pytest.mark.parametrize(
    "metadata",
    [
        {"finalizers": [names.FINALIZER]},
        {"annotations": {"a": "b"}},
        {"labels": {"a": "b"}},
        {"deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
)
def test_edited_metadata_are_news_but_not_of_the_spec(news: ClusterNews, metadata: dict[str, Any]) -> None:
    assert news.observe(ref_of(body()), body(**metadata)) == (True, False)


def test_conditions_are_reduced_to_their_status() -> None:
    status = {"conditions": [{"type": "Ready", "status": "True", "reason": "R", "message": "m"}]}
    assert ClusterNews.conditions({**body(), "status": status}) == {"Ready": "True"}
    assert ClusterNews.conditions(body()) == {}


def test_a_child_belongs_to_its_owner_whatever_its_label_says() -> None:
    edited = body(name="cart-0", ownerReferences=[OWNER], labels={names.LABEL_CLUSTER: "other"})
    assert cluster_of(edited) == ClusterKey("shop", "cart")


def test_a_pod_belongs_to_the_cluster_of_its_label() -> None:
    owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "cart-0", "uid": "s"}
    pod = body(name="cart-0-0", ownerReferences=[owner], labels={names.LABEL_CLUSTER: "cart"})
    assert cluster_of(pod) == ClusterKey("shop", "cart")


def test_an_object_of_nobody_belongs_to_no_cluster() -> None:
    assert cluster_of(body()) is None


def test_a_system_secret_that_waits_for_us_names_its_owner() -> None:
    waiting = body(
        finalizers=[names.SYSTEM_SECRET_FINALIZER], deletionTimestamp="2026-01-01T00:00:00Z", ownerReferences=[OWNER]
    )
    assert orphaned_system_secret(waiting) == ClusterRef("shop", "cart", "uid-1")


@pytest.mark.parametrize(
    "metadata",
    [
        {"finalizers": [names.SYSTEM_SECRET_FINALIZER], "ownerReferences": [OWNER]},
        {"deletionTimestamp": "2026-01-01T00:00:00Z", "ownerReferences": [OWNER]},
        {"finalizers": [names.SYSTEM_SECRET_FINALIZER], "deletionTimestamp": "2026-01-01T00:00:00Z"},
    ],
    ids=["alive", "another finalizer", "no owner"],
)
def test_other_secrets_do_not(metadata: dict[str, Any]) -> None:
    assert orphaned_system_secret(body(**metadata)) is None
