"""The start script and what it finds on the volume: whose it is, and whether it can be started from (S5)."""

from pathlib import Path

import pytest

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.pods import Pods, termination_log
from tests.engines.restarting import LONG, appended, formed, myself, spec, write


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
