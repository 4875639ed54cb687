"""The start script, in the surroundings of a pod: who may start as what it was, who blank, who quarantined (S5)."""

import asyncio
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from redis import exceptions as refused

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods, field_of, is_ready, termination_log

# Elections come sooner, and what only ends with the longest hold does not take half a minute.
QUICK: Final = {"cluster-node-timeout": "2000", "HOLD_SECONDS": "6", "SILENT_HOLD_SECONDS": "3"}
LONG: Final = {"cluster-node-timeout": "2000"}


def spec(engine: EngineBinary, shards: int, replicas: int, persistence: str = "None") -> dict[str, Any]:
    size = {} if persistence == "None" else {"size": "1Gi"}
    return {
        "engine": "Valkey",
        "version": engine.family,
        "topology": {"mode": "Cluster", "shards": shards, "replicasPerShard": replicas},
        "resources": {"limits": {"memory": "256Mi"}},
        "persistence": {"mode": persistence, **size},
    }


async def formed(
    nodes: ProcessCluster,
    engine: EngineBinary,
    shards: int,
    replicas: int,
    persistence: str = "None",
    *,
    tuned: Mapping[str, str] = QUICK,
) -> Pods:
    pods = Pods(nodes, spec(engine, shards, replicas, persistence), tuned=tuned)
    await pods.form()
    return pods


async def write(pods: Pods, node: NodeProcess, count: int = 50) -> None:
    """Acked by the primary and by one replica, if it has any. The tag's slot is 2844: shard 0 of at most three."""
    async with pods.application(node) as client:
        for i in range(count):
            await client.incr(f"{{shard0-0}}:{i}")
        if pods.spec.topology.replicas_per_shard:
            assert await client.wait(1, 5000) >= 1


async def keys_of(pods: Pods, node: NodeProcess) -> int:
    async with pods.application(node) as client:
        return int(await client.dbsize())


async def myself(node: NodeProcess) -> list[str]:
    table: str = await node.call("CLUSTER", "NODES")
    return next(row.split() for row in table.splitlines() if "myself" in row)


async def becomes_primary(node: NodeProcess) -> None:
    async def leads() -> bool:
        row = await myself(node)
        return "master" in row[2] and len(row) > 8

    await until(leads, f"{node.name} is promoted")


async def follows(node: NodeProcess, primary: NodeProcess) -> None:
    primary_id = (await myself(primary))[0]

    async def in_step() -> bool:
        row = await myself(node)
        return row[3] == primary_id and await field_of(node, "replication", "master_link_status") == "up"

    await until(in_step, f"{node.name} follows {primary.name}\n{node.log_end()}")


def secrets_in_process_list() -> list[str]:
    """Command lines on this machine that hold a password of the pods."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return [line for line in lines if "application-#1" in line or "node-$4" in line or 'operator-"2"' in line]


async def test_s12_fresh_node_marks_its_volume_and_shows_no_password(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = Pods(nodes, spec(engine, 1, 0))
    node = pods[0, 0]
    await node.start()
    assert (node.data / "cluster-uid").read_text().strip() == pods.ref.uid
    assert "start of a new node" in node.log_end()
    assert secrets_in_process_list() == []
    assert not any(password in node.log_end() for password in ("application-#1", "node-$4", 'operator-"2"'))
    assert (await myself(node))[1].startswith(f"{node.address}:6379@")


async def test_s5_volume_of_another_cluster_is_refused_and_left_alone(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = Pods(nodes, spec(engine, 1, 0, "Snapshot"))
    node = pods[0, 0]
    node.data.mkdir(parents=True)
    (node.data / "cluster-uid").write_text("another-uid\n")
    (node.data / "dump.rdb").write_bytes(b"REDIS0011 precious")
    await node.start(ready=False)
    assert await node.until_exit() == 3
    message = termination_log(node).read_text()
    assert "another-uid" in message
    assert pods.ref.uid in message
    assert {p.name: p.read_bytes() for p in node.data.iterdir()} == {
        "cluster-uid": b"another-uid\n",
        "dump.rdb": b"REDIS0011 precious",
    }


@pytest.mark.parametrize("leftover", ["nodes.conf", "dump.rdb", "appendonlydir/appendonly.aof.manifest"])
async def test_s5_data_of_unknown_origin_is_refused(nodes: ProcessCluster, engine: EngineBinary, leftover: str) -> None:
    pods = Pods(nodes, spec(engine, 1, 0, "Snapshot"))
    node = pods[0, 0]
    (node.data / leftover).parent.mkdir(parents=True)
    (node.data / leftover).write_text("x")
    await node.start(ready=False)
    assert await node.until_exit() == 3
    assert "not the uid of its CacheCluster" in termination_log(node).read_text()
    assert not (node.data / "cluster-uid").exists()


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
    for user in ("default", "cachecluster-replication"):
        await primary.call("ACL", "SETUSER", user, "on")
    await follows(replica, primary)
    await until(lambda: is_ready(primary), "ready after its release")
    assert await keys_of(pods, primary) == 10


@pytest.mark.parametrize("persistence", ["Snapshot", "AppendOnly"])
async def test_s5_all_killed_at_once_with_data_come_back_as_they_were(
    nodes: ProcessCluster, engine: EngineBinary, persistence: str
) -> None:
    pods = await formed(nodes, engine, 3, 1, persistence, tuned=LONG)
    await write(pods, pods[0, 0])  # the other shards have never been written to
    if persistence == "Snapshot":
        await save(pods[0, 0])
    else:
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
    assert "after 3 s" in primary.log_end() or "after 4 s" in primary.log_end()


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


async def test_leftover_of_a_sync_is_not_loaded_without_persistence(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = await formed(nodes, engine, 1, 1, tuned=LONG)
    replica = pods[0, 1]
    await write(pods, pods[0, 0])
    await pods[0, 0].kill()
    await replica.kill()
    (replica.data / "dump.rdb").write_bytes(b"left over")
    (replica.data / "temp-1.rdb").write_bytes(b"left over")
    await replica.start()
    assert not list(replica.data.glob("*.rdb"))


async def test_s5_damaged_table_means_blank_without_data_and_quarantine_with_it(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    empty = await formed(nodes, engine, 1, 0, tuned=LONG)
    full = Pods(nodes, spec(engine, 1, 0, "AppendOnly"), uid="7e1f3a52-0000-4000-8000-000000000002", tuned=LONG)
    await full.form()
    await write(full, full[0, 0])
    await appended(full[0, 0])
    for pods in (empty, full):
        await pods[0, 0].kill()
    (empty[0, 0].data / "nodes.conf").write_text("torn off in the midd")
    (full[0, 0].data / "nodes.conf").write_text("")
    await empty[0, 0].start()
    await full[0, 0].start()
    assert "blank start" in empty[0, 0].log_end()
    assert "quarantined start" in full[0, 0].log_end()


async def save(node: NodeProcess) -> None:
    """Make the node write a snapshot now, as its save points would."""
    before = await field_of(node, "persistence", "rdb_changes_since_last_save")
    await node.call("CONFIG", "SET", "save", "1 1")
    assert before != "0"

    async def saved() -> bool:
        clean = await field_of(node, "persistence", "rdb_changes_since_last_save") == "0"
        return clean and await field_of(node, "persistence", "rdb_bgsave_in_progress") == "0"

    await until(saved, f"{node.name} has written a snapshot")
    await node.call("CONFIG", "SET", "save", "3600 1")


async def appended(node: NodeProcess) -> None:
    """Wait until what was written is in the append-only file, which a kill of the process does not undo."""

    async def written() -> bool:
        return await field_of(node, "persistence", "aof_buffer_length") == "0"

    await until(written, f"{node.name} has written its append-only file")
