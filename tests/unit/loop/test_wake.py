"""Who is woken by what."""

import asyncio

import pytest

from cachecluster.domain.snapshot import ClusterRef
from cachecluster.reconcile.wake import ClusterKey, Wake, Wakes

CART, SHOP = ClusterKey("shop", "cart"), ClusterKey("shop", "sessions")


def ref(key: ClusterKey, uid: str = "uid-1") -> ClusterRef:
    return ClusterRef(key.namespace, key.name, uid)


async def woken(wake: Wake) -> bool:
    """Whether it is, without waiting."""
    stop: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiting = asyncio.ensure_future(wake.wait(stop, 3600.0))
    await asyncio.sleep(0)
    found = waiting.done()
    waiting.cancel()
    await asyncio.wait([waiting])
    return found


@pytest.fixture
def wakes() -> Wakes:
    return Wakes()


async def test_only_the_named_cluster_is_woken(wakes: Wakes) -> None:
    cart, sessions = wakes.register(ref(CART)), wakes.register(ref(SHOP))
    wakes.wake(CART)
    assert await woken(cart)
    assert not await woken(sessions)


async def test_a_cleared_flag_has_to_be_woken_anew(wakes: Wakes) -> None:
    cart = wakes.register(ref(CART))
    wakes.wake(CART, new_spec=True)
    cart.clear()
    assert not cart.new_spec
    assert not await woken(cart)


async def test_a_new_spec_among_other_causes_is_remembered(wakes: Wakes) -> None:
    cart = wakes.register(ref(CART))
    wakes.wake(CART, new_spec=True)
    wakes.wake(CART)
    assert cart.new_spec


async def test_an_unknown_cluster_is_nobodys_business(wakes: Wakes) -> None:
    wakes.wake(CART)
    assert not await woken(wakes.register(ref(CART)))


async def test_the_end_of_an_old_cluster_leaves_its_namesake_awake(wakes: Wakes) -> None:
    wakes.register(ref(CART, "old"))
    new = wakes.register(ref(CART, "new"))
    wakes.unregister(ref(CART, "old"))
    wakes.wake(CART)
    assert await woken(new)
    assert wakes.uid(CART) == "new"


async def test_a_node_wakes_the_clusters_that_have_pods_on_it(wakes: Wakes) -> None:
    cart, sessions = wakes.register(ref(CART)), wakes.register(ref(SHOP))
    wakes.pod_seen(CART, "cart-0-0", "n1")
    wakes.pod_seen(SHOP, "sessions-0-0", "n2")
    wakes.wake_on(["n1"])
    assert await woken(cart)
    assert not await woken(sessions)


async def test_a_pod_that_moved_or_went_counts_where_it_is(wakes: Wakes) -> None:
    cart = wakes.register(ref(CART))
    wakes.pod_seen(CART, "cart-0-0", "n1")
    wakes.pod_seen(CART, "cart-0-0", "n2")
    wakes.wake_on(["n1"])
    assert not await woken(cart)
    wakes.wake_on(["n2"])
    assert await woken(cart)
    cart.clear()
    wakes.pod_gone("shop", "cart-0-0")
    wakes.wake_on(["n2"])
    assert not await woken(cart)


async def test_an_unscheduled_pod_is_on_no_node(wakes: Wakes) -> None:
    cart = wakes.register(ref(CART))
    wakes.pod_seen(CART, "cart-0-0", None)
    wakes.wake_on(["n1", ""])
    assert not await woken(cart)


async def test_a_cluster_that_ended_leaves_no_pods_behind(wakes: Wakes) -> None:
    wakes.register(ref(CART))
    wakes.pod_seen(CART, "cart-0-0", "n1")
    wakes.unregister(ref(CART))
    successor = wakes.register(ref(CART, "uid-2"))
    wakes.wake_on(["n1"])
    assert not await woken(successor)
