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
            while (await process.stdout.readline()).strip() != b"RECORDING":
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
    assert summary["violations"] == 0, summary
    assert summary["acked"] > 20
    assert summary["refused"] == summary["indeterminate"] == 0
    assert len(summary["longestGapMilliseconds"]) == 3
    assert max(summary["longestGapMilliseconds"].values()) < 5000


async def test_primary_that_comes_back_empty_is_a_violation(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        await nodes["n2"].kill()
        await nodes["n2"].start()
        summary = await recorder.stop()
    assert summary["violations"] > 0
    assert any(
        complaint in violation
        for violation in summary["firstViolations"]
        for complaint in ("lost the acknowledged", "went back", "shrank", "read as", "ends as")
    ), summary


async def test_resurrected_key_is_a_violation(nodes: ProcessCluster) -> None:
    await formed(nodes, count=3, shards=3)
    async with recording(nodes["n0"]) as recorder:
        await until_written(nodes["n2"])
        counter = next(key for key in await nodes["n2"].call("KEYS", "count:*") if ":grave:" not in key)
        graves = [f"{counter}:grave:{serial}" for serial in range(200)]  # one hash tag: one slot
        await nodes["n2"].call("MSET", *(word for grave in graves for word in (grave, "x")))
        summary = await recorder.stop()
    assert any("is back after its DEL" in violation for violation in summary["firstViolations"]), summary
