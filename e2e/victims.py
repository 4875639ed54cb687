"""Whom a scenario may take away so that the others can still elect: of several primaries only one at a time.

The scheduler may put two of them on one machine, and the failovers of earlier scenarios leave more of them in one zone
than elsewhere, for ten calm minutes.
"""

from collections import Counter
from collections.abc import Callable
from typing import Final

from e2e.cluster import Cluster, Member, zones_of_machines
from e2e.drain import cordoned
from e2e.kube import Kube

HAND_OVERS: Final = 3
"""More than three shards ever need."""

Place = Callable[[Member], str]


def machine(member: Member) -> str:
    """Its Kubernetes node."""
    return member.node


def zone(member: Member) -> str:
    """Its zone."""
    return member.zone


def lone_primary(cart: Cluster, place: Place, spared: str) -> Member:
    """A primary without another one in its place, and not where the scenario looks from; some hand over for that."""
    for _ in range(HAND_OVERS):
        primaries = [m for m in cart.members() if m.role == "primary"]
        held = Counter(map(place, primaries))
        lone = [m for m in primaries if held[place(m)] == 1 and place(m) != spared]
        if lone:
            return lone[0]
        cart.hand_over(next(m.shard for m in primaries if held[place(m)] > 1))
    raise AssertionError(f"no primary of {cart.members()} can be taken away")


def lone_primary_on(kube: Kube, cart: Cluster, node: str) -> Member:
    """The only primary on a machine, which a pod is brought to and roles are handed over for."""
    if all(m.node != node for m in cart.members()):
        _bring(kube, cart, node)
    if not _led_from(cart, node):
        cart.hand_over(next(m.shard for m in cart.members() if m.node == node))
    for surplus in _led_from(cart, node)[1:]:
        cart.hand_over(surplus.shard)
    [found] = _led_from(cart, node)
    return found


def _led_from(cart: Cluster, node: str) -> list[Member]:
    return [m for m in cart.members() if m.node == node and m.role == "primary"]


def _bring(kube: Kube, cart: Cluster, node: str) -> None:
    """Have a pod of the same zone come back on this machine."""
    zones = zones_of_machines(kube)
    moved = next(m for m in cart.members() if m.zone == zones[node])
    with cordoned(kube, *(other for other, at in zones.items() if at == zones[node] and other != node)):
        kube.delete("Pod", cart.namespace, moved.name)
        cart.until("a pod is on that machine", lambda: any(m.node == node for m in cart.members()))
        cart.until_whole()
