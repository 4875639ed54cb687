"""Leadership by a coordination.k8s.io Lease, judged by this machine's own clock alone (design: Leadership).

The holder may act until ``RENEW_DEADLINE`` after it *sent* its last successful renewal; another candidate takes over
no sooner than ``LEASE_SECONDS`` after it *saw* that renewal. Neither compares the wall clocks of two machines, and
CLOCK_BOOTTIME goes on while a machine sleeps, so a holder that was frozen finds out before it acts again.
"""

import asyncio
import contextlib
import logging
import os
import random
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cachecluster.kube.api import Conflict, KubeApi, KubeError, NotFound

LEASE_SECONDS: Final = 15
RENEW_DEADLINE: Final = 10.0
RETRY_SECONDS: Final = 2.0
_API: Final = "coordination.k8s.io/v1"

log = logging.getLogger(__name__)


def boot_time() -> float:
    """Seconds since the machine started, sleep included (Linux, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def identity_of_pod(pod_name: str | None) -> str:
    """Who holds the lease: ``<pod>_<process>``. Outside a pod, a name that no other process has."""
    process = uuid.uuid4().hex[:8]
    return f"{pod_name}_{process}" if pod_name else f"{socket.gethostname()}-{process}_{process}"


def exit_at_once() -> None:
    """End the process without cleaning up: anything more could be an action of a leader that is none."""
    os._exit(1)


@dataclass(frozen=True, slots=True)
class _Sighting:
    """The last change of somebody else's lease and when we saw it, by our own clock."""

    version: str
    at: float


class Lease:
    """Acquire, renew and give back one Lease. ``held()`` is the question to ask before every action."""

    def __init__(
        self,
        kube: KubeApi,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Callable[[], float] = boot_time,
        sleep: Callable[[float], Any] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        lost: Callable[[], None] = exit_at_once,
    ) -> None:
        """``kube`` should have connections and a time-out of its own, below the renew deadline."""
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._lost = lost
        self._renewed: float | None = None
        self._held_by_us: dict[str, Any] | None = None
        self._sighting: _Sighting | None = None
        self._answered: float | None = None
        self._failure = ""

    def held(self) -> bool:
        """Whether this process may act right now."""
        return self._renewed is not None and self._clock() < self._renewed + RENEW_DEADLINE

    def watching(self, within: float) -> bool:
        """Whether the API server has answered about the lease in the last ``within`` seconds."""
        return self._answered is not None and self._clock() < self._answered + within

    async def acquire(self) -> None:
        """Wait until the lease is ours. Failures of the API server are waited out; each kind is logged once."""
        said = ""
        while not await self._try():
            if self._failure and self._failure != said:
                log.warning("cannot read the lease, going on trying: %s", self._failure)
            said = self._failure
            await self._sleep(RETRY_SECONDS * (1 + 0.2 * self._jitter()))
        log.info("leading as %s", self._identity)

    async def _try(self) -> bool:
        """One attempt to take the lease."""
        started = self._clock()
        self._failure = ""
        try:
            found = await self._read()
            self._answered = self._clock()
            if found is not None and not self._may_take(found):
                return False
            self._held_by_us = await self._write(found)
        except Conflict:
            return False
        except KubeError as error:
            self._failure = str(error)
            return False
        self._renewed = started
        return True

    def _may_take(self, found: dict[str, Any]) -> bool:
        """Free, or left by a process of our own pod that must be dead, or unchanged for its whole duration."""
        spec = found.get("spec") or {}
        holder = str(spec.get("holderIdentity") or "")
        if not holder or holder.partition("_")[0] == self._identity.partition("_")[0]:
            return True
        version = found["metadata"]["resourceVersion"]
        if self._sighting is None or self._sighting.version != version:
            self._sighting = _Sighting(version, self._clock())
            return False
        return self._clock() >= self._sighting.at + float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    async def keep(self) -> None:
        """Renew until cancelled. When the lease is lost, ``lost`` is called: by default the process ends there."""
        while True:
            pause = RETRY_SECONDS * (1 + 0.2 * self._jitter())
            await self._sleep(max(0.0, min(pause, self._remaining())))
            why = await self._renew()
            if why is not None:
                log.critical("leadership lost: %s", why)
                self._renewed = None
                self._lost()
                return

    def _remaining(self) -> float:
        """Seconds until the deadline of the next renewal."""
        return (self._renewed or 0.0) + RENEW_DEADLINE - self._clock()

    async def _renew(self) -> str | None:
        """Renew once; says why if the lease is lost. A lost reply is settled by the next attempt's fresh read."""
        started = self._clock()
        try:
            async with asyncio.timeout(max(0.0, self._remaining())):
                found = self._held_by_us or await self._read()
                self._held_by_us = None
                holder = (found or {}).get("spec", {}).get("holderIdentity")
                if holder != self._identity:
                    return f"{holder or 'nobody'} holds the lease"
                self._held_by_us = await self._write(found)
        except (KubeError, TimeoutError) as error:
            if self.held():
                log.warning("could not renew the lease, trying again: %s", error)
                return None
            return f"not renewed for {RENEW_DEADLINE:.0f} s: {str(error) or 'no answer'}"
        if not self.held():
            # Frozen past the deadline: others may have acted meanwhile, even though the write went through.
            return f"not renewed for {RENEW_DEADLINE:.0f} s: this process or the answers stood still"
        self._renewed = self._answered = started
        return None

    async def release(self) -> None:
        """Give the lease back, so that the successor need not wait. Best effort, bounded by the client's time-out."""
        if self._renewed is None:
            return
        self._renewed = None
        with contextlib.suppress(KubeError):
            found = await self._read()
            if found is not None and found["spec"].get("holderIdentity") == self._identity:
                await self._kube.replace(found | {"spec": found["spec"] | {"holderIdentity": "", "renewTime": _now()}})

    async def _read(self) -> dict[str, Any] | None:
        try:
            return await self._kube.get(_API, "Lease", self._namespace, self._name)
        except NotFound:
            return None

    async def _write(self, found: dict[str, Any] | None) -> dict[str, Any]:
        """Create or replace the lease in our name; raises Conflict if it is not what we saw."""
        now = _now()
        old = (found or {}).get("spec") or {}
        same = old.get("holderIdentity") == self._identity
        spec = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "acquireTime": old["acquireTime"] if same else now,
            "renewTime": now,
            "leaseTransitions": int(old.get("leaseTransitions") or 0) + (0 if same or not old else 1),
        }
        if found is not None:
            return await self._kube.replace(found | {"spec": spec})
        metadata = {"namespace": self._namespace, "name": self._name}
        return await self._kube.create({"apiVersion": _API, "kind": "Lease", "metadata": metadata, "spec": spec})


def _now() -> str:
    """For people who read the Lease; nothing is decided by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
