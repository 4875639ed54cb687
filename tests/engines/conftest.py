"""Fixtures that run real engine processes; a failed test shows the end of every node's log."""

import contextlib
from collections.abc import AsyncIterator, Generator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.engines.fleet import Nodes
from tests.engines.harness.binaries import FAMILIES, EngineBinary, engine_binary, redis_binary
from tests.engines.harness.cluster import ProcessCluster


@pytest.fixture(params=FAMILIES)
def engine(request: pytest.FixtureRequest) -> EngineBinary:
    """Each supported engine family in turn; tests may ask for ``redis-7.0`` and ``redis-8.0`` as well."""
    name, _, family = request.param.rpartition("-")
    return redis_binary(family) if name == "redis" else engine_binary(family)


@pytest_asyncio.fixture
async def nodes(engine: EngineBinary, tmp_path: Path) -> AsyncIterator[ProcessCluster]:
    """An empty cluster of processes of `engine`: add nodes to it; all are gone when the test ends."""
    async with ProcessCluster(engine, tmp_path) as cluster:
        yield cluster


@pytest_asyncio.fixture
async def fleet(nodes: ProcessCluster) -> AsyncIterator[Nodes]:
    """The same with the operator's users; connections are closed before the nodes are killed."""
    async with contextlib.AsyncExitStack() as stack:
        yield Nodes(nodes, stack)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Attach the nodes' logs to the report of a failed test."""
    report = yield
    funcargs: dict[str, object] = getattr(item, "funcargs", {})
    for value in funcargs.values():
        if report.failed and isinstance(value, ProcessCluster):
            report.sections.extend((f"log of {name}", text) for name, text in value.logs())
    return report
