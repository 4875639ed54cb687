"""Waiting for a condition with an upper bound, instead of sleeping for a guess."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

POLL_SECONDS: Final = 0.02


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, within: float = 30.0, *, every: float = POLL_SECONDS
) -> None:
    """Return once `condition` holds; `TimeoutError` naming `what` after `within` seconds.

    What is dear to ask is asked less often: ``every`` so many seconds.
    """
    deadline = time.monotonic() + within
    while not await condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {within:.0f} s: {what}")
        await asyncio.sleep(every)
