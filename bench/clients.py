"""What clients of engine processes notice while something is done to these."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cachecluster.api import names
from e2e.install import REPOSITORY
from tests.engines.fleet import PASSWORDS
from tests.engines.harness.node import NodeProcess


@dataclass(frozen=True, slots=True)
class Clients:
    """What a client saw meanwhile, in milliseconds."""

    operations: int
    failed: int
    p50: int
    p99: int
    largest: int


@asynccontextmanager
async def probed(node: NodeProcess, seen: list[Clients]) -> AsyncIterator[None]:
    """Within the block a client that starts at ``node`` reads and writes; then ``seen`` has one entry more."""
    connection = {"host": node.address, "port": "6379", "username": names.USER_APPLICATION}
    prober = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.prober"),
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        env={**os.environ, **connection, "password": PASSWORDS.application},
    )
    try:
        assert prober.stdout is not None
        await prober.stdout.readline()
        yield
        prober.terminate()
        seen.append(Clients(**json.loads(await prober.stdout.readline())))
        await prober.wait()
    finally:
        if prober.returncode is None:
            prober.kill()
            await prober.wait()
