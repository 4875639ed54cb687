"""The start script and who the node was: who may start as that, who blank, who quarantined (S5)."""

import asyncio
import re
import time

import pytest
from redis import exceptions as refused

from cachecluster.domain import fence
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import SLOTS, ProcessCluster
from tests.engines.harness.tags import tag
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods, field_of, is_ready
from tests.engines.restarting import (
    LONG,
    QUICK,
    appended,
    becomes_primary,
    follows,
    formed,
    keys_of,
    myself,
    save,
    spec,
    write,
)


async def test_s5_killed_primary_without_persistence_comes_back_blank_after_its_replica_leads(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 3, 1, tuned=LONG)
    primary, replica = pods[0, 0], pods[0, 1]
    await write(pods, primary)
    old_id = (await myself(primary))[0]
    await primary.kill()
    await primary.start()  # as the kubelet does, at once; ready means that the engine itself has been started
    assert "held back" in primary.log_end()
    assert "its memory is gone; after" in primary.log_end()
    await becomes_primary(replica)
    assert await keys_of(pods, replica) == 50
    row = await myself(primary)
    assert row[0] != old_id
    assert len(row) == 8  # owns nothing
    assert await primary.call("DBSIZE") == 0
    assert old_id in (primary.data / "nodes.conf.former").read_text()


async def test_s5_all_killed_at_once_without_persistence_come_back_soon_and_blank(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 3, 1, tuned=LONG)
    await write(pods, pods[0, 0])
    old_ids = {place: (await myself(node))[0] for place, node in pods.nodes.items()}
    await asyncio.gather(*(node.kill() for node in pods.nodes.values()))
    began = time.monotonic()
    await pods.start()
    assert time.monotonic() - began < 20
    for (shard, ordinal), node in pods.nodes.items():
        row = await myself(node)
        assert (row[0] == old_ids[shard, ordinal]) == (ordinal == 1), node.log_end()
        assert len(row) == 8
    assert "no replica has been in sync since it started" in pods[0, 0].log_end()


async def test_s5_replica_keeps_its_data_when_a_blank_node_appears_at_its_primarys_address(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 1, 1, tuned=QUICK)
    primary, replica = pods[0, 0], pods[0, 1]
    await write(pods, primary)
    await primary.kill()
    await primary.start()
    assert "blank start" in primary.log_end()

    async def turned_away_again() -> bool:
        return replica.log_end().count("MASTER aborted replication") + replica.log_end().count("Unable to AUTH") > 1

    await until(turned_away_again, "the replica has asked the blank node for a sync and was refused")
    assert await keys_of(pods, replica) == 50


async def test_s3_replica_keeps_its_data_when_a_node_of_another_shard_has_its_primarys_address(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 2, 1, "AppendOnly", tuned=LONG)
    primary, replica, other = pods[0, 0], pods[0, 1], pods[1, 0]
    await write(pods, primary)
    async with pods.application(other) as client:
        await client.set(tag(SLOTS - 1), "of the other shard")
        assert await client.wait(1, 5000) == 1
    for node in pods.nodes.values():
        await appended(node)
    await asyncio.gather(*(node.kill() for node in pods.nodes.values()))
    here, there = primary.address, other.address
    await asyncio.gather(replica.start(), pods[1, 1].start())
    await other.start(address=here)

    async def turned_away_again() -> bool:
        return replica.log_end().count("Unable to AUTH") > 1

    await until(turned_away_again, f"the replica has asked the other shard and was refused\n{replica.log_end()}")
    assert "normal start" in other.log_end()
    assert await keys_of(pods, replica) == 50
    await primary.start(address=there)
    await follows(replica, primary)
    await follows(pods[1, 1], other)
    for (shard, _), node in pods.nodes.items():
        await until(lambda node=node: is_ready(node), f"{node.name} is ready\n{node.log_end()}")  # type: ignore[misc]
        assert await keys_of(pods, node) == (1 if shard else 50)


async def test_s5_single_node_without_persistence_comes_back_blank_at_once(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 1, 0, tuned=LONG)
    await write(pods, pods[0, 0])
    old_id = (await myself(pods[0, 0]))[0]
    await pods[0, 0].kill()
    await pods[0, 0].start()
    assert (await myself(pods[0, 0]))[0] != old_id
    assert "held back" not in pods[0, 0].log_end()


async def test_s5_primary_with_an_old_snapshot_follows_the_replica_that_was_promoted(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 3, 1, "Snapshot", tuned=LONG)
    primary, replica = pods[0, 0], pods[0, 1]
    await write(pods, primary, 10)
    await save(primary)
    await write(pods, primary, 50)
    old_id = (await myself(primary))[0]
    await primary.kill()
    await primary.start()
    assert "normal start: after" in primary.log_end()
    for name, value in fence.OUTDATED:
        assert await primary.call("CONFIG", "GET", name) == [name, value], "it would take writes"
    await becomes_primary(replica)
    await follows(primary, replica)
    assert (await myself(primary))[0] == old_id
    assert await keys_of(pods, replica) == 50
    assert await keys_of(pods, primary) == 50


async def test_s5_primary_with_an_old_snapshot_is_quarantined_while_its_replica_has_newer_data(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 1, 1, "Snapshot", tuned=QUICK)
    primary, replica = pods[0, 0], pods[0, 1]
    await write(pods, primary, 10)
    await save(primary)
    await write(pods, primary, 50)
    await primary.kill()
    await primary.start()
    assert "quarantined start" in primary.log_end()
    assert not await is_ready(primary)
    async with pods.application(primary) as client:
        with pytest.raises(refused.AuthenticationError):
            await client.ping()

    async def sync_was_refused() -> bool:
        return "WRONGPASS" in replica.log_end()

    await until(sync_was_refused, f"the replica tried and was refused\n{replica.log_end()}")
    assert int((await replica.call("INFO", "keyspace")).split("keys=")[1].split(",")[0]) == 50
    # The operator found that this node's data is to be used after all.
    for user in ("default", "cachecluster-replication-0"):
        await primary.call("ACL", "SETUSER", user, "on")
    await follows(replica, primary)
    await until(lambda: is_ready(primary), "ready after its release")
    assert await keys_of(pods, primary) == 10


async def test_s5_all_killed_at_once_with_append_only_files_come_back_as_they_were(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 3, 1, "AppendOnly", tuned=LONG)
    await write(pods, pods[0, 0])  # the other shards have never been written to
    await appended(pods[0, 0])
    ids = {place: (await myself(node))[0] for place, node in pods.nodes.items()}
    await asyncio.gather(*(node.kill() for node in pods.nodes.values()))
    began = time.monotonic()
    await pods.start()
    for node in pods.nodes.values():
        await until(lambda node=node: is_ready(node), f"{node.name} is ready\n{node.log_end()}")  # type: ignore[misc]
    assert time.monotonic() - began < 20
    assert {place: (await myself(node))[0] for place, node in pods.nodes.items()} == ids
    assert await keys_of(pods, pods[0, 0]) == 50
    assert "quarantined" not in pods[0, 0].log_end()


async def test_s5_killed_while_its_replica_restarts_a_primary_waits_to_be_compared_with_its_snapshot(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    """Each side of a comparison tells what it needs: ids of both histories, and offsets (ADR 0017)."""
    pods = await formed(nodes, engine, 1, 1, "Snapshot", tuned=LONG)
    former, primary = pods[0, 0], pods[0, 1]
    await write(pods, former, 10)
    await save(primary)
    await primary.call("CONFIG", "SET", "save", "")
    await primary.call("CLUSTER", "FAILOVER")
    await becomes_primary(primary)
    await follows(former, primary)
    await write(pods, primary, 50)
    history = await field_of(primary, "replication", "master_replid")
    before = await field_of(primary, "replication", "master_replid2")
    await former.stop()  # saves
    await primary.kill()
    await former.start()
    began = time.monotonic()
    await primary.start()
    assert time.monotonic() - began < 10
    assert "quarantined start" in primary.log_end()
    assert "replicas have restarted as well, with snapshots of their own" in primary.log_end()
    assert await field_of(former, "replication", "master_replid") == history
    assert await field_of(primary, "replication", "master_replid2") == before
    theirs = int(await field_of(former, "replication", "slave_repl_offset"))
    assert theirs > int(await field_of(primary, "replication", "master_repl_offset")) > 0
    assert await field_of(former, "replication", "master_link_down_since_seconds") == "-1"
    assert await keys_of(pods, former) == 50


async def test_s5_primary_whose_replica_stays_silent_is_quarantined_after_the_short_hold(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 1, 1, "AppendOnly", tuned=QUICK | {"HOLD_SECONDS": "60"})
    primary, replica = pods[0, 0], pods[0, 1]
    await write(pods, primary)
    await appended(primary)
    await asyncio.gather(primary.kill(), replica.kill())
    await primary.start()
    assert "quarantined start" in primary.log_end()
    [waited] = re.findall(r"after (\d+) s no other node has taken its slots over", primary.log_end())
    assert 3 <= int(waited) < 60


async def test_s5_stranger_at_a_replicas_old_address_is_not_believed(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 1, 1, "AppendOnly", tuned=QUICK)
    primary, replica = pods[0, 0], pods[0, 1]
    await write(pods, primary)
    await appended(primary)
    await asyncio.gather(primary.kill(), replica.kill())
    # Same passwords, so that only the id tells it apart; it knows no primary, like a replica that has lost its own.
    stranger = Pods(nodes, spec(engine, 1, 0), uid="7e1f3a52-0000-4000-8000-00000000beef")[0, 0]
    await stranger.start(address=replica.address)
    await primary.start()
    assert "quarantined start" in primary.log_end()


async def test_s5_primary_is_told_of_its_loss_by_others_although_most_peers_hang(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 3, 1, tuned=LONG)
    await write(pods, pods[0, 0])
    await pods[0, 0].kill()
    await becomes_primary(pods[0, 1])
    for place in ((1, 0), (1, 1), (2, 0)):
        pods[place].pause()
    began = time.monotonic()
    await pods[0, 0].start()
    assert time.monotonic() - began < 10
    assert "another node owns its slots" in pods[0, 0].log_end()


async def test_s5_told_to_stop_during_the_hold_it_ends_at_once(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = await formed(nodes, engine, 1, 1, tuned=LONG)
    primary = pods[0, 0]
    pods[0, 1].pause()
    await primary.kill()
    await primary.start(ready=False)

    async def held() -> bool:
        return "held back" in primary.log_end()

    await until(held, "the hold has begun")
    began = time.monotonic()
    await primary.stop()
    assert time.monotonic() - began < 3
    assert primary.exit_status == 143


async def test_former_replica_starts_under_its_identity_at_a_new_address(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 3, 1, tuned=LONG)
    replica = pods[0, 1]
    await write(pods, pods[0, 0])
    node_id = (await myself(replica))[0]
    await replica.restart(address=nodes.addresses.take())
    assert "it was a replica" in replica.log_end()
    assert (await myself(replica))[0] == node_id
    await follows(replica, pods[0, 0])

    async def known() -> bool:
        return f"{node_id} {replica.address}:" in await pods[2, 0].call("CLUSTER", "NODES")

    await until(known, "the others know its new address")
