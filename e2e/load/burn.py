"""Runs inside a pod: costs the primaries as much CPU time as it is told, evenly over all slots, and nothing else.

Each call runs a loop on the node that owns a key's slot. It changes nothing, so that replicas stay idle. How long the
loop has to be is measured first: the load is the same on a fast machine and on a slow one. Starts on its own, prints
BURNING, stops at SIGTERM, prints one line `SUMMARY {...}`, exits 0. Standard library and redis-py only: it runs with
the operator's image.
"""

import asyncio
import itertools
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import RedisClusterException, RedisError

SLOTS: Final = 16384
KEYS: Final = 48
LANES: Final = 8
CALL_SECONDS: Final = 0.008
"""CPU time of one call: short enough for everybody who waits behind it."""
LOOP: Final = "local x = 0 for i = 1, tonumber(ARGV[1]) do x = x + i end return 1"
SAMPLE: Final = 100_000
SAMPLES: Final = 20
ANSWER_SECONDS: Final = 5.0
REACH_SECONDS: Final = 60.0
LATE_SECONDS: Final = 1.0
SHOWN: Final = 20


class Burner:
    """All calls over one client that never repeats one on its own."""

    def __init__(self, client: RedisCluster, stop: asyncio.Event) -> None:
        self._client = client
        self._stop = stop
        self._rounds = 0
        self.calls = 0
        self.errors: list[str] = []
        self._started = time.monotonic()

    async def call(self, key: str) -> None:
        """Cost the key's primary CALL_SECONDS."""
        try:
            await self._loop(key, self._rounds)
        except (RedisError, RedisClusterException, OSError) as error:
            self.errors.append(f"{time.monotonic() - self._started:.1f} s: {type(error).__name__}: {error}")
        self.calls += 1

    async def reach(self, keys: Sequence[str]) -> None:
        """Wait until every key's primary answers: the policies of some let a new pod in later than others."""
        deadline = time.monotonic() + REACH_SECONDS
        waiting = list(keys)
        while waiting:
            try:
                await self._loop(waiting[-1], 1)
            except (RedisError, RedisClusterException, OSError):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)
            else:
                waiting.pop()

    async def calibrate(self, key: str) -> None:
        """Find the length of the loop: the fastest of some samples was hindered least by whatever else runs."""
        fastest = ANSWER_SECONDS
        for _ in range(SAMPLES):
            began = time.perf_counter()
            await self._loop(key, SAMPLE)
            fastest = min(fastest, time.perf_counter() - began)
        self._rounds = int(SAMPLE * CALL_SECONDS / fastest)

    async def lane(self, keys: Sequence[str], period: float) -> None:
        """One call each `period` seconds; late ones are made up for: no ebb on a busy machine."""
        due = time.monotonic()
        for key in itertools.cycle(keys):
            if self._stop.is_set():
                return
            await self.call(key)
            now = time.monotonic()
            due = max(due + period, now - LATE_SECONDS)
            await asyncio.sleep(max(0.0, due - now))

    async def _loop(self, key: str, rounds: int) -> None:
        await self._client.eval(LOOP, 1, key, str(rounds))


def connect() -> RedisCluster:
    """A cluster client, configured from the connection Secret.

    At every fifth MOVED redis-py closes all connections, also those on which other lanes wait for an answer.
    """
    return RedisCluster(
        host=os.environ["host"],  # noqa: SIM112 -- the Secret's own keys
        port=int(os.environ["port"]),  # noqa: SIM112
        username=os.environ.get("username") or None,  # noqa: SIM112
        password=os.environ.get("password") or None,  # noqa: SIM112
        retry=Retry(NoBackoff(), 0),
        reinitialize_steps=0,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
    )


def keys() -> Iterator[str]:
    """KEYS keys at even distances over all slots."""
    width = SLOTS / KEYS
    for place in range(KEYS):
        names = (f"burn:{n}" for n in itertools.count())
        yield next(name for name in names if place * width <= key_slot(name.encode()) < (place + 1) * width)


async def main() -> None:
    """Burn until SIGTERM, print the summary."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    client = connect()
    burner = Burner(client, stop)
    chosen = list(keys())
    await burner.reach(chosen)
    await burner.calibrate(chosen[0])
    cores = float(os.environ["BURN_CORES"])
    period = LANES * CALL_SECONDS / cores
    lanes = [asyncio.create_task(burner.lane(chosen[lane::LANES], period)) for lane in range(LANES)]
    print("BURNING", flush=True)
    await asyncio.gather(*lanes)
    await client.aclose()
    summary: dict[str, Any] = {
        "calls": burner.calls,
        "errors": len(burner.errors),
        "firstErrors": burner.errors[:SHOWN],
    }
    print("SUMMARY " + json.dumps(summary), flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
