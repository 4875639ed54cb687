"""The node client's connections to real engines: how they fail, in time and in so many words, and when they end."""

import asyncio
import contextlib
import socket

import pytest
from redis.asyncio import Redis

from cachecluster.api import names
from cachecluster.domain.nodes import NodeId, NodeView
from cachecluster.engines.client import (
    NoAnswer,
    NobodyListens,
    NodeDenied,
    NodeError,
    NodeRefused,
    NodeUnreachable,
)
from cachecluster.engines.valkey import COMMAND_SECONDS, CONNECT_SECONDS
from tests.engines.fleet import CONNECTOR, PASSWORDS, Nodes, as_operator
from tests.engines.harness.addresses import PORT, Addresses
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.failing import fails
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until


@pytest.fixture
def engine() -> EngineBinary:
    """One family: failures of connections are the same in all."""
    return engine_binary("8.1")


async def test_answers_keep_their_order_when_many_ask_at_once(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    node_id = await client.node_id()
    answers = await asyncio.gather(*(client.view() if i % 2 else client.node_id() for i in range(20)))
    assert [a.node_id if isinstance(a, NodeView) else a for a in answers] == [node_id] * 20


async def test_error_among_answers_leaves_the_connection_in_step(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    node_id = await client.node_id()
    with fails(NodeRefused, "Unknown node", within=COMMAND_SECONDS):
        await client.replicate(NodeId("0" * 40))
    assert await client.node_id() == node_id


@pytest.mark.parametrize("password", ["wrong-secret", "", None])
async def test_wrong_password_is_denied_at_once(fleet: Nodes, password: str | None) -> None:
    node = await fleet.start("one")
    with fails(NodeDenied, "credentials are not accepted", within=CONNECT_SECONDS):
        await connect(node.address, password)


async def test_missing_right_is_a_denial(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    await as_operator(node, "ACL", "SETUSER", names.USER_OPERATOR, "-cluster")
    with fails(NodeDenied, "credentials are not accepted", within=COMMAND_SECONDS):
        await client.view()


async def test_nothing_listens(engine: EngineBinary) -> None:
    with fails(NobodyListens, "connection refused", within=CONNECT_SECONDS):
        await connect(Addresses().take(), PASSWORDS.operator)


async def test_host_that_drops_packets_is_given_up_in_time() -> None:
    address = Addresses().take()
    with socket.create_server((address, PORT), backlog=0), contextlib.ExitStack() as queue:
        for _ in range(4):  # the queue is full: further connection attempts are not answered
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, PORT))
        with fails(NoAnswer, "no answer in time", within=CONNECT_SECONDS + 3):
            await connect(address, PASSWORDS.operator)


async def test_node_without_room_for_another_client_has_answered(fleet: Nodes) -> None:
    node = await fleet.start("one")
    await fleet.client(node)
    await as_operator(node, "CONFIG", "SET", "maxclients", "1")
    with fails(NodeRefused, "max number of clients", within=CONNECT_SECONDS):
        await connect(node.address, PASSWORDS.operator)


async def test_frozen_node_is_given_up_in_time_and_never_asked_again(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    node.pause()
    with fails(NoAnswer, "no answer in time", within=COMMAND_SECONDS + 3):
        await client.view()
    with fails(NoAnswer, "no answer in time", within=CONNECT_SECONDS + COMMAND_SECONDS + 3):
        await connect(node.address, PASSWORDS.operator)
    node.resume()
    await node.until_ready()
    with fails(NodeUnreachable, "connection lost", within=COMMAND_SECONDS):
        await client.view()
    await until(lambda: is_alone(node), "no connection of ours is left")


async def test_node_that_dies_under_a_command_is_unreachable(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    node.pause()
    asking = asyncio.create_task(client.view())
    await asyncio.sleep(0)  # the command is on its way
    await node.kill()
    with fails(NodeUnreachable, "connection (lost|reset)", within=COMMAND_SECONDS):
        await asking


async def test_connection_that_the_node_closed_is_not_opened_again(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    await client.view()
    await as_operator(node, "CLIENT", "KILL", "USER", names.USER_OPERATOR)
    for _ in range(2):
        with fails(NodeUnreachable, "connection lost|broken pipe|reset", within=COMMAND_SECONDS):
            await client.view()
    await until(lambda: is_alone(node), "no connection of ours is left")


async def test_cancelled_command_gives_its_connection_up(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    node.pause()
    asking = asyncio.create_task(client.view())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(asking), 0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    node.resume()
    await node.until_ready()
    with fails(NodeUnreachable, "connection lost", within=COMMAND_SECONDS):
        await client.view()
    await until(lambda: is_alone(node), "no connection of ours is left")


async def test_connection_ends_with_its_block(fleet: Nodes) -> None:
    node = await fleet.start("one")
    async with CONNECTOR.connect(node.address, PASSWORDS.operator) as client:
        await client.node_id()
        assert not await is_alone(node)
    await until(lambda: is_alone(node), "no connection of ours is left")


async def test_something_else_that_answers_is_an_error_of_the_node() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        writer.close()

    address = Addresses().take()
    server = await asyncio.start_server(talk, address, PORT)
    async with server:
        with pytest.raises(NodeError):
            await connect(address, PASSWORDS.operator)


async def connect(ip: str, password: str | None) -> None:
    """Open a connection and close it."""
    async with CONNECTOR.connect(ip, password):
        pass


async def is_alone(node: NodeProcess) -> bool:
    """Whether the node has no client of the operator's user but the one that asks."""
    async with Redis(
        host=node.address, username=names.USER_OPERATOR, password=PASSWORDS.operator, protocol=2, decode_responses=True
    ) as other:
        clients = await other.client_list()
    return sum(c["user"] == names.USER_OPERATOR for c in clients) == 1
