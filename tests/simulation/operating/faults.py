"""What happens to an operator's requests on the way, and when its process dies: chance decides, reproducibly."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from cachecluster.engines.client import NodeError, NodeUnreachable
from cachecluster.kube.api import Conflict, KubeError, Throttled, Unavailable

if TYPE_CHECKING:
    from tests.simulation.clock import Clock
    from tests.simulation.engine.node import Node

T = TypeVar("T")
STALE_SECONDS = 3.0
"""A stale list is at most this old."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities per request."""

    crash: float = 0.0
    """The operator's process dies before or after it."""
    lost_reply: float = 0.0
    """It is carried out, and the answer is lost."""
    lost_request: float = 0.0
    """It never arrives."""
    conflict: float = 0.0
    throttle: float = 0.0
    stale_list: float = 0.0
    """A list shows an earlier state."""
    stale_index: float = 0.0
    """What the process keeps of the Kubernetes nodes shows what it showed last time."""
    repeated: float = 0.0
    """A request to the API server arrives twice: something on the way there has sent it again."""


NO_FAULTS = Faults()


class Killed(BaseException):
    """The operator's process is dead; nothing that it still tries has an effect."""


class Interference:
    """Stands between one incarnation of the operator and the world."""

    def __init__(self, clock: "Clock", faults: Faults, name: str) -> None:
        self.clock, self.faults = clock, faults
        self.chance = clock.chance(f"faults {name}")
        self.dead = False
        self.requests = 0
        """Requests so far that would change something."""
        self.writes = 0
        """Requests that change something and were sent."""
        self._frozen_until = 0.0
        self.messages = 0
        """All that it has sent so far, questions too."""
        self.freeze_at: int | None = None
        """Number of the message before which it stands still."""
        self.on_freeze: Callable[[], None] = lambda: None
        self.die_at: int | None = None
        """Number of the request around which to die: 2n before, 2n + 1 after request n."""
        self.api_down = False
        self.on_death: Callable[[], None] = lambda: None
        self.before_command: Callable[[Node, str, tuple[Any, ...]], None] = lambda *_: None
        self.sending: Callable[[str, tuple[Any, ...]], None] = lambda *_: None
        self.trace: Callable[[str], None] = lambda _: None

    def _alive(self) -> None:
        if self.dead:
            raise Killed

    def die(self) -> None:
        """End this incarnation."""
        if not self.dead:
            self.dead = True
            self.trace("operator dies")
            self.on_death()
        raise Killed

    def _maybe_die(self, point: int) -> None:
        if self.die_at == point or self.chance.random() < self.faults.crash / 2:
            self.die()

    def freeze(self, until: float) -> None:
        """The process stands still until then (loop time); what it was about to send goes out afterwards."""
        self._frozen_until = until

    async def _travel(self) -> None:
        self.messages += 1
        if self.messages == self.freeze_at:
            self.on_freeze()
        await self.clock.sleep(0.0005 + 0.003 * self.chance.random())
        if self._frozen_until:
            await self._thaw()
        self._alive()

    async def _thaw(self) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._frozen_until:
            await asyncio.sleep(self._frozen_until - now)

    def notice(self, news: Callable[[], None]) -> None:
        """A connection has ended: a frozen process hears of it when it wakes up, a dead one never does."""
        delay = self._frozen_until - asyncio.get_running_loop().time()
        self.clock.later(max(0.0, delay), lambda: None if self.dead else news())

    async def time_out(self, seconds: float) -> None:
        """Nobody answers."""
        await asyncio.sleep(seconds)
        self._alive()

    # -- engine nodes ----------------------------------------------------------------------------------------------

    async def connect(self, ip: str) -> None:
        """Open a connection."""
        self._alive()
        await self._travel()
        if self.chance.random() < self.faults.lost_request:
            raise NodeUnreachable(f"{ip}: connection reset")

    async def node_read(self, node: "Node") -> None:
        """A question to a node."""
        self._alive()
        await self._travel()
        if self.chance.random() < self.faults.lost_reply / 4:
            raise NodeUnreachable(f"{node.ip}: connection reset")

    async def node_write(
        self, node: "Node", name: str, arguments: tuple[Any, ...], carry_out: Callable[[], None]
    ) -> None:
        """A command to a node."""
        self.sending(name, arguments)
        self.trace(f"{node.ip} {node.node_id[:6]} {name} {' '.join(str(a)[:48] for a in arguments)}")
        await self._write(carry_out, lambda: NodeUnreachable(f"{node.ip}: connection reset"))

    # -- Kubernetes ------------------------------------------------------------------------------------------------

    async def kube_read(self, read: Callable[[float], T]) -> T:
        """A question to the API server; the argument is how many seconds old the answer is."""
        self._alive()
        await self._travel()
        self._refuse()
        stale = self.chance.random() < self.faults.stale_list
        return read(STALE_SECONDS * self.chance.random() if stale else 0.0)

    def _refuse(self) -> None:
        if self.api_down or self.chance.random() < self.faults.lost_request / 4:
            raise Unavailable("the API server does not answer")

    async def kube_write(self, what: str, write: Callable[[], T]) -> T:
        """A change."""
        self.trace(what)
        if self.api_down:
            self._alive()
            await self._travel()
            raise Unavailable("the API server does not answer")
        if self.chance.random() < self.faults.throttle:
            raise Throttled("too many requests", retry_after=1.0)
        if self.chance.random() < self.faults.conflict:
            raise Conflict("the object has been modified")
        lost = partial(Unavailable, "the API server does not answer")
        return await self._write(partial(self._perhaps_twice, write), lost)

    def _perhaps_twice(self, write: Callable[[], T]) -> T:
        if self.faults.repeated and self.chance.random() < self.faults.repeated:
            self._late(write)
        return write()

    async def _write(self, carry_out: Callable[[], T], lost: Callable[[], Exception]) -> T:
        """Die before it, carry it out, die after it: each with its chance, or at the chosen request."""
        self._alive()
        number, self.requests = self.requests, self.requests + 1
        self._maybe_die(2 * number)
        dice = self.chance.random()
        if dice < self.faults.lost_request:
            await self._travel()
            raise lost()
        try:
            await self._travel()
        except Killed:
            if self.chance.random() < 0.5:  # it was on the wire already
                self._late(carry_out)
            raise
        self.writes += 1
        result = carry_out()
        self._maybe_die(2 * number + 1)
        if dice > 1 - self.faults.lost_reply:
            raise lost()
        await self._travel()
        return result

    def _late(self, carry_out: Callable[[], Any]) -> None:
        """A request of a dead process arrives all the same; or one arrives once more."""

        def arrive() -> None:
            with contextlib.suppress(KubeError, NodeError):  # nobody is there to hear of a refusal
                carry_out()

        self.clock.later(0.2 * self.chance.random(), arrive)
