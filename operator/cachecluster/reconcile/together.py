"""Do several things at once, or one thing as long as nothing comes between, and leave none of them running."""

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def together(*things: Awaitable[T]) -> list[T]:
    """All results in order. Waits for all of them even if some fail, then raises the first failure."""
    results = await asyncio.gather(*things, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [r for r in results if not isinstance(r, BaseException)]


class Interrupted(Exception):
    """Something more urgent has come between."""


async def unless(alarm: asyncio.Event, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work. Raises Interrupted if the alarm sounds first: it has been cancelled, and has ended."""
    task = asyncio.ensure_future(work)
    sounding = asyncio.ensure_future(alarm.wait())
    try:
        await asyncio.wait({task, sounding}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sounding.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    if task.cancelled():
        raise Interrupted("left alone for a moment: the connection to a node has ended")
    return task.result()
