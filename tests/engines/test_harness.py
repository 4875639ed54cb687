"""The harness itself: what engine tests build on has to be true first."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster, is_ok
from tests.engines.harness.node import NodeDied
from tests.engines.harness.waiting import until


async def test_each_family_runs_in_its_own_version(nodes: ProcessCluster, engine: EngineBinary) -> None:
    node = nodes.add("n0")
    await node.start()
    version = next(line for line in (await node.call("INFO", "server")).splitlines() if "valkey_version" in line)
    assert version.startswith(f"valkey_version:{engine.family}.")


async def test_three_nodes_form_a_cluster_over_their_own_addresses(nodes: ProcessCluster) -> None:
    for index in range(3):
        nodes.add(f"n{index}")
    await nodes.start()
    await nodes.form(shards=2)
    view = await nodes["n0"].call("CLUSTER", "NODES")
    assert {line.split()[1].split(":")[0] for line in view.splitlines()} == {node.address for node in nodes}
    assert "slave" in await nodes["n2"].call("CLUSTER", "NODES")


async def test_killed_node_keeps_its_identity_and_its_peers_follow_its_new_address(nodes: ProcessCluster) -> None:
    for index in range(3):
        nodes.add(f"n{index}")
    await nodes.start()
    await nodes.form(shards=3)
    node, peer = nodes["n0"], nodes["n1"]
    identity = await node.call("CLUSTER", "MYID")
    old_address = node.address
    await node.kill()
    assert not node.running
    assert node.exit_status == -signal.SIGKILL
    await node.start(address=nodes.addresses.take())
    assert await node.call("CLUSTER", "MYID") == identity
    assert node.address != old_address

    async def peer_knows() -> bool:
        return f"{identity} {node.address}:" in await peer.call("CLUSTER", "NODES")

    await until(peer_knows, "the peer knows the new address")


async def test_container_that_dies_is_started_again_with_its_data(nodes: ProcessCluster) -> None:
    node = nodes.add("n0", options={"appendonly": "yes", "appendfsync": "always"}, restart_on_exit=True)
    await node.start()
    await node.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    await until(lambda: is_ok(node), "the node serves")
    await node.call("SET", "key", "value")
    await node.kill()
    await node.until_ready()
    await until(lambda: is_ok(node), "the node serves again")
    assert node.starts == 2
    assert await node.call("GET", "key") == "value"


async def test_script_runs_as_in_the_image(nodes: ProcessCluster, engine: EngineBinary, tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(
        'echo "$POD_NAME $GREETING $(valkey-cli --version)" > seen\n'
        'exec valkey-server --cluster-announce-ip "$POD_IP" --dir .\n'
    )
    node = nodes.add("n0", command=lambda node: engine.shell_argv(script), env={"GREETING": "hello"})
    await node.start()
    assert (node.data / "seen").read_text().startswith(f"n0 hello valkey-cli {engine.family}.")
    assert await node.call("CONFIG", "GET", "cluster-announce-ip") == ["cluster-announce-ip", node.address]
    assert await node.call("CONFIG", "GET", "bind-source-addr") == ["bind-source-addr", node.address]


async def test_password_protected_node_counts_as_ready(nodes: ProcessCluster) -> None:
    node = nodes.add("n0", options={"requirepass": "sesame"})
    await node.start()
    node.password = "sesame"
    assert await node.call("PING") == "PONG"


async def test_node_that_cannot_start_says_why(nodes: ProcessCluster) -> None:
    node = nodes.add("n0", options={"maxmemory": "plenty"})
    with pytest.raises(NodeDied, match="maxmemory"):
        await node.start()


async def test_paused_node_is_silent_until_resumed(nodes: ProcessCluster) -> None:
    node = nodes.add("n0")
    await node.start()
    client = node.client()
    await client.ping()
    node.pause()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.ping(), 0.2)
    node.resume()
    await node.until_ready()


async def test_nothing_is_left_when_the_cluster_closes(nodes: ProcessCluster) -> None:
    node = nodes.add("n0", restart_on_exit=True)
    await node.start()
    pid = node.pid
    await nodes.close()
    assert not node.running
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
