"""Runs as a process of its own beside a reshard: reads and writes at a fixed rate, prints what a client sees of it.

An operation's time counts from the moment when it was due: one that hangs delays those behind it, as for users.
Configured like the recorder by the connection Secret's keys in the environment; stops at SIGTERM.
"""

import asyncio
import json
import random
import signal
import time
from typing import Final

from redis.exceptions import RedisClusterException, RedisError

from bench.statistics import percentiles
from e2e.recorder.record import connect

OPERATIONS_PER_SECOND: Final = 300
KEYS: Final = 10_000


async def main() -> None:
    """Probe until told to stop."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = connect()
    await client.initialize()
    print("PROBING", flush=True)
    times: list[float] = []
    failed = 0
    dice = random.Random(1)  # noqa: S311 - spreads load, guards nothing
    began = time.monotonic()
    while not stop.is_set():
        due = began + (len(times) + failed) / OPERATIONS_PER_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        key = f"probe:{dice.randrange(KEYS)}"
        try:
            await (client.get(key) if dice.random() < 0.7 else client.set(key, "value"))
        except (RedisError, RedisClusterException, OSError):
            failed += 1
        else:
            times.append(1000 * (time.monotonic() - due))
    seen = percentiles(times)
    summary = {"operations": len(times), "failed": failed, "p50": seen.p50, "p99": seen.p99, "largest": seen.largest}
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
