"""The start script and the file of users: without its users a node is open to anybody, and does not start."""

import pytest

from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.pods import Pods, termination_log
from tests.engines.restarting import myself, spec

NO_USERS = 4


@pytest.mark.parametrize("left", ["", "default", "cachecluster-node"])
async def test_a_node_never_starts_without_its_users(nodes: ProcessCluster, engine: EngineBinary, left: str) -> None:
    pods = Pods(nodes, spec(engine, 1, 0))
    node, whole = pods[0, 0], dict(pods.acl)
    for name, content in whole.items():
        if name.endswith(".acl"):
            lines = content.decode().splitlines(keepends=True)
            pods.acl[name] = "".join(line for line in lines if line.split()[1] == left).encode()
    await node.start(ready=False)
    assert await node.until_exit() == NO_USERS
    message = termination_log(node).read_text()
    assert f"users-{engine.family}-quarantine.acl of the mounted Secret lacks the user" in message
    pods.acl = whole
    await node.start()
    assert await myself(node)
