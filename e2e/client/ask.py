"""Runs inside a client pod, from a ConfigMap: one question to a cache cluster, one line of JSON as the answer.

Configured by the connection Secret's keys in the environment. Standard library and redis-py only.

    ask.py write COUNT PREFIX     write PREFIX:0 ... and say how many were accepted
    ask.py count COUNT PREFIX     say how many of them hold what was written
    ask.py fill MEBIBYTES         write values of 64 KiB, that many in all, and say how many were accepted
    ask.py load COUNT             write that many small keys in pipelines, and say how many were accepted
    ask.py loaded COUNT           say how many of them hold what was written
    ask.py seed EACH              write that many small keys into every slot, and say how many were accepted
    ask.py seeded EACH            say how many of them hold what was written
    ask.py write-to ADDRESS KEY   try to write a key to that very node, and say what it answers
    ask.py accepts ADDRESS KEY    try until that node accepts a write, and say when it did (monotonic seconds)
    ask.py nodes                  each node's own view of the cluster
    ask.py ping                   PONG, or the class of the error
    ask.py ping-without-password  the same as somebody who has no credentials
    ask.py forbidden              what the engine answers to commands that the application must not run
"""

import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from redis import Redis
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.exceptions import RedisClusterException, RedisError

SECONDS = 3.0
ACCEPT_SECONDS: Final = 90.0
POLL_SECONDS: Final = 0.01
BATCH = 2000
SLOTS: Final = 16384
SEED: Final = """
for i = 1, tonumber(ARGV[1]) do redis.call('SET', KEYS[1] .. i, i) end
return tonumber(ARGV[1])
"""
SEEDED: Final = """
local found = 0
for i = 1, tonumber(ARGV[1]) do
  if redis.call('GET', KEYS[1] .. i) == tostring(i) then found = found + 1 end
end
return found
"""


def setting(key: str) -> str:
    """A key of the connection Secret, which reaches the pod as an environment variable of the same name."""
    return os.environ.get(key, "")


def cluster() -> RedisCluster:
    """An ordinary cluster client, as an application makes one: with every node's address to start from, since the
    endpoint may lead to a lost machine until Kubernetes has noticed.
    """
    port = int(setting("port"))
    addresses = [str(address[0]) for *_, address in socket.getaddrinfo(setting("nodes"), port, type=socket.SOCK_STREAM)]
    nodes = [ClusterNode(host, port) for host in (setting("host"), *addresses)]  # type: ignore[no-untyped-call]
    return RedisCluster(
        startup_nodes=nodes,
        username=setting("username") or None,
        password=setting("password") or None,
        decode_responses=True,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
        require_full_coverage=False,  # else it serves nothing at all while some slots have no owner
    )


def command(client: Redis, *words: str) -> Any:
    """Run any command."""
    return client.execute_command(*words)  # type: ignore[no-untyped-call]


def node(host: str, port: int, *, password: bool = True) -> Redis:
    """A connection to one node."""
    return Redis(
        host=host,
        port=port,
        username=setting("username") or None if password else None,
        password=setting("password") or None if password else None,
        decode_responses=True,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
    )


def write(count: int, prefix: str) -> int:
    """Write `count` keys, which spread over all slots."""
    client = cluster()
    return sum(bool(client.set(f"{prefix}:{i}", f"value-{i}")) for i in range(count))


def count(count: int, prefix: str) -> int:
    """Number of those keys that hold their value."""
    client = cluster()
    return sum(client.get(f"{prefix}:{i}") == f"value-{i}" for i in range(count))


def fill(mebibytes: int) -> int:
    """Write values of 64 KiB over all slots."""
    client = cluster()
    return sum(bool(client.set(f"fill:{i}", "x" * 65536)) for i in range(16 * mebibytes))


def load(count: int) -> int:
    """Write many small keys."""
    client, accepted = cluster(), 0
    for part in batches(count):
        pipeline = client.pipeline()  # type: ignore[no-untyped-call]
        for i in part:
            pipeline.set(f"load:{i}", f"value-{i}")
        accepted += sum(map(bool, pipeline.execute()))
    return accepted


def loaded(count: int) -> int:
    """Number of those keys that hold their value."""
    client, found = cluster(), 0
    for part in batches(count):
        pipeline = client.pipeline()  # type: ignore[no-untyped-call]
        for i in part:
            pipeline.get(f"load:{i}")
        answers = pipeline.execute()
        found += sum(answer == f"value-{i}" for i, answer in zip(part, answers, strict=True))
    return found


def in_every_slot(script: str, each: int) -> int:
    """Sum of what the script says of each slot. One script a slot, so that a million keys take seconds."""
    total = 0
    for owner, tags in tags_by_owner().items():
        pipeline = node(*owner).pipeline(transaction=False)
        for tag in tags:
            pipeline.eval(script, 1, f"seed:{{{tag}}}", str(each))
        total += sum(pipeline.execute())
    return total


def tags_by_owner() -> dict[tuple[str, int], list[str]]:
    """A hash tag for every slot, by the node that owns the slot."""
    tags: dict[int, str] = {}
    numbers = itertools.count()
    while len(tags) < SLOTS:
        tag = str(next(numbers))
        tags.setdefault(key_slot(tag.encode()), tag)
    owners: dict[tuple[str, int], list[str]] = {}
    for slot, members in cluster().nodes_manager.slots_cache.items():
        owners.setdefault((str(members[0].host), int(members[0].port)), []).append(tags[slot])
    return owners


def batches(count: int) -> Iterator[range]:
    """Numbers below `count`, some thousands at a time."""
    for start in range(0, count, BATCH):
        yield range(start, min(count, start + BATCH))


def write_to(address: str, key: str) -> str:
    """The node's own answer, not followed."""
    try:
        return str(command(node(address, int(setting("port"))), f"SET {key} x"))
    except RedisError as error:
        return f"{type(error).__name__}: {error}"


def accepts(address: str, key: str) -> float:
    """Monotonic seconds at which the node has accepted a write."""
    client, deadline = node(address, int(setting("port"))), time.monotonic() + ACCEPT_SECONDS
    while True:
        try:
            client.set(key, "accepted")
            return time.monotonic()
        except RedisError:
            if time.monotonic() > deadline:
                raise
        time.sleep(POLL_SECONDS)


def nodes() -> dict[str, Any]:
    """CLUSTER NODES of every node, as {address: [{id, ip, flags, primary}, ...]}."""
    views: dict[str, Any] = {}
    for member in cluster().get_nodes():  # type: ignore[no-untyped-call]
        raw = command(node(str(member.host), int(member.port)), "CLUSTER NODES")
        views[str(member.host)] = [
            {"id": row["node_id"], "ip": address.partition(":")[0], "flags": row["flags"], "primary": row["master_id"]}
            for address, row in raw.items()
        ]
    return views


def ping(*, password: bool) -> str:
    """PONG from one node (redis-py hides the answer to PING itself)."""
    client = node(setting("host"), int(setting("port")), password=password)
    return str(command(client, "ECHO", "PONG"))


def forbidden() -> dict[str, str]:
    """Answers to what the application must not do."""
    client = node(setting("host"), int(setting("port")))
    commands = (
        "CONFIG GET maxmemory",
        "ACL LIST",
        "CLUSTER RESET",
        "CLUSTER FAILOVER",
        "REPLICAOF NO ONE",
        "SHUTDOWN",
        "DEBUG SLEEP 0",
    )
    answers = {}
    for text in commands:
        try:
            answers[text] = str(command(client, *text.split()))
        except RedisError as error:
            answers[text] = f"{type(error).__name__}: {error}"
    return answers


QUESTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "write": lambda number, prefix: write(int(number), prefix),
    "count": lambda number, prefix: count(int(number), prefix),
    "fill": lambda mebibytes: fill(int(mebibytes)),
    "load": lambda number: load(int(number)),
    "loaded": lambda number: loaded(int(number)),
    "seed": lambda each: in_every_slot(SEED, int(each)),
    "seeded": lambda each: in_every_slot(SEEDED, int(each)),
    "write-to": write_to,
    "accepts": accepts,
    "nodes": nodes,
    "ping": lambda: ping(password=True),
    "ping-without-password": lambda: ping(password=False),
    "forbidden": forbidden,
}


def main(argv: list[str]) -> Any:
    """Answer one question."""
    if not argv or argv[0] not in QUESTIONS:
        raise SystemExit(__doc__)
    return QUESTIONS[argv[0]](*argv[1:])


if __name__ == "__main__":
    try:
        print(json.dumps({"answer": main(sys.argv[1:])}))
    except (RedisError, RedisClusterException, OSError) as error:
        print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
