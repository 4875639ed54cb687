"""What the StatefulSet controller says of pods that it may not create."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from cachecluster.domain.snapshot import ObjectKey
from cachecluster.engines.client import NodeConnector
from cachecluster.kube.api import KubeApi, Rejected
from cachecluster.reconcile.dependencies import Memory, Senses
from cachecluster.reconcile.refused_pods import PATIENCE_SECONDS, refused_pods
from tests.unit.domain.building import REF, formed

QUOTA = 'pods "cart-1-0" is forbidden: exceeded quota: few, requested: pods=1, used: pods=5, limited: pods=5'


def event(uid: str, at: str, text: str) -> dict[str, Any]:
    message = f"create Pod cart-1-0 in StatefulSet cart-1 failed error: {text}"
    return {"involvedObject": {"uid": uid}, "reason": "FailedCreate", "lastTimestamp": at, "message": message}


@dataclass
class Namespace:
    """A cluster whose shard 1 lacks a pod, and what is said of it; time passes between the looks."""

    events: Sequence[Mapping[str, Any]] = ()
    readable: bool = True
    missing: str = "cart-1-0"
    asked: int = 0
    memory: Memory = field(default_factory=Memory)
    clock: float = 100.0

    async def list(self, _: str, kind: str, namespace: str, *, field_selector: str = "") -> Sequence[Mapping[str, Any]]:
        assert (kind, namespace) == ("Event", REF.namespace)
        assert field_selector == "involvedObject.kind=StatefulSet,reason=FailedCreate"
        self.asked += 1
        if not self.readable:
            raise Rejected("events is forbidden")
        return self.events

    async def look(self, after: float = 0.0) -> dict[str, str]:
        self.clock += after
        senses = Senses(
            kube=cast("KubeApi", self),
            nodes=cast("NodeConnector", None),
            hosts=dict,
            now=lambda: self.clock,
            operator_namespace="cachecluster-system",
            leader=lambda: True,
            clock=lambda: self.clock,
        )
        snap = formed(3, 1).snapshot()
        pods = [p for p in snap.pods if p.name != self.missing]
        assert ObjectKey("StatefulSet", "cart-1") in snap.children
        return await refused_pods(REF, senses, self.memory, snap.children, pods)


async def test_it_is_told_in_the_words_of_the_api_server() -> None:
    shop = Namespace([event("uid-cart-1", "2026-11-27T10:00:00Z", QUOTA)])
    await shop.look()
    assert await shop.look(after=PATIENCE_SECONDS) == {"cart-1": QUOTA}


async def test_the_latest_refusal_counts() -> None:
    later, earlier = "2026-11-27T10:05:00Z", "2026-11-27T10:00:00Z"
    shop = Namespace([event("uid-cart-1", later, QUOTA), event("uid-cart-1", earlier, "denied by a policy")])
    await shop.look()
    assert await shop.look(after=PATIENCE_SECONDS) == {"cart-1": QUOTA}


async def test_events_of_others_and_of_a_statefulset_of_before_say_nothing() -> None:
    shop = Namespace([event(uid, "2026-11-27T10:00:00Z", QUOTA) for uid in ("uid-before", "uid-cart-0")])
    await shop.look()
    assert await shop.look(after=PATIENCE_SECONDS) == {}


async def test_nobody_asks_while_a_pod_may_be_on_its_way_nor_when_all_are_there() -> None:
    shop = Namespace([event("uid-cart-1", "2026-11-27T10:00:00Z", QUOTA)])
    for _ in range(3):
        await shop.look()
        assert await shop.look(after=PATIENCE_SECONDS / 2) == {}
        shop.missing = ""
        assert await shop.look(after=PATIENCE_SECONDS) == {}
        shop.missing = "cart-1-0"
    assert shop.asked == 0


async def test_without_the_right_to_read_events_nothing_is_known() -> None:
    shop = Namespace(readable=False)
    await shop.look()
    assert await shop.look(after=PATIENCE_SECONDS) == {}
    assert shop.asked == 1
