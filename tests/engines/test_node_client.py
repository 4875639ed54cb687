"""The node client against real engines: what it reads, and what it does."""

import time
from typing import Final

import pytest
from redis import exceptions

from cachecluster.api import names
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import NodeId, Role
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, SlotSet, share
from cachecluster.engines.client import (
    NodeClient,
    NodeRefused,
    NodeUnreachable,
)
from cachecluster.engines.valkey import COMMAND_SECONDS
from tests.engines.fleet import CONNECTOR, PASSWORDS, Nodes, as_operator, has_no_link, in_step, leads
from tests.engines.harness.addresses import BUS_PORT, PORT
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import is_ok
from tests.engines.harness.failing import fails
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until

MISSED_SECONDS: Final = 3.0


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> EngineBinary:
    """The family that a test asks for."""
    return engine_binary(request.param)


every_family = pytest.mark.parametrize("engine", ["8.0", "8.1", "9.1"], indirect=True)


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
async def test_a_process_that_has_started_takes_everybody_for_heard_at_that_moment(fleet: Nodes) -> None:
    """What keeps a replica that has never been in step from being taken for one that cannot reach its primary."""
    (lost, primary), (one, replica) = await fleet.form(1)
    primary_id = await primary.node_id()
    await lost.kill()
    await until(lambda: has_not_heard(replica, primary_id, MISSED_SECONDS), "the replica misses its primary")
    await one.kill()
    began = time.monotonic()
    await one.start()
    again = await fleet.client(one)
    row = (await again.view()).peer(primary_id)
    assert row is not None
    assert row.pong_age is not None
    assert row.pong_age <= time.monotonic() - began
    await until(lambda: has_not_heard(again, primary_id, MISSED_SECONDS), "the time since then is counted")
    assert time.monotonic() - began >= MISSED_SECONDS


async def has_not_heard(client: NodeClient, node_id: NodeId, seconds: float) -> bool:
    """Whether the node lists another as one that it has heard of, but not for so long."""
    row = (await client.view()).peer(node_id)
    assert row is not None
    assert row.pong_age is not None
    return row.pong_age > seconds


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
