"""The start script and the memory limit: no edit of the live parameters gives a node more than its share."""

import pytest

from cachecluster.domain.memory import MAXMEMORY_PERCENT
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.pods import Pods, field_of
from tests.engines.restarting import spec

LIMIT = 256 * 2**20
SHARE = LIMIT * MAXMEMORY_PERCENT // 100
LARGEST_PAGE = 65536

TOO_MUCH = {
    "units": "maxmemory 100gb\n",
    "bytes": f"maxmemory {SHARE + LARGEST_PAGE}\n",
    "capitals": f"MaxMemory {2 * LIMIT}\n",
    "unlimited": "maxmemory 0\n",
    "unlimited in other words": "maxmemory 000\n",
    "quoted": '"maxmemory" 100gb\n',
    "more than fits into a number": f"maxmemory {10**18}\n",
    "twice": f"maxmemory 1000000\nmaxmemory {2 * LIMIT}\n",
    "behind another": 'maxmemory 1000000\n"maxmemory" 100gb\n',
    "none": "",
}


async def begins_with(pods: Pods) -> int:
    """maxmemory of a node that has just been started with what is mounted now."""
    node = pods[0, 0]
    if node.running:
        await node.stop()
    await node.start()
    return int(await field_of(node, "memory", "maxmemory"))


@pytest.mark.parametrize("edited", TOO_MUCH)
async def test_no_edit_gives_a_node_more_than_its_share(
    nodes: ProcessCluster, engine: EngineBinary, edited: str
) -> None:
    pods = Pods(nodes, spec(engine, 1, 0))
    pods.live["live.conf"] = TOO_MUCH[edited]
    assert 0 < await begins_with(pods) <= (LIMIT + LARGEST_PAGE) * MAXMEMORY_PERCENT // 100


async def test_what_the_operator_has_written_is_in_force_to_the_byte(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = Pods(nodes, spec(engine, 1, 0))
    assert await begins_with(pods) == SHARE
    pods.cgroup = {"memory.max": f"{LIMIT - 4095}\n"}  # a limit between two pages, as the kernel rounds it
    assert await begins_with(pods) == SHARE
    pods.live["live.conf"] = "maxmemory 1000000\n"
    assert await begins_with(pods) == 1000000


async def test_a_node_that_restarts_with_a_smaller_limit_does_not_wait_for_the_file(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = Pods(nodes, spec(engine, 1, 0))
    pods.cgroup = {"memory/memory.limit_in_bytes": f"{LIMIT // 2}\n"}  # as version 1 of control groups calls it
    assert await begins_with(pods) <= SHARE // 2 + LARGEST_PAGE


@pytest.mark.parametrize(
    "cgroup", [{}, {"memory.max": "max\n"}, {"memory/memory.limit_in_bytes": f"{2**63 - 4096}\n"}], ids=str
)
async def test_without_a_limit_that_can_be_read_the_file_decides(
    nodes: ProcessCluster, engine: EngineBinary, cgroup: dict[str, str]
) -> None:
    pods = Pods(nodes, spec(engine, 1, 0))
    pods.cgroup = cgroup
    pods.live["live.conf"] = f"maxmemory {2 * LIMIT}\n"
    assert await begins_with(pods) == 2 * LIMIT
