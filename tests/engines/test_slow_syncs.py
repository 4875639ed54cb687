"""A full sync that takes long: what the operator is told of it meanwhile."""

import asyncio

from cachecluster.domain.nodes import NodeView
from cachecluster.domain.syncing import catching_up, is_catching_up
from tests.engines.fleet import Nodes, as_operator, in_step, sees_all_slots
from tests.engines.harness.waiting import until

KEYS = 3000


async def test_a_replica_that_copies_and_loads_for_long_says_how_far_it_is(fleet: Nodes) -> None:
    await fleet.form(1, ())
    primary, replica = fleet.cluster["n0"], await fleet.start("late")
    client = await fleet.client(replica)
    await client.meet(primary.address, 6379, 16379)
    await until(lambda: sees_all_slots(client, 2), "the replica knows the primary")
    for number in range(0, KEYS, 500):
        pairs = [word for i in range(number, number + 500) for word in (f"key{i}", "v" * 1000)]
        await primary.call("EVAL", "for i = 1, #ARGV, 2 do redis.call('SET', ARGV[i], ARGV[i+1]) end", 0, *pairs)
    await as_operator(primary, "CONFIG", "SET", "rdb-key-save-delay", "700", "repl-timeout", "60")
    slow = ("key-load-delay", "500", "loading-process-events-interval-bytes", "1024")
    await as_operator(replica, "CONFIG", "SET", *slow)
    await client.replicate((await (await fleet.client(primary)).view()).node_id)
    seen: list[NodeView] = []
    while not await in_step(client):
        seen.append(await client.view())
        await asyncio.sleep(0.02)
    copying = [v for v in seen if v.link is not None and v.link.sync_in_progress and not v.loading]
    loading = [v.loaded_percent for v in seen if v.loading and v.loaded_percent is not None]
    assert copying
    assert len({percent for percent in loading if percent < 100}) > 2, "it says how much of the file is in memory"
    assert loading == sorted(loading)
    assert all(is_catching_up(v) and catching_up(v) for v in (*copying, *(v for v in seen if v.loading)))
