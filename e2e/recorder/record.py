"""Runs inside a pod: writes and reads through a cluster client and compares with the cluster at the end.

Each writer owns its keys, so that what they must hold is known exactly:
* a counter (INCR) that goes backwards shows a rollback, whatever was acknowledged;
* a journal (APPEND of unique tokens) shows each lost, doubled or resurrected write by name;
* a grave (SET, then DEL) that holds a value again shows a resurrection.
A plain SET would hide all three: the next write covers the hole. An operation without an answer is indeterminate: it
may have happened once, or not at all. A write that was acknowledged and is not there is lost; when it was acknowledged
says how long its shard went on with writes that were to vanish. All else that contradicts a history is a violation.

Starts on its own and prints RECORDING once it writes to every shard. SIGUSR1 ends a round: it compares, prints one line
`SUMMARY {...}`, and begins the next one with other keys. SIGTERM ends the last one. Standard library and redis-py only:
it runs with the operator's image.
"""

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeVar

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.exceptions import TimeoutError as NoAnswer

T = TypeVar("T")

PAUSE_SECONDS: Final = float(os.environ.get("RECORD_PAUSE_SECONDS", "0.03"))
ANSWER_SECONDS: Final = 2.0
"""Then a client gives up: the shortest time-out among the common ones (Jedis). Shorter stalls show as gaps."""
VERIFY_SECONDS: Final = 120.0
KEYS_PER_SHARD: Final = 3
TOKEN_LENGTH: Final = 9
SHOWN: Final = 20


class Refused(Exception):
    """The engine said no: the operation did not happen."""


class Indeterminate(Exception):
    """No answer: the operation may have happened."""


@dataclass
class Keys:
    """The keys of one writer in one shard, and what is known of them."""

    counter: str
    journal: str
    counts: dict[int, float] = field(default_factory=dict)
    """Values of the counter that were acknowledged, rising, and when; those since lost are not among them."""
    attempts: int = 0
    """INCRs that may have happened."""
    acked: dict[str, float] = field(default_factory=dict)
    unknown: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    buried: dict[str, float] = field(default_factory=dict)
    """Graves whose DEL was acknowledged."""

    @property
    def counted(self) -> int:
        """Value that the counter has reached for certain."""
        return next(reversed(self.counts), 0)


@dataclass
class Tally:
    """What the summary is made of."""

    acked: int = 0
    refused: int = 0
    indeterminate: int = 0
    reads: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    gaps: dict[str, float] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    lost: dict[str, list[float]] = field(default_factory=dict)
    """When writes were acknowledged that are lost, by shard."""
    first_losses: list[str] = field(default_factory=list)
    first_errors: list[str] = field(default_factory=list)
    started: float = field(default_factory=time.monotonic)

    def failed(self, shard: str, error: BaseException) -> None:
        """One operation failed."""
        self.errors[type(error).__name__] += 1
        if len(self.first_errors) < SHOWN:
            when = time.monotonic() - self.started
            self.first_errors.append(f"{when:.1f} s, slots {shard}: {type(error).__name__}: {error}")

    def lose(self, shard: str, acknowledged: float, how: str) -> None:
        """A write that was acknowledged is not there."""
        self.lost.setdefault(shard, []).append(acknowledged)
        line = f"{acknowledged - self.started:.1f} s, slots {shard}: {how}"
        print(f"LOST {line}", flush=True)
        if len(self.first_losses) < SHOWN:
            self.first_losses.append(line)

    def complain(self, violation: str) -> None:
        """Something is there that cannot be."""
        self.violations.append(violation)
        print(f"VIOLATION {violation}", flush=True)

    def summary(self) -> dict[str, Any]:
        """As printed."""
        return {
            "acked": self.acked,
            "refused": self.refused,
            "indeterminate": self.indeterminate,
            "reads": self.reads,
            "errors": dict(self.errors),
            "firstErrors": self.first_errors,
            "longestGapMilliseconds": {shard: round(gap * 1000) for shard, gap in sorted(self.gaps.items())},
            "lost": sum(len(times) for times in self.lost.values()),
            "lostWithinMilliseconds": {s: round((max(t) - min(t)) * 1000) for s, t in sorted(self.lost.items())},
            "firstLosses": self.first_losses,
            "violations": len(self.violations),
            "firstViolations": self.violations[:SHOWN],
        }


class Writer:
    """Works on one shard, one operation at a time, over a client of its own: a hanging shard delays no other."""

    def __init__(self, shard: str, keys: list[Keys], tally: Tally, stop: asyncio.Event) -> None:
        self._shard = shard
        self._keys = keys
        self._tally = tally
        self._stop = stop
        self._client = connect()
        self._serial = itertools.count()
        self.started = asyncio.Event()

    async def run(self) -> None:
        """Write and read until told to stop; keep the longest time between two successes."""
        steps = (self._count, self._note, self._count, self._note, self._read, self._bury)
        last = time.monotonic()
        for step, keys in itertools.cycle(itertools.product(steps, self._keys)):
            if self._stop.is_set():
                break
            with contextlib.suppress(Refused, Indeterminate):
                await step(keys)
                self.started.set()
                now = time.monotonic()
                self._widen(now - last)
                last = now
            await asyncio.sleep(PAUSE_SECONDS)
        self._widen(time.monotonic() - last)

    def _widen(self, gap: float) -> None:
        if self.started.is_set():
            self._tally.gaps[self._shard] = max(self._tally.gaps.get(self._shard, 0.0), gap)

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        try:
            return await asyncio.wait_for(call(), 4 * ANSWER_SECONDS)
        except (Disconnected, NoAnswer, TimeoutError, OSError) as error:
            self._tally.failed(self._shard, error)
            raise Indeterminate from error
        except (ResponseError, RedisClusterException) as error:
            self._tally.failed(self._shard, error)
            raise Refused from error
        except (RedisError, TypeError) as error:  # TypeError: asyncio's, of writing to a transport that has just closed
            self._tally.failed(self._shard, error)
            raise Indeterminate from error

    async def _write(self, call: Callable[[], Awaitable[Any]]) -> int:
        try:
            answer = int(await self._ask(call))
        except Refused:
            self._tally.refused += 1
            raise
        except Indeterminate:
            self._tally.indeterminate += 1
            raise
        self._tally.acked += 1
        return answer

    async def _count(self, keys: Keys) -> None:
        keys.attempts += 1
        try:
            value = await self._write(lambda: self._client.incr(keys.counter))
        except Refused:
            keys.attempts -= 1
            raise
        self._reached(keys, value - 1, "went back")
        keys.counts[value] = time.monotonic()

    async def _note(self, keys: Keys) -> None:
        token = f"{next(self._serial):0{TOKEN_LENGTH - 1}d};"
        keys.unknown.add(token)
        try:
            await self._write(lambda: self._client.append(keys.journal, token))
        except Refused:
            keys.unknown.discard(token)
            keys.refused.add(token)
            raise
        keys.unknown.discard(token)
        keys.acked[token] = time.monotonic()

    async def _read(self, keys: Keys) -> None:
        value = int(await self._ask(lambda: self._client.get(keys.counter)) or 0)
        self._tally.reads += 1
        self._reached(keys, value, "was read")

    async def _bury(self, keys: Keys) -> None:
        grave = f"{keys.counter}:grave:{next(self._serial)}"
        await self._write(lambda: self._client.set(grave, "x"))
        made = time.monotonic()
        if await self._write(lambda: self._client.delete(grave)) == 0:
            self._tally.lose(self._shard, made, f"{grave} was gone before it was deleted")
        keys.buried[grave] = time.monotonic()

    def _reached(self, keys: Keys, value: int, how: str) -> None:
        """The counter has been at this value: what was acknowledged beyond it is lost."""
        before = keys.counted
        while keys.counted > value:
            _, acknowledged = keys.counts.popitem()
            self._tally.lose(self._shard, acknowledged, f"{keys.counter} {how}: {value} after {before}")

    async def verify(self) -> None:
        """Compare the cluster with the history; each read is repeated until it is answered, for VERIFY_SECONDS."""
        for keys in self._keys:
            value = int(await self._insist(partial(self._client.get, keys.counter)) or 0)
            self._reached(keys, value, "ends as")
            if value > keys.attempts:
                self._tally.complain(f"{keys.counter} ends as {value} after {keys.attempts} attempts")
            journal = str(await self._insist(partial(self._client.get, keys.journal)) or "")
            for token in lost_tokens(keys, journal):
                self._tally.lose(self._shard, keys.acked[token], f"{keys.journal} has lost the acknowledged {token}")
            for violation in check_journal(keys, journal):
                self._tally.complain(violation)
            for grave, when in keys.buried.items():
                if await self._insist(partial(self._client.exists, grave)):
                    self._tally.lose(self._shard, when, f"{grave} is back after its DEL was acknowledged")
        await self._client.aclose()

    async def _insist(self, call: Callable[[], Awaitable[Any]]) -> Any:
        deadline = time.monotonic() + VERIFY_SECONDS
        while True:
            try:
                return await self._ask(call)
            except (Refused, Indeterminate):
                if time.monotonic() > deadline:
                    raise
                await asyncio.sleep(0.2)


def tokens(journal: str) -> list[str]:
    """What a journal holds."""
    return [journal[i : i + TOKEN_LENGTH] for i in range(0, len(journal), TOKEN_LENGTH)]


def lost_tokens(keys: Keys, journal: str) -> list[str]:
    """Acknowledged, and not there."""
    there = set(tokens(journal))
    return [token for token in keys.acked if token not in there]


def check_journal(keys: Keys, journal: str) -> list[str]:
    """Violations: refused tokens are not there, others at most once, and the acknowledged ones in order."""
    found = tokens(journal)
    times = Counter(found)
    violations = [f"{keys.journal} holds the refused {token}" for token in found if token in keys.refused]
    violations += [f"{keys.journal} holds {token} {n} times" for token, n in times.items() if n > 1]
    strangers = times.keys() - keys.acked.keys() - keys.unknown - keys.refused
    violations += [f"{keys.journal} holds {token}, which was never written" for token in sorted(strangers)]
    order = [token for token in found if token in keys.acked]
    if order != sorted(order):
        violations.append(f"{keys.journal} holds acknowledged writes out of order")
    return violations


class ClusterClient(RedisCluster):
    """Follows ASK to a node that owns no slot yet, too: redis-py knows only nodes with slots (its issue 4015)."""

    def get_node(
        self, host: str | None = None, port: int | None = None, node_name: str | None = None
    ) -> ClusterNode | None:
        """The node, made known if need be."""
        found = super().get_node(host, port, node_name)
        if found is None and node_name is not None:
            address, _, number = node_name.rpartition(":")
            found = ClusterNode(address, int(number), **self.nodes_manager.connection_kwargs)
            self.nodes_manager.set_nodes(self.nodes_manager.nodes_cache, {found.name: found})
        return found


def connect() -> RedisCluster:
    """A cluster client that never repeats an operation on its own, configured from the connection Secret."""
    return ClusterClient(
        host=setting("host"),
        port=int(setting("port")),
        username=setting("username") or None,
        password=setting("password") or None,
        retry=Retry(NoBackoff(), 0),
        require_full_coverage=False,
        dynamic_startup_nodes=False,  # the name outlives all addresses
        decode_responses=True,
        socket_timeout=ANSWER_SECONDS,
        socket_connect_timeout=ANSWER_SECONDS,
    )


def setting(key: str) -> str:
    """A key of the connection Secret, which reaches the pod as an environment variable of the same name."""
    return os.environ.get(key, "")


async def shards() -> list[tuple[int, int]]:
    """Slot ranges as the cluster has them now, sorted; waits until all slots are covered and every node answers.

    NetworkPolicies let a new pod in machine by machine: the first node that answers says nothing about the others.
    """
    deadline = time.monotonic() + VERIFY_SECONDS
    while True:
        client = connect()
        try:
            await client.initialize()
            rows: Any = await client.execute_command("CLUSTER SLOTS", target_nodes=RedisCluster.RANDOM)
            ranges = sorted(rows if isinstance(rows, dict) else {(int(r[0]), int(r[1])): r for r in rows})
            if sum(last - first + 1 for first, last in ranges) == 16384:
                await client.execute_command("PING", target_nodes=RedisCluster.ALL_NODES)
                return ranges
        except (RedisError, RedisClusterException, OSError) as error:
            if time.monotonic() > deadline:
                raise
            print(f"waiting for the cluster: {error}", flush=True)
        finally:
            await client.aclose()
        await asyncio.sleep(0.5)


def keys_of(writer: str, first: int, last: int) -> list[Keys]:
    """KEYS_PER_SHARD counters and journals whose slots lie in the range."""
    names = (f"{writer}:{n}" for n in itertools.count())
    mine = (name for name in names if first <= key_slot(f"{{{name}}}".encode()) <= last)
    return [Keys(f"count:{{{name}}}", f"journal:{{{name}}}") for name in itertools.islice(mine, KEYS_PER_SHARD)]


async def record(name: str, stop: asyncio.Event) -> dict[str, Any]:
    """One round: write until told to stop, compare."""
    tally = Tally()
    writers = [Writer(f"{first}-{last}", keys_of(name, first, last), tally, stop) for first, last in await shards()]
    running = [asyncio.create_task(writer.run()) for writer in writers]
    for writer in writers:
        await writer.started.wait()
    print(f"RECORDING {name}", flush=True)
    await asyncio.gather(*running)
    await asyncio.gather(*(writer.verify() for writer in writers))
    return {"writer": name, **tally.summary()}


async def main() -> None:
    """Record round after round until SIGTERM."""
    loop, ended, over = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def end() -> None:
        over.set()
        ended.set()

    loop.add_signal_handler(signal.SIGUSR1, ended.set)
    loop.add_signal_handler(signal.SIGTERM, end)
    for number in itertools.count(1):
        print("SUMMARY " + json.dumps(await record(f"{os.environ['RECORD_WRITER']}-{number}", ended)), flush=True)
        if over.is_set():
            return
        ended.clear()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
