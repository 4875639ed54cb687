"""Virtual time: an asyncio event loop that never waits, so that minutes of cluster life pass in milliseconds."""

import asyncio
import random
from collections.abc import Callable
from typing import Any, Final

EPOCH: Final = 1_700_000_000.0
"""Unix time at which every simulated world starts."""


class Deadlock(AssertionError):
    """Nothing is scheduled and nothing can run: some coroutine waits for ever."""


class _NoSelector:
    """Stands where the loop would wait for sockets: moves its clock instead."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("every coroutine of the simulated world waits for ever")
        self._loop.advance(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """Runs callbacks in the order of their virtual times. No sockets, no threads, no child processes."""

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._selector = _NoSelector(self)

    def time(self) -> float:
        """Virtual seconds since the world began."""
        return self._virtual_now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._virtual_now += seconds

    def _process_events(self, event_list: Any) -> None:
        """There are no I/O events."""

    def _write_to_self(self) -> None:
        """There is no other thread that could wake us."""


class Clock:
    """What models use of the loop: the time, things to do later, and one stream of chance per purpose."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seed: int | str) -> None:
        self._loop = loop
        self._seed = seed

    def now(self) -> float:
        """Unix seconds."""
        return EPOCH + self._loop.time()

    def later(self, seconds: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call back after ``seconds``."""
        return self._loop.call_later(seconds, callback, *args)

    def chance(self, purpose: str) -> random.Random:
        """A generator that depends on nothing but the seed and ``purpose``."""
        return random.Random(f"{self._seed}/{purpose}")  # noqa: S311  (schedules, not secrets)
