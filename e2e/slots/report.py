"""Runs inside a pod: prints `MOVED n` whenever the number of slots has changed that the first primaries own no more.

It asks one of the first nodes, which outlive whatever comes and goes. Standard library and redis-py only: it runs with
the operator's image.
"""

import os
import time
from typing import Any, Final

from redis import Redis
from redis.exceptions import RedisError

SECONDS: Final = 3.0
POLL_SECONDS: Final = 0.05
REACH_SECONDS: Final = 60.0

Owner = tuple[str, int]


def owners(client: Redis) -> dict[Owner, int]:
    """Number of slots of each primary, by address."""
    rows: Any = client.execute_command("CLUSTER", "SLOTS")  # type: ignore[no-untyped-call]
    found: dict[Owner, int] = {}
    for first, last, (host, port, *_), *_ in rows:
        address = (str(host), int(port))
        found[address] = found.get(address, 0) + last - first + 1
    return found


def reached(client: Redis) -> dict[Owner, int]:
    """The first answer: network policies take a while to let a new pod in."""
    deadline = time.monotonic() + REACH_SECONDS
    while True:
        try:
            return owners(client)
        except (RedisError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL_SECONDS)


def main() -> None:
    """Report until killed."""
    client = Redis(
        host=os.environ["host"],  # noqa: SIM112 -- the Secret's own keys
        port=int(os.environ["port"]),  # noqa: SIM112
        username=os.environ.get("username") or None,  # noqa: SIM112
        password=os.environ.get("password") or None,  # noqa: SIM112
        decode_responses=True,
        socket_timeout=SECONDS,
        socket_connect_timeout=SECONDS,
    )
    first, said = reached(client), None
    while True:
        now = owners(client)
        moved = sum(count for owner, count in now.items() if owner not in first)
        if moved != said:
            print(f"MOVED {moved}", flush=True)
            said = moved
        time.sleep(POLL_SECONDS)


if __name__ == "__main__":
    main()
