"""Virtual time: an asyncio event loop that never waits, so that minutes of cluster life pass in milliseconds."""

import asyncio
import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

EPOCH: Final = 1_700_000_000.0
"""Unix time at which every simulated world starts."""


class Deadlock(AssertionError):
    """Nothing is scheduled and nothing can run: some coroutine waits for ever."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their virtual times. No sockets, no threads, no child processes.

    Most of what happens are plain callbacks of the models: they are kept without a handle and a context each.
    """

    _ready: deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._serial = itertools.count()
        self._due: list[tuple[float, int, Callable[..., object], tuple[Any, ...]]] = []

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._virtual_now

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> None:
        """Call back after ``seconds``; there is no way to call it off."""
        heapq.heappush(self._due, (self._virtual_now + seconds, next(self._serial), callback, args))

    def call_at(  # type: ignore[override]  # without its type variables
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """As asyncio's."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(self._due, (when, next(self._serial), self._run, (timer,)))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""

    def _run(self, handle: asyncio.Handle) -> None:
        if not handle.cancelled():
            handle._run()  # as asyncio's own loop does

    def _run_once(self) -> None:
        """All that is ready; when nothing is, whatever comes next, at its time."""
        if self._ready:
            for _ in range(len(self._ready)):
                self._run(self._ready.popleft())
            return
        if not self._due:
            raise Deadlock("every coroutine of the simulated world waits for ever")
        when, _, callback, args = heapq.heappop(self._due)
        self._virtual_now = max(self._virtual_now, when)
        try:
            callback(*args)
        except Exception as e:  # noqa: BLE001  (as asyncio does with a callback that fails)
            self.call_exception_handler({"message": f"{callback} failed", "exception": e})

    def _process_events(self, event_list: Any) -> None:
        """There are no I/O events."""

    def _write_to_self(self) -> None:
        """There is no other thread that could wake us."""


class Clock:
    """What models use of the loop: the time, things to do later, and one stream of chance per purpose."""

    def __init__(self, loop: VirtualLoop, seed: int | str) -> None:
        self._loop = loop
        self.later = loop.later
        """Call back after some seconds."""
        self._seed = seed

    async def sleep(self, seconds: float) -> None:
        """As asyncio's, at less cost."""
        over = self._loop.create_future()
        self.later(seconds, _end, over)
        await over

    def now(self) -> float:
        """Unix seconds."""
        return EPOCH + self._loop.time()

    def chance(self, purpose: str) -> random.Random:
        """A generator that depends on nothing but the seed and ``purpose``."""
        return random.Random(f"{self._seed}/{purpose}")  # noqa: S311  (schedules, not secrets)


def _end(wait: "asyncio.Future[None]") -> None:
    if not wait.done():
        wait.set_result(None)
