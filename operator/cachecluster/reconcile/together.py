"""Do several things at once and leave none of them running when one fails."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


async def together(*things: Awaitable[T]) -> list[T]:
    """All results in order. Waits for all of them even if some fail, then raises the first failure."""
    results = await asyncio.gather(*things, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [r for r in results if not isinstance(r, BaseException)]
