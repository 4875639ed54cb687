"""Run in a network namespace of its own: how long until an idle connection to a machine that falls silent ends."""

import asyncio
import subprocess
import time

from cachecluster.api import names
from cachecluster.domain.nodes import Ending, NodeId
from cachecluster.engines import idle

ADDRESS = "127.0.0.1"
GREETING = b"+OK\r\n+OK\r\n+OK\r\n$4\r\nnode\r\n"


class Node(asyncio.Protocol):
    """Greets, and keeps the connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Whoever comes is let in."""
        assert isinstance(transport, asyncio.Transport)
        transport.write(GREETING)


async def measure() -> None:
    """Print how the connection ended, and how many seconds after the last packet could pass."""
    loop = asyncio.get_running_loop()
    await loop.create_server(Node, ADDRESS, names.CACHE_PORT)
    ended: asyncio.Future[Ending] = loop.create_future()
    await idle.watch(ADDRESS, "secret", NodeId("node"), ended.set_result, seconds=5)
    began = time.monotonic()
    subprocess.run(["ip", "link", "set", "lo", "down"], check=True)  # noqa: ASYNC221 - nothing else runs here
    print(await ended, time.monotonic() - began)


subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
asyncio.run(measure())
