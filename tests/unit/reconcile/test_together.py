"""Work that something more urgent may come between."""

import asyncio

import pytest

from cachecluster.reconcile.together import Interrupted, unless


class Work:
    """Takes until it is told to end, and notes how it did."""

    def __init__(self) -> None:
        self.end = asyncio.Event()
        self.begun = asyncio.Event()
        self.left: list[str] = []

    async def __call__(self) -> int:
        self.begun.set()
        try:
            await self.end.wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            self.left.append("cancelled")
            raise
        return 7


async def test_work_that_nothing_comes_between_has_its_result() -> None:
    work = Work()
    work.end.set()
    assert await unless(asyncio.Event(), work()) == 7


async def test_an_alarm_ends_the_work_before_anything_else_is_done() -> None:
    alarm, work = asyncio.Event(), Work()
    task = asyncio.create_task(unless(alarm, work()))
    await work.begun.wait()
    alarm.set()
    with pytest.raises(Interrupted):
        await task
    assert work.left == ["cancelled"]


async def test_the_works_own_failure_is_told() -> None:
    async def fail() -> int:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await unless(asyncio.Event(), fail())


async def test_whoever_is_cancelled_himself_leaves_no_work_behind() -> None:
    work = Work()
    task = asyncio.create_task(unless(asyncio.Event(), work()))
    await work.begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.left == ["cancelled"]
