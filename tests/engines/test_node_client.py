"""The node client against real engines: what it reads, what it does, and how it fails."""

import asyncio
import contextlib
import socket
import time
import traceback
from collections.abc import Iterator

import pytest
from redis import exceptions
from redis.asyncio import Redis

from cachecluster.api import names
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import NodeId, NodeView, Role
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, SlotSet, share
from cachecluster.engines.client import (
    NoAnswer,
    NobodyListens,
    NodeClient,
    NodeDenied,
    NodeError,
    NodeRefused,
    NodeUnreachable,
)
from cachecluster.engines.valkey import COMMAND_SECONDS, CONNECT_SECONDS
from tests.engines.fleet import CONNECTOR, PASSWORDS, Nodes, as_operator, has_no_link, in_step, leads
from tests.engines.harness.addresses import BUS_PORT, PORT, Addresses
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import is_ok
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> EngineBinary:
    """Each family in turn, or the one that a test asks for: failures of connections are the same in all."""
    return engine_binary(request.param)


every_family = pytest.mark.parametrize("engine", ["8.0", "8.1", "9.1"], indirect=True)
one_family = pytest.mark.parametrize("engine", ["8.1"], indirect=True)


@contextlib.contextmanager
def fails(expected: type[NodeError], text: str, *, within: float) -> Iterator[None]:
    """The block fails with just this kind of error, in time, and nothing that is printed of it holds a password."""
    begin = time.monotonic()
    with pytest.raises(NodeError, match=text) as caught:
        yield
    assert type(caught.value) is expected
    assert time.monotonic() - begin < within
    printed = "".join(traceback.format_exception(caught.value))
    assert not any(password in printed for password in ("operator-secret", "wrong-secret"))


@every_family
async def test_blank_node_is_seen_as_blank(fleet: Nodes, engine: EngineBinary) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    view = await client.view()
    assert view.blank
    assert view.version.startswith(engine.family)
    assert view.node_id == await client.node_id()
    assert (view.role, view.link, view.keys, view.loading) == (Role.PRIMARY, None, 0, False)
    assert (view.cluster_state_ok, view.quarantined, view.current_epoch) == (False, False, 0)
    assert len(view.replication_id) == len(view.run_id) == 40
    assert view.previous_replication_id == "0" * 40
    assert view.myself.flags == {"myself", "master"}
    assert (view.myself.port, view.myself.bus_port) == (PORT, BUS_PORT)
    assert 0 < view.dataset_bytes < view.used_memory


@every_family
async def test_primary_and_replica_formed_by_the_client_see_each_other(fleet: Nodes) -> None:
    (one, primary), (_, replica) = await fleet.form(1)
    await one.call("SET", "key", "value")
    await until(lambda: has_keys(replica, 1), "the key has arrived")
    above, below = await primary.view(), await replica.view()
    assert (above.keys, above.role, below.role) == (1, Role.PRIMARY, Role.REPLICA)
    assert above.myself.slots == ALL_SLOTS
    assert below.myself.primary_id == above.node_id
    assert below.replication_id == above.replication_id
    assert 0 < below.offset <= (await primary.view()).offset
    assert below.link is not None
    assert (below.link.ever_synced, below.link.primary_ip, below.link.down_seconds) == (True, one.address, None)
    assert below.link.last_io_seconds is not None
    seen = below.peer(above.node_id)
    assert seen is not None
    assert (seen.ip, seen.port, seen.bus_port) == (one.address, PORT, BUS_PORT)
    assert (seen.config_epoch, seen.slots, seen.connected) == (1, ALL_SLOTS, True)
    assert seen.pong_age is not None
    assert seen.pong_age < 10
    assert not above.blank
    assert not below.blank


async def has_keys(client: NodeClient, count: int) -> bool:
    """Whether the node holds so many keys."""
    return (await client.view()).keys == count


@every_family
async def test_scattered_slots_are_added_in_several_commands(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    scattered = SlotSet.of(range(0, 4096, 2))
    await client.add_slots(scattered)
    assert (await client.view()).myself.slots == scattered
    await client.add_slots(NO_SLOTS)
    with fails(NodeRefused, "already busy", within=COMMAND_SECONDS):
        await client.add_slots(SlotSet.of([2]))


@every_family
async def test_a_bumped_epoch_is_the_newest_and_stays(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    for _ in range(2):
        await client.bump_epoch()
        assert (await client.view()).myself.config_epoch == 1


@every_family
async def test_graceful_failover_swaps_the_roles(fleet: Nodes) -> None:
    (_, primary), (_, replica) = await fleet.form(1)
    await replica.failover(FailoverKind.GRACEFUL)
    await until(lambda: leads(replica), "the replica leads")
    await until(lambda: in_step(primary), "the former primary follows")
    assert (await replica.view()).previous_replication_id != "0" * 40


@every_family
async def test_failover_of_a_primary_is_refused_in_the_engines_words(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    with fails(NodeRefused, "replica", within=COMMAND_SECONDS):
        await client.failover(FailoverKind.GRACEFUL)


@every_family
async def test_takeover_needs_nobody(fleet: Nodes) -> None:
    (one, _), (_, replica) = await fleet.form(1)
    lost = (await replica.view()).myself.primary_id
    assert lost is not None
    await one.kill()
    await until(lambda: has_no_link(replica), "the replica has lost its link")
    view = await replica.view()
    assert view.link is not None
    assert view.link.ever_synced
    assert view.link.down_seconds is not None
    await replica.failover(FailoverKind.TAKEOVER)
    await until(lambda: leads(replica), "the replica leads")
    assert (await replica.view()).myself.slots == ALL_SLOTS
    await replica.forget(lost)
    assert (await replica.view()).peer(lost) is None


@every_family
async def test_forced_failover_is_voted_for_by_the_other_primaries(fleet: Nodes) -> None:
    (lost, _), *_, (_, replica) = await fleet.form(3)
    await lost.kill()
    await until(lambda: has_no_link(replica), "the replica has lost its link")
    epoch = (await replica.view()).current_epoch
    await replica.failover(FailoverKind.FORCE)
    await until(lambda: leads(replica), "the replica leads")
    view = await replica.view()
    assert view.myself.slots == share(3)[0]
    assert view.current_epoch > epoch


@every_family
async def test_view_shows_a_failed_peer_as_suspected_and_its_silence(fleet: Nodes) -> None:
    (_, primary), (other, replica) = await fleet.form(1)
    replica_id = await replica.node_id()
    await other.kill()

    async def suspected() -> bool:
        row = (await primary.view()).peer(replica_id)
        return row is not None and row.suspected

    await until(suspected, "the primary suspects its replica")
    row = (await primary.view()).peer(replica_id)
    assert row is not None
    assert row.pong_age is not None
    assert row.pong_age > 1.0


@every_family
async def test_forgetting_an_unknown_node_is_fine_and_forgetting_oneself_is_refused(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    await client.forget(NodeId("0" * 40))
    with fails(NodeRefused, "myself", within=COMMAND_SECONDS):
        await client.forget(await client.node_id())


@every_family
async def test_s5_release_ends_a_quarantine_and_half_a_release_does_not(fleet: Nodes) -> None:
    node = await fleet.start_quarantined("one")
    client = await fleet.client(node)
    assert (await client.view()).quarantined
    with pytest.raises(exceptions.AuthenticationError):
        await node.call("GET", "key")
    operator = ("ACL", "SETUSER", names.user_of(names.USER_REPLICATION, 0), "on")
    await as_operator(node, *operator)
    assert (await client.view()).quarantined, "the application is still off"
    await client.release(0)
    await client.release(0)
    assert not (await client.view()).quarantined
    assert await node.call("PING") == "PONG"


@every_family
async def test_loading_node_gives_its_view(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    await client.add_slots(ALL_SLOTS)
    await until(lambda: is_ok(node), "the node serves")
    for index in range(300):
        await node.call("SET", f"key-{index}", "x" * 100)
    await as_operator(node, "CONFIG", "SET", "save", "3600 1")
    await node.stop()
    # 20 ms a key, and an ear for clients between keys: what a large data set is like.
    node.options |= {"key-load-delay": "20000", "loading-process-events-interval-bytes": "1024"}
    await node.start(ready=False)
    await until(lambda: is_loading(node), "the node loads")
    async with CONNECTOR.connect(node.address, PASSWORDS.operator) as loading:
        view = await loading.view()
    assert (view.loading, view.blank) == (True, False)
    assert view.myself.slots == ALL_SLOTS


async def is_loading(node: NodeProcess) -> bool:
    """Whether the node listens and its view says that it loads."""
    try:
        async with CONNECTOR.connect(node.address, PASSWORDS.operator) as client:
            return (await client.view()).loading
    except NodeUnreachable:
        return False


@one_family
async def test_answers_keep_their_order_when_many_ask_at_once(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    node_id = await client.node_id()
    answers = await asyncio.gather(*(client.view() if i % 2 else client.node_id() for i in range(20)))
    assert [a.node_id if isinstance(a, NodeView) else a for a in answers] == [node_id] * 20


@one_family
async def test_error_among_answers_leaves_the_connection_in_step(fleet: Nodes) -> None:
    client = await fleet.client(await fleet.start("one"))
    node_id = await client.node_id()
    with fails(NodeRefused, "Unknown node", within=COMMAND_SECONDS):
        await client.replicate(NodeId("0" * 40))
    assert await client.node_id() == node_id


@one_family
@pytest.mark.parametrize("password", ["wrong-secret", "", None])
async def test_wrong_password_is_denied_at_once(fleet: Nodes, password: str | None) -> None:
    node = await fleet.start("one")
    with fails(NodeDenied, "credentials are not accepted", within=CONNECT_SECONDS):
        await connect(node.address, password)


@one_family
async def test_missing_right_is_a_denial(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    await as_operator(node, "ACL", "SETUSER", names.USER_OPERATOR, "-cluster")
    with fails(NodeDenied, "credentials are not accepted", within=COMMAND_SECONDS):
        await client.view()


@one_family
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


@one_family
async def test_node_without_room_for_another_client_has_answered(fleet: Nodes) -> None:
    node = await fleet.start("one")
    await fleet.client(node)
    await as_operator(node, "CONFIG", "SET", "maxclients", "1")
    with fails(NodeRefused, "max number of clients", within=CONNECT_SECONDS):
        await connect(node.address, PASSWORDS.operator)


@one_family
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


@one_family
async def test_node_that_dies_under_a_command_is_unreachable(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    node.pause()
    asking = asyncio.create_task(client.view())
    await asyncio.sleep(0)  # the command is on its way
    await node.kill()
    with fails(NodeUnreachable, "connection (lost|reset)", within=COMMAND_SECONDS):
        await asking


@one_family
async def test_connection_that_the_node_closed_is_not_opened_again(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    await client.view()
    await as_operator(node, "CLIENT", "KILL", "USER", names.USER_OPERATOR)
    for _ in range(2):
        with fails(NodeUnreachable, "connection lost|broken pipe|reset", within=COMMAND_SECONDS):
            await client.view()
    await until(lambda: is_alone(node), "no connection of ours is left")


@every_family
async def test_new_leader_hangs_up_for_a_frozen_predecessor(fleet: Nodes) -> None:
    node = await fleet.start("one")
    looking, acting = await fleet.client(node), await fleet.client(node)
    leader = await fleet.client(node)
    await leader.end_other_sessions()
    for ended in (looking, acting):
        with fails(NodeUnreachable, "connection lost|closed", within=COMMAND_SECONDS):
            await ended.node_id()
    assert await leader.node_id()


@one_family
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


@one_family
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
