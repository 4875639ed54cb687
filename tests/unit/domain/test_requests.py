"""A requested restart reaches the pod template, and stays there when the request has gone."""

from cachecluster.api import names
from cachecluster.domain.requests import restarts
from cachecluster.domain.snapshot import Manifest, ObjectKey


def live(shard: int, restart: str | None) -> dict[ObjectKey, Manifest]:
    annotations = {names.ANNOTATION_RESTARTED: restart} if restart else None
    template = {"metadata": {"annotations": annotations}}
    return {ObjectKey("StatefulSet", f"cart-{shard}"): {"spec": {"template": template}}}


def test_without_a_request_there_is_nothing_to_say() -> None:
    assert restarts("cart", range(2), {}, live(0, None)) == {}
    assert restarts("cart", range(2), {names.ANNOTATION_RESTARTED: ""}, {}) == {}


def test_a_request_is_for_every_shard() -> None:
    assert restarts("cart", range(2), {names.ANNOTATION_RESTARTED: "noon"}, live(0, "dawn")) == {0: "noon", 1: "noon"}


def test_s9_a_request_that_has_gone_restarts_nobody() -> None:
    assert restarts("cart", range(2), {}, live(1, "noon")) == {1: "noon"}
