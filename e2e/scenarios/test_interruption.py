"""The operator dies, again and again, at the worst times; a new one finds out where things stand."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import pytest

from e2e import client
from e2e.client import Client
from e2e.cluster import ROLE_LABEL, SHARD_LABEL, SLOTS, Cluster, small_spec
from e2e.install import Installation, until_operator_ready
from e2e.kube import Kube
from e2e.leadership import Leader, Leadership
from e2e.platform import Faults
from e2e.recorder import Recorder
from e2e.slots import SlotWatch

pytestmark = pytest.mark.alone

KILLS: Final = 20
"""During one 3 -> 6 -> 3."""
KEYS_PER_SLOT: Final = 50
"""So that slots are still on the move when the last of those kills strikes that are to strike meanwhile."""
STEP: Final = 500
"""Slots that every leader moves, at least, before it is killed."""
STEPS: Final = 7
MOVING: Final = SLOTS // 2 - 1
"""Of 3 -> 6: three shards of 5461 or 5462 keep 2730 or 2731 each."""
RESHARD_SECONDS: Final = 120.0

Moment = tuple[str, Callable[[], bool]]


@dataclass
class Assassin:
    """Kills the process that leads, at one moment after the other."""

    leadership: Leadership
    cart: Cluster
    last: Leader | None = None
    kills: int = 0

    def strike(self, moment: Moment) -> None:
        """Wait until another process than the last one leads, and for the moment; then SIGKILL to that process."""
        what, is_there = moment
        leader = self.leadership.next(self.last)
        self.cart.until(f"{what}, with {leader.pod} in the lead", is_there, RESHARD_SECONDS)
        self.leadership.kill(leader)
        self.last = leader
        self.kills += 1


@pytest.fixture
def assassin(kube: Kube, cart: Cluster, faults: Faults) -> Iterator[Assassin]:
    """Of those that look after the shared cluster; leaves a whole operator."""
    until_operator_ready(kube)
    yield Assassin(Leadership(kube, faults), cart)
    until_operator_ready(kube)


def test_operator_killed_again_and_again_during_formation(
    installation: Installation, here: str, faults: Faults
) -> None:
    kube = installation.kube
    cart = Cluster(kube, here, "cart")
    until_operator_ready(kube)
    assassin = Assassin(Leadership(kube, faults), cart)
    cart.apply(small_spec(shards=3, replicas=1))
    for moment in formation(cart):
        assassin.strike(moment)
    cart.until_whole()
    until_operator_ready(kube)
    cart.assert_spread()
    application = client.start(kube, installation.image, here, "cart")
    application.write(100, "first")
    views = application.ask("nodes")
    assert {len(view) for view in views.values()} == {6}, f"nodes disagree: {views}"
    assert_passwords_are_the_first(cart, application)


def formation(cart: Cluster) -> Iterator[Moment]:
    """What comes into being, and by which step of the operator, in this order."""
    yield "there are passwords", lambda: bool(cart.secret("system"))
    yield "there is a StatefulSet", lambda: bool(sets(cart))
    yield "there is a pod", lambda: bool(cart.pods())
    yield "a node runs", lambda: any(m.ip for m in cart.members())
    yield "a primary is labelled", lambda: "primary" in roles(cart)
    yield "a replica is labelled", lambda: "replica" in roles(cart)


def test_operator_killed_twenty_times_while_shards_come_and_go(
    installation: Installation, cart: Cluster, shopper: Client, recorder: Recorder, assassin: Assassin
) -> None:
    shopper.seed(KEYS_PER_SLOT)
    slots = SlotWatch(installation.kube, cart.namespace, cart.name, installation.image)
    victims = set()
    with slots.watching(), recorder.writing():
        for shards, moments in ((6, growth(cart, slots)), (3, shrinkage(cart, slots))):
            cart.edit({"topology": {"shards": shards}})
            for moment in moments:
                assassin.strike(moment)
                victims.add(assassin.last.pod if assassin.last else "")
            cart.until_whole(RESHARD_SECONDS)
            cart.assert_even(shards)
    assert assassin.kills == KILLS
    assert len(victims) == KILLS, "each kill was of another pod: those of the Deployment took turns"
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == recorder.history.errors == 0, str(recorder.history)
    assert shopper.seeded(KEYS_PER_SLOT) == SLOTS * KEYS_PER_SLOT
    views = shopper.ask("nodes")
    assert {len(view) for view in views.values()} == {6}, f"nodes disagree: {views}"


def growth(cart: Cluster, slots: SlotWatch) -> Iterator[Moment]:
    """Each moment needs something that only the process does which leads by then."""
    yield "there is a StatefulSet of a new shard", lambda: len(sets(cart)) > 3
    yield "a replica of a new shard is labelled", lambda: "replica" in roles(cart, of=(3, 4, 5))
    yield "slots have begun to move", lambda: slots.moved() > 0
    for _ in range(STEPS):
        goal = slots.moved() + STEP
        yield f"{goal} slots have moved", lambda goal=goal: slots.moved() >= goal  # type: ignore[misc]
        assert slots.moved() < MOVING, "all slots have arrived before the last kill that was to strike on their way"


def shrinkage(cart: Cluster, slots: SlotWatch) -> Iterator[Moment]:
    """The same on the way back."""
    yield "slots have begun to move back", lambda: slots.moved() < MOVING
    for _ in range(STEPS):
        goal = slots.moved() - STEP
        yield f"{goal} slots are left to move", lambda goal=goal: slots.moved() <= goal  # type: ignore[misc]
        assert slots.moved() > 0, "all slots were back before the last kill that was to strike on their way"
    yield "the last slot is back", lambda: slots.moved() == 0
    yield "a StatefulSet is gone", lambda: len(sets(cart)) < 6


def sets(cart: Cluster) -> list[str]:
    """Names of the StatefulSets."""
    return [s["metadata"]["name"] for s in cart.kube.list("StatefulSet", cart.namespace)]


def roles(cart: Cluster, of: tuple[int, ...] = (0, 1, 2)) -> set[str]:
    """That the pods of some shards are labelled with."""
    labels = [p["metadata"]["labels"] for p in cart.pods()]
    return {label[ROLE_LABEL] for label in labels if ROLE_LABEL in label and int(label[SHARD_LABEL]) in of}


def assert_passwords_are_the_first(cart: Cluster, application: client.Client) -> None:
    """The system Secret was made once: the application's password in it is the one that works."""
    assert cart.secret("system")["data"]["application-password"] == cart.secret("auth")["data"]["password"]
    assert application.ask("ping") == "PONG"
