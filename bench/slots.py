"""How fast slots move, against what a user would otherwise run, with what clients notice of it.

Real engine processes on loopback: three shards become six, so half of all keys change their node.
"""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.clients import Clients, probed
from bench.shop import ADMIN, admin, fill, keys, leaders, rebalance, shop
from cachecluster.api import names
from cachecluster.domain.slots import ALL_SLOTS
from cachecluster.manifests import acl
from tests.engines.fleet import PASSWORDS
from tests.engines.moving import Shop

BEFORE: Final = 3
AFTER: Final = 6
MOVE_SECONDS: Final = 600.0
POLL_SECONDS: Final = 0.02


@dataclass(frozen=True, slots=True)
class Reshard:
    """One way to go from three shards to six."""

    by: str
    family: str
    replicas: int
    """Of each shard."""
    keys_moved: int
    milliseconds: int
    clients: Clients | None

    @property
    def keys_per_second(self) -> int:
        """Speed."""
        return round(self.keys_moved * 1000 / self.milliseconds)


Way = Callable[[Shop], Awaitable[None]]


def measure(per_slot: int) -> list[dict[str, Any]]:
    """All comparisons, with so many keys in every slot; what one engine does, stands beside what the operator does."""
    runs: list[tuple[str, str, int, int, Way]] = [
        ("valkey-cli --cluster rebalance", "8.1", 0, per_slot, _by_cli),
        ("operator", "8.1", 0, per_slot, rebalance),
        ("valkey-cli --cluster rebalance", "8.1", 1, per_slot // 4, _by_cli),
        ("operator", "8.1", 1, per_slot // 4, rebalance),
        ("MIGRATESLOTS, one job for each shard", "9.1", 0, per_slot, _by_one_job),
        ("operator", "9.1", 0, per_slot, rebalance),
        ("operator", "8.1", 1, 0, rebalance),
        ("operator", "9.1", 1, 0, rebalance),
    ]
    results = []
    for by, family, replicas, count, way in runs:
        run = asyncio.run(_measure(by, family, replicas, count, way))
        print(f"{by}, {family}: {run}", file=sys.stderr)
        results.append({**asdict(run), "keys_per_second": run.keys_per_second})
    return results


async def _measure(by: str, family: str, replicas: int, per_slot: int, way: Way) -> Reshard:
    async with shop(family, AFTER, BEFORE, replicas) as place:
        if per_slot:
            await fill(place, BEFORE, per_slot)
        before = sum(await keys(place))
        seen: list[Clients] = []
        async with probed(leaders(place)[0], seen) if per_slot else contextlib.nullcontext():
            began = time.monotonic()
            async with asyncio.timeout(MOVE_SECONDS):
                await way(place)
            took = time.monotonic() - began
        counts = await keys(place)
        if sum(counts) < before or (per_slot and min(counts) < before // AFTER // 2):
            raise AssertionError(f"{by} on {family}: {before} keys before, {counts} after")
        return Reshard(by, family, replicas, sum(counts[BEFORE:]), round(1000 * took), seen[0] if seen else None)


async def _by_cli(place: Shop) -> None:
    first = leaders(place)[0]
    argv = first.binary.cli_argv(
        *("--user", ADMIN, "--pass", ADMIN, "--no-auth-warning"),
        *("--cluster", "rebalance", f"{first.address}:6379", "--cluster-use-empty-masters"),
    )
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    output, _ = await process.communicate()
    if process.returncode != 0:
        raise AssertionError(f"valkey-cli failed:\n{output.decode()[-2000:]}")


async def _by_one_job(place: Shop) -> None:
    """As fast as the engine can: all that a shard gives in one job, one shard after another."""
    nodes = leaders(place)
    width = len(ALL_SLOTS) // BEFORE
    for index in range(BEFORE):
        async with admin(nodes[BEFORE + index]) as taker, admin(nodes[index]) as giver:
            source = names.user_of(names.USER_REPLICATION, index)
            await taker.execute_command("ACL", "SETUSER", source, *acl.migration_guest(PASSWORDS))  # type: ignore[no-untyped-call]
            target = await taker.execute_command("CLUSTER", "MYID")  # type: ignore[no-untyped-call]
            last = (index + 1) * width - 1
            words = ("SLOTSRANGE", last - width // 2 + 1, last, "NODE", target)
            await giver.execute_command("CLUSTER", "MIGRATESLOTS", *words)  # type: ignore[no-untyped-call]
            while True:
                jobs = await giver.execute_command("CLUSTER", "GETSLOTMIGRATIONS")  # type: ignore[no-untyped-call]
                states = {dict(zip(job[::2], job[1::2], strict=True))["state"] for job in jobs}
                if states == {"success"}:
                    break
                if states & {"failed", "cancelled"}:
                    raise AssertionError(f"the engine's own migration failed: {jobs}")
                await asyncio.sleep(POLL_SECONDS)


if __name__ == "__main__":
    measure(int(sys.argv[1]))
