"""What people are told of a node that takes long, and that nobody calls it stalled."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.reasons import Reason
from cachecluster.domain.nodes import ReplicaLink
from cachecluster.domain.planner import plan
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.syncing import catching_up
from tests.unit.domain.building import NOW, formed

GIB = 2**30
SYNCING = ReplicaLink(False, True, -1, None, "10.1.0.1", sync_received=GIB)


def slow(**view: Any) -> Snapshot:
    """The highest pod of shard 0 runs the new template for an hour, and is not in step yet; the others are old."""
    cluster = replace(formed(2), update="rev-t2", live_partition=1, template="t2")
    cluster = cluster.with_node(0, 1, revision="rev-t2", ready=False, up=False, down_seconds=-1)
    snap = cluster.snapshot()
    pods = tuple(replace(p, created_at=NOW - 3600) if p.name == "cart-0-1" else p for p in snap.pods)
    known = snap.view("cart-0-1")
    assert known is not None
    return replace(snap, pods=pods, views={**snap.views, "cart-0-1": replace(known, **view)})


@pytest.mark.parametrize(
    ("view", "text"),
    [
        ({"link": SYNCING}, "it copies its primary's data, 1024 MiB so far"),
        ({"link": replace(SYNCING, sync_percent=45)}, "it copies its primary's data, 45 % so far"),
        ({"link": replace(SYNCING, sync_received=0)}, "it copies its primary's data"),
        ({"loading": True, "loaded_percent": 70}, "it loads its data, 70 % so far"),
        ({"loading": True}, "it loads its data"),
    ],
)
def test_the_roll_waits_for_a_slow_sync_and_says_how_far_it_is(view: dict[str, Any], text: str) -> None:
    found = plan(slow(**view))
    assert not [b for b in found.blocks if b.reason is Reason.ROLLOUT_STALLED]
    assert f"the roll waits for cart-0-1 to be ready and in step: {text}" in [w.message for w in found.waits]


def test_who_is_late_and_does_nothing_has_stalled_the_roll() -> None:
    found = plan(slow())
    assert [b.reason for b in found.blocks] == [Reason.ROLLOUT_STALLED]


def test_who_is_in_step_needs_no_word() -> None:
    assert catching_up(formed(1).snapshot().view("cart-0-1")) == ""
    assert catching_up(None) == ""
