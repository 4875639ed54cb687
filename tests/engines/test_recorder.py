"""The recorder of the end-to-end tests finds losses that are really there, and none where there is none."""

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from e2e.recorder.recorder import SCRIPT
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until


@pytest.fixture
def engine() -> EngineBinary:
    """One family is enough: it is the recorder that is tested."""
    return engine_binary("8.1")


class Recorder:
    """The script as its pod runs it."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def stop(self) -> dict[str, Any]:
        """Let it verify; returns its summary."""
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(120):
            output, _ = await self._process.communicate()
        assert self._process.returncode == 0
        summary: dict[str, Any] = json.loads(output.decode().splitlines()[-1].removeprefix("SUMMARY "))
        return summary

    async def turn(self) -> dict[str, Any]:
        """Let it verify and begin the next round; returns the summary of the one that has ended."""
        self._process.send_signal(signal.SIGUSR1)
        assert self._process.stdout is not None
        summary: dict[str, Any] = {}
        async with asyncio.timeout(60):
            async for line in self._process.stdout:
                if line.startswith(b"SUMMARY "):
                    summary = json.loads(line.removeprefix(b"SUMMARY "))
                elif summary and line.startswith(b"RECORDING"):
                    return summary
        raise AssertionError("it has ended")


@asynccontextmanager
async def recording(node: NodeProcess) -> AsyncIterator[Recorder]:
    """Start it and wait until it writes to every shard."""
    settings = {"host": node.address, "port": "6379", "RECORD_WRITER": "test", "RECORD_PAUSE_SECONDS": "0.005"}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), env=os.environ | settings, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            while not (await process.stdout.readline()).startswith(b"RECORDING"):
                assert process.returncode is None
        yield Recorder(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def formed(nodes: ProcessCluster, count: int, shards: int) -> None:
    for index in range(count):
        nodes.add(f"n{index}", options={"save": "", "cluster-require-full-coverage": "no"})
    await nodes.start()
    await nodes.form(shards=shards)


async def until_written(node: NodeProcess) -> None:
    """Wait until the recorder has done each of its operations on each of its keys of a node."""

    async def some_deleted() -> bool:
        return bool(re.search(r"cmdstat_del:calls=([3-9]|\d\d)", await node.call("INFO", "commandstats")))

    await until(some_deleted, "the recorder has written and deleted")


async def test_healthy_cluster_has_no_violation(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        summary = await recorder.stop()
    assert summary["violations"] == summary["lost"] == 0, summary
    assert summary["acked"] > 20
    assert summary["refused"] == summary["indeterminate"] == 0
    assert len(summary["longestGapMilliseconds"]) == 3
    assert max(summary["longestGapMilliseconds"].values()) < 5000


async def test_primary_that_comes_back_empty_has_lost_what_one_shard_acknowledged(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        await nodes["n2"].kill()
        await nodes["n2"].start()
        summary = await recorder.stop()
    assert summary["lost"] > 0
    [(slots, span)] = summary["lostWithinMilliseconds"].items()
    assert slots == "10922-16383"
    assert span > 0
    complaints = ("lost the acknowledged", "went back", "was read", "ends as", "was gone")
    assert all(any(c in loss for c in complaints) for loss in summary["firstLosses"]), summary
    assert summary["violations"] == 0, "a rollback was taken for something worse"


async def test_resurrected_key_is_a_lost_deletion(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        counter = next(key for key in await nodes["n2"].call("KEYS", "count:*") if ":grave:" not in key)
        graves = [f"{counter}:grave:{serial}" for serial in range(200)]  # one hash tag: one slot
        await nodes["n2"].call("MSET", *(word for grave in graves for word in (grave, "x")))
        summary = await recorder.stop()
    assert any("is back after its DEL" in loss for loss in summary["firstLosses"]), summary


async def test_written_behind_the_recorders_back_is_a_violation(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        journal = next(iter(await nodes["n2"].call("KEYS", "journal:*")))
        await nodes["n2"].call("APPEND", journal, "99999999;")
        summary = await recorder.stop()
    assert any("which was never written" in violation for violation in summary["firstViolations"]), summary


async def test_each_round_has_a_history_of_its_own(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        first = await recorder.turn()
        second = await recorder.stop()
    assert (first["writer"], second["writer"]) == ("test-1", "test-2")
    assert first["acked"] > 20
    assert second["acked"] < first["acked"]
    assert first["lost"] == second["lost"] == first["violations"] == second["violations"] == 0
