"""Whether a machine answers although its process may not."""

import socket
from contextlib import ExitStack

from cachecluster.api import names
from cachecluster.engines.valkey import ValkeyConnector

HUNG, GONE = "127.83.7.1", "127.83.7.2"


async def test_the_kernel_answers_for_a_process_that_hangs() -> None:
    with socket.create_server((HUNG, names.CACHE_PORT)):
        assert await ValkeyConnector().has_machine(HUNG, 1.0)


async def test_a_machine_on_which_nobody_listens_is_there() -> None:
    assert await ValkeyConnector().has_machine(GONE, 1.0)


async def test_nothing_comes_back() -> None:
    """As from a machine that is lost: whose queue is full leaves further callers without an answer."""
    with socket.create_server((HUNG, names.CACHE_PORT), backlog=0), ExitStack() as queue:
        for _ in range(4):
            caller = queue.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex((HUNG, names.CACHE_PORT))
        assert not await ValkeyConnector().has_machine(HUNG, 0.05)
