"""Leadership under a clock that the tests move; several candidates share one fake API server."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest

from cachecluster.kube.api import Conflict, KubeApi, NotFound, Unavailable
from cachecluster.kube.lease import LEASE_SECONDS, RENEW_DEADLINE, Lease, identity_of_pod


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)

    async def until(self, moment: float, task: "asyncio.Future[None]") -> None:
        """Let the sleepers run until ``moment``, or until ``task`` has ended."""
        while self.now < moment and not task.done():  # noqa: ASYNC110 - time is theirs to move
            await asyncio.sleep(0)


class LeaseServer:
    """The few verbs that a Lease needs, with resourceVersions; can be away, or lose replies."""

    def __init__(self) -> None:
        self.stored: dict[str, Any] | None = None
        self.versions = itertools.count(1)
        self.away = False
        self.lose_next_reply = False

    def _check(self) -> None:
        if self.away:
            raise Unavailable("connection refused")

    async def get(self, *_: str) -> dict[str, Any]:
        self._check()
        if self.stored is None:
            raise NotFound("no lease")
        return self.stored

    async def create(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self._check()
        if self.stored is not None:
            raise Conflict("exists")
        return self._store(manifest)

    async def replace(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        self._check()
        if self.stored is None:
            raise NotFound("no lease")
        if manifest["metadata"]["resourceVersion"] != self.stored["metadata"]["resourceVersion"]:
            raise Conflict("stale")
        return self._store(manifest)

    def _store(self, manifest: Mapping[str, Any]) -> dict[str, Any]:
        metadata = {**manifest["metadata"], "resourceVersion": str(next(self.versions))}
        self.stored = {**manifest, "metadata": metadata}
        if self.lose_next_reply:
            self.lose_next_reply = False
            raise Unavailable("the reply was lost")
        return self.stored

    @property
    def holder(self) -> str:
        return str((self.stored or {}).get("spec", {}).get("holderIdentity"))


class Lost(BaseException):
    """What the process would not survive."""


def die() -> None:
    raise Lost


def candidate(server: LeaseServer, clock: Clock, identity: str, lost: Callable[[], None] = die) -> Lease:
    return Lease(
        cast("KubeApi", server),
        namespace="ops",
        name="operator",
        identity=identity,
        clock=clock,
        sleep=clock.sleep,
        jitter=lambda: 0.0,
        lost=lost,
    )


async def keep_for(lease: Lease, clock: Clock, seconds: float) -> None:
    """Let a holder renew for so long."""
    task = asyncio.ensure_future(lease.keep())
    await clock.until(clock.now + seconds, task)
    if task.done():
        await task
    task.cancel()
    await asyncio.wait([task])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> LeaseServer:
    return LeaseServer()


async def test_the_first_candidate_leads_at_once(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    assert not lease.held()
    await lease.acquire()
    assert lease.held()
    assert server.holder == "a_1"
    assert clock.now == 1000.0


async def test_a_holder_that_renews_goes_on_leading(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    await lease.acquire()
    await keep_for(lease, clock, 100.0)
    assert lease.held()
    assert server.stored is not None
    assert server.stored["spec"]["leaseTransitions"] == 0


async def test_a_dead_holder_is_replaced_only_after_its_whole_term_was_watched(
    server: LeaseServer, clock: Clock
) -> None:
    await candidate(server, clock, "a_1").acquire()
    clock.now += 3600.0  # However long ago that was: nobody's wall clock is trusted, only what we saw ourselves.
    seen = clock.now
    successor = candidate(server, clock, "b_1")
    await successor.acquire()
    assert LEASE_SECONDS <= clock.now - seen <= LEASE_SECONDS + 2.0
    assert server.holder == "b_1"


async def test_a_candidate_waits_as_long_as_the_holder_renews(server: LeaseServer, clock: Clock) -> None:
    holder, waiting = candidate(server, clock, "a_1"), candidate(server, clock, "b_1")
    await holder.acquire()
    task = asyncio.ensure_future(waiting.acquire())
    await keep_for(holder, clock, 120.0)
    assert not task.done()
    assert holder.held()
    assert not waiting.held()
    task.cancel()


async def test_the_holders_right_ends_before_anybody_else_can_take_over(server: LeaseServer, clock: Clock) -> None:
    holder, successor = candidate(server, clock, "a_1"), candidate(server, clock, "b_1")
    await holder.acquire()
    task = asyncio.ensure_future(successor.acquire())
    while not successor.held():
        assert not (holder.held() and clock.now - 1000.0 >= RENEW_DEADLINE)
        await asyncio.sleep(0)
    assert not holder.held()
    await task


async def test_a_released_lease_is_taken_at_the_next_look(server: LeaseServer, clock: Clock) -> None:
    holder, successor = candidate(server, clock, "a_1"), candidate(server, clock, "b_1")
    await holder.acquire()
    await holder.release()
    assert not holder.held()
    before = clock.now
    await successor.acquire()
    assert clock.now == before


async def test_a_restarted_container_takes_over_from_its_dead_predecessor_at_once(
    server: LeaseServer, clock: Clock
) -> None:
    await candidate(server, clock, identity_of_pod("op-7")).acquire()
    before = clock.now
    await candidate(server, clock, identity_of_pod("op-7")).acquire()
    assert clock.now == before


async def test_two_processes_outside_of_pods_never_pass_for_each_other(server: LeaseServer, clock: Clock) -> None:
    await candidate(server, clock, identity_of_pod(None)).acquire()
    before = clock.now
    await candidate(server, clock, identity_of_pod(None)).acquire()
    assert clock.now - before >= LEASE_SECONDS


async def test_a_holder_that_cannot_renew_ends_at_the_deadline(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    await lease.acquire()
    server.away = True
    with pytest.raises(Lost):
        await lease.keep()
    assert clock.now == pytest.approx(1000.0 + RENEW_DEADLINE)
    assert not lease.held()


async def test_a_short_outage_costs_nothing(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    await lease.acquire()
    server.away = True
    await keep_for(lease, clock, RENEW_DEADLINE / 2)
    server.away = False
    await keep_for(lease, clock, 60.0)
    assert lease.held()


async def test_a_lost_reply_to_a_renewal_is_no_loss(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    await lease.acquire()
    server.lose_next_reply = True
    await keep_for(lease, clock, 30.0)
    assert lease.held()


async def test_a_holder_whose_lease_was_taken_ends(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    await lease.acquire()
    assert server.stored is not None
    server._store({**server.stored, "spec": {**server.stored["spec"], "holderIdentity": "b_1"}})
    with pytest.raises(Lost):
        await lease.keep()
    assert server.holder == "b_1"


async def test_a_process_that_was_frozen_finds_out_before_it_acts(server: LeaseServer, clock: Clock) -> None:
    lease = candidate(server, clock, "a_1")
    await lease.acquire()
    clock.now += RENEW_DEADLINE + 1.0  # CLOCK_BOOTTIME goes on; nothing else of the process did
    assert not lease.held()
    with pytest.raises(Lost):
        await lease.keep()


async def test_of_two_candidates_that_see_a_free_lease_one_leads(server: LeaseServer, clock: Clock) -> None:
    candidates = [candidate(server, clock, f"{n}_1") for n in "ab"]
    tasks = [asyncio.ensure_future(c.acquire()) for c in candidates]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    assert sum(c.held() for c in candidates) == 1
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_waiting_outlasts_an_api_server_that_is_away(server: LeaseServer, clock: Clock) -> None:
    server.away = True
    lease = candidate(server, clock, "a_1")
    task = asyncio.ensure_future(lease.acquire())
    await clock.until(1600.0, task)
    assert not task.done()
    server.away = False
    await task
    assert lease.held()
