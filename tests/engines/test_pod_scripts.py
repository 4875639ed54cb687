"""Readiness and hand-over, run in the pods as the kubelet runs them; and what each of the engine's users may do."""

import asyncio
import time
from contextlib import suppress
from typing import Any, Final, Self

import pytest
from redis import exceptions as refused
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cachecluster.api import names
from tests.engines.harness.addresses import PORT
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import CALL_TIMEOUT_SECONDS, NodeProcess
from tests.engines.harness.waiting import until
from tests.engines.pods import Pods, field_of, is_ready, run_in_pod

QUICK: Final = {"cluster-node-timeout": "2000"}


def pods_of(nodes: ProcessCluster, engine: EngineBinary, shards: int, replicas: int, **more: Any) -> Pods:
    spec = {
        "engine": "Valkey",
        "version": engine.family,
        "topology": {"mode": "Cluster", "shards": shards, "replicasPerShard": replicas},
        "resources": {"limits": {"memory": "256Mi"}},
        **more,
    }
    return Pods(nodes, spec, tuned=QUICK)


async def readiness(node: NodeProcess) -> tuple[int, str]:
    status, output = await run_in_pod(node, "ready.sh")
    return status, output.strip()


async def role(node: NodeProcess) -> str:
    return await field_of(node, "replication", "role")


class Writer:
    """Increments counters through a cluster client, several at a time, and knows what was acknowledged."""

    def __init__(self, pods: Pods) -> None:
        self._client = pods.cluster_client(pods[0, 0])
        self._tasks: list[asyncio.Task[None]] = []
        self._stop = False
        self.acked: dict[str, int] = {}
        self.errors: list[Exception] = []

    async def __aenter__(self) -> Self:
        await self._client.initialize()
        self._tasks = [asyncio.create_task(self._write(f"counter-{i}")) for i in range(12)]
        await until(self._all_have_written, f"every counter was written {self.errors}")
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)

    async def _all_have_written(self) -> bool:
        return len(self.acked) == 12

    async def assert_no_acked_write_lost(self) -> None:
        found = {key: int(await self._client.get(key) or 0) for key in self.acked}
        await self._client.aclose()
        assert {key: n for key, n in found.items() if n < self.acked[key]} == {}

    async def _write(self, key: str) -> None:
        while not self._stop:
            try:
                self.acked[key] = int(await self._client.incr(key))
            except (refused.RedisError, OSError, AttributeError) as error:
                # AttributeError is redis-py's own when another task has just dropped the shared connection.
                self.errors.append(error)


async def test_node_is_ready_once_it_is_a_member_and_in_step(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 1, 1)
    await pods.start()
    assert await readiness(pods[0, 0]) == (1, "not a member of a formed cluster yet")
    await pods.form()
    assert await readiness(pods[0, 0]) == (0, "")
    assert await readiness(pods[0, 1]) == (0, "")
    await pods[0, 0].kill()

    async def noticed() -> bool:
        return await readiness(pods[0, 1]) == (1, "not in step with its primary")

    await until(noticed, "the replica notices that its primary is gone")


async def test_replica_that_has_not_heard_of_its_primary_for_seconds_is_not_ready(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    """By that the operator learns that nobody reports to the primary any more."""
    pods = pods_of(nodes, engine, 1, 1)
    await pods.form()
    pods[0, 0].pause()

    async def noticed() -> bool:
        return await readiness(pods[0, 1]) == (1, "has not heard of its primary for seconds")

    await until(noticed, "the replica notices that its primary says nothing", within=10)
    pods[0, 0].resume()
    await until(lambda: is_ready(pods[0, 1]), "it hears it again")


async def test_readiness_does_not_depend_on_the_rest_of_the_cluster(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = pods_of(nodes, engine, 3, 0)
    await pods.form()
    await pods[1, 0].kill()
    await pods[2, 0].kill()

    async def down() -> bool:
        return "cluster_state:fail" in await pods[0, 0].call("CLUSTER", "INFO")

    await until(down, "the survivor says that the cluster is down")
    assert await is_ready(pods[0, 0])


async def test_hung_node_is_not_ready_and_the_probe_ends_in_time(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 1, 0)
    node = pods[0, 0]
    await pods.form()
    node.pause()
    began = time.monotonic()
    assert await readiness(node) == (1, "no answer")
    assert time.monotonic() - began < 5, "the kubelet waits no longer"
    node.resume()
    assert await is_ready(node)


async def test_handover_loses_no_acked_write_and_needs_no_operator(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 3, 1)
    await pods.form()
    writer = Writer(pods)
    async with writer:
        for shard in range(3):
            status, output = await run_in_pod(pods[shard, 0], "handover.sh")
            assert (status, output) == (0, f"handover: {pods[shard, 1].address} has taken over\n")
            assert await role(pods[shard, 0]) == "slave"
            await pods[shard, 0].stop()
            assert await role(pods[shard, 1]) == "master"
    await writer.assert_no_acked_write_lost()


async def test_handover_chooses_a_replica_that_is_in_step(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 1, 2)
    await pods.form()
    frozen, fit = pods[0, 1], pods[0, 2]
    frozen.pause()
    async with pods.application(pods[0, 0]) as client:
        await client.set("key", "x" * 1000)
        assert await client.wait(1, 5000) == 1
    began = time.monotonic()
    _, output = await run_in_pod(pods[0, 0], "handover.sh")
    assert output == f"handover: {fit.address} has taken over\n"
    assert time.monotonic() - began < 12


async def test_handover_is_over_at_once_where_there_is_nothing_to_hand_over(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = pods_of(nodes, engine, 1, 1)
    await pods.start()
    assert await run_in_pod(pods[0, 0], "handover.sh") == (0, "")  # owns no slots yet
    await pods.form()
    assert await run_in_pod(pods[0, 1], "handover.sh") == (0, "")  # a replica
    await pods[0, 1].kill()

    async def alone() -> bool:
        return await field_of(pods[0, 0], "replication", "connected_slaves") == "0"

    await until(alone, "the primary has lost its replica")
    assert await run_in_pod(pods[0, 0], "handover.sh") == (0, "handover: no replica is online\n")


async def test_handover_gives_up_when_the_only_replica_hangs(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 1, 1)
    await pods.form()
    pods[0, 1].pause()
    began = time.monotonic()
    assert await run_in_pod(pods[0, 0], "handover.sh") == (
        0,
        "handover: gave up, no replica has taken over in time\n",
    )
    assert time.monotonic() - began < 15


async def test_all_pods_deleted_at_once_are_gone_soon(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 3, 1)
    await pods.form()

    async def terminate(node: NodeProcess) -> None:
        with suppress(ProcessLookupError):
            await run_in_pod(node, "handover.sh")
        await node.stop()

    began = time.monotonic()
    await asyncio.gather(*(terminate(node) for node in pods.nodes.values()))
    assert time.monotonic() - began < 20
    assert {node.exit_status for node in pods.nodes.values()} == {0}


# --- users -----------------------------------------------------------------------------------------------------------


def client_of(node: NodeProcess, user: str | None = None, password: str | None = None) -> Redis:
    return Redis(
        retry=Retry(NoBackoff(), 0),
        host=node.address,
        port=PORT,
        username=user,
        password=password,
        socket_timeout=CALL_TIMEOUT_SECONDS,
        decode_responses=True,
    )


async def allowed(client: Redis, *words: str | int) -> bool:
    """Whether the user may run the command, whatever comes of it."""
    client.response_callbacks.clear()
    try:
        await client.execute_command(*words)  # type: ignore[no-untyped-call]
    except refused.NoPermissionError:
        return False
    except refused.ResponseError as error:
        return not any(sign in str(error) for sign in ("NOPERM", "command not allowed"))
    return True


APPLICATION_MAY: Final = (
    "PING", "SET k v", "GET k", "DEL k", "KEYS *", "SCAN 0", "FLUSHALL", "INFO", "ROLE", "TIME", "DBSIZE", "WAIT 0 1",
    "MULTI", "EXEC", "WATCH k", "EVAL return(1) 0", "SCRIPT EXISTS x", "FUNCTION LIST", "PUBLISH c m", "SPUBLISH c m",
    "PUBSUB CHANNELS", "COMMAND COUNT", "COMMAND INFO get", "OBJECT ENCODING k", "DUMP k", "SORT k",
    "CLIENT SETNAME x", "CLIENT SETINFO LIB-NAME x", "CLIENT ID", "CLIENT GETNAME", "CLIENT INFO", "CLIENT CACHING YES",
    "CLIENT TRACKING OFF", "CLIENT NO-TOUCH ON", "CLIENT REPLY ON", "HELLO 3", "READONLY", "READWRITE", "ASKING",
    "ACL WHOAMI", "SELECT 0",
    "CLUSTER SLOTS", "CLUSTER SHARDS", "CLUSTER NODES", "CLUSTER INFO", "CLUSTER MYID", "CLUSTER MYSHARDID",
    "CLUSTER KEYSLOT k", "CLUSTER COUNTKEYSINSLOT 1", "CLUSTER GETKEYSINSLOT 1 1", "CLUSTER LINKS",
    "CLUSTER REPLICAS x", "CLUSTER SLOT-STATS SLOTSRANGE 0 1",
)  # fmt: skip
APPLICATION_MUST_NOT: Final = (
    "CONFIG GET *", "CONFIG SET maxmemory 1", "CONFIG RESETSTAT", "ACL LIST", "ACL SETUSER x", "ACL GETUSER default",
    "REPLICAOF NO ONE", "SLAVEOF NO ONE", "SHUTDOWN NOSAVE", "DEBUG SLEEP 0", "MODULE LIST", "MODULE LOAD x",
    "MIGRATE h 1 k 0 1", "RESTORE-ASKING k 0 x", "SAVE", "BGSAVE", "BGREWRITEAOF", "MONITOR", "SYNC", "PSYNC ? -1",
    "REPLCONF x y", "FAILOVER", "CLIENT KILL TYPE normal", "CLIENT PAUSE 1", "CLIENT LIST", "LATENCY RESET",
    "SLOWLOG RESET", "CLUSTER MEET 127.0.0.1 1", "CLUSTER FORGET x", "CLUSTER RESET", "CLUSTER FAILOVER",
    "CLUSTER REPLICATE x", "CLUSTER ADDSLOTS 1", "CLUSTER DELSLOTS 1", "CLUSTER FLUSHSLOTS", "CLUSTER SETSLOT 1 STABLE",
    "CLUSTER BUMPEPOCH", "CLUSTER SET-CONFIG-EPOCH 1", "CLUSTER SAVECONFIG",
)  # fmt: skip
OPERATOR_MAY: Final = (
    "PING", "INFO everything", "ROLE", "CLUSTER NODES", "CLUSTER MYID", "CLUSTER COUNTKEYSINSLOT 1", "CLUSTER MEET x 1",
    "CLUSTER FORGET x", "CLUSTER REPLICATE x", "CLUSTER FAILOVER", "CLUSTER SET-CONFIG-EPOCH x", "CONFIG GET save",
    "CONFIG SET repl-ping-replica-period 1", "ACL SETUSER default on", "ACL GETUSER default", "ACL LOAD", "CLIENT LIST",
    "CLIENT SETNAME x", "CLIENT NO-EVICT OFF", "COMMAND INFO get", "DBSIZE", "WAIT 0 1",
)  # fmt: skip
OPERATOR_MUST_NOT: Final = (
    "GET k", "SET k v", "DEL k", "KEYS *", "SCAN 0", "RANDOMKEY", "DUMP k", "FLUSHALL", "EVAL return(1) 0",
    "DEBUG SLEEP 0", "MODULE LIST", "MONITOR", "SHUTDOWN NOSAVE",
)  # fmt: skip
NODE_MAY: Final = (
    "PING", "INFO", "ROLE", "HELLO 3", "CLUSTER MYID", "CLUSTER NODES", "CLUSTER INFO", "CLUSTER FAILOVER",
    "ACL GETUSER default",
)  # fmt: skip
NODE_MUST_NOT: Final = (
    "GET k", "SET k v", "KEYS *", "CONFIG GET *", "ACL LIST", "ACL SETUSER x", "CLUSTER MEET 127.0.0.1 1",
    "CLUSTER RESET", "CLUSTER FORGET x", "REPLICAOF NO ONE", "SHUTDOWN NOSAVE", "CLIENT LIST", "DBSIZE",
)  # fmt: skip


async def test_each_user_may_do_its_work_and_nothing_else(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 1, 0)
    node = pods[0, 0]
    await pods.form()
    table = (
        (names.USER_APPLICATION, pods.passwords.application, APPLICATION_MAY, APPLICATION_MUST_NOT),
        (names.USER_OPERATOR, pods.passwords.operator, OPERATOR_MAY, OPERATOR_MUST_NOT),
        (names.USER_NODE, pods.passwords.node, NODE_MAY, NODE_MUST_NOT),
    )
    for user, password, may, must_not in table:
        async with client_of(node, user, password) as client:
            assert [c for c in may if not await allowed(client, *c.split())] == [], user
            assert [c for c in must_not if await allowed(client, *c.split())] == [], user


async def test_replication_user_can_do_nothing_but_replicate(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 1, 0)
    await pods.form()
    user, password = names.user_of(names.USER_REPLICATION, 0), pods.passwords.replication
    async with client_of(pods[0, 0], user, password) as client:
        reads = ("GET k", "KEYS *", "INFO", "CONFIG GET *", "CLUSTER NODES", "CLUSTER FAILOVER", "ACL LIST", "FLUSHALL")
        got_through = [c for c in reads if await allowed(client, *c.split())]
        # Atomic slot migration writes as this user.
        assert got_through == (["FLUSHALL"] if engine.family == "9.1" else [])


async def test_nobody_gets_in_without_a_password_unless_auth_is_disabled(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    locked = pods_of(nodes, engine, 1, 0)
    await locked.form()
    open_ = Pods(
        nodes, locked.spec.model_dump(by_alias=True, exclude_none=True) | {"auth": {"mode": "Disabled"}},
        uid="7e1f3a52-0000-4000-8000-000000000002", tuned=QUICK,
    )  # fmt: skip
    await open_.form()
    for user, password in ((None, None), ("default", "wrong"), (names.USER_OPERATOR, "")):
        async with client_of(locked[0, 0], user, password) as client:
            with pytest.raises((refused.AuthenticationError, refused.ResponseError)):
                await client.get("k")
    async with client_of(open_[0, 0]) as client:
        assert await client.set("k", "v")
        assert not await allowed(client, "CONFIG", "GET", "*")
    with pytest.raises((refused.AuthenticationError, refused.ResponseError)):
        async with client_of(open_[0, 0], names.USER_OPERATOR, "") as client:
            await client.info()


async def test_ordinary_cluster_client_works_as_the_application(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, 3, 1)
    await pods.form()
    async with pods.cluster_client(pods[2, 1]) as client:
        for i in range(30):
            await client.set(f"key-{i}", i)
        assert [int(await client.get(f"key-{i}") or -1) for i in range(30)] == list(range(30))
        assert await client.eval("return redis.call('incr', KEYS[1])", 1, "counter") == 1
        assert await client.mset_nonatomic({"a": 1, "b": 2})


async def test_users_parameters_take_effect_and_never_the_operators_own(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    parameters = {"maxmemory-policy": "allkeys-lru", "notify-keyspace-events": "KEA", "slowlog-max-len": 7}
    pods = pods_of(nodes, engine, 1, 0, parameters=parameters)
    await pods.start()
    node = pods[0, 0]

    async def setting(name: str) -> str:
        pair: list[str] = await node.call("CONFIG", "GET", name)
        return pair[1]

    assert await setting("maxmemory-policy") == "allkeys-lru"
    assert set(await setting("notify-keyspace-events")) >= set("KA")
    assert await setting("slowlog-max-len") == "7"
    assert await setting("maxmemory") == str(256 * 2**20 * 60 // 100)
    assert await setting("save") == ""
    assert await setting("cluster-port") == str(names.bus_port(pods.ref.namespace, pods.ref.name))
    assert await setting("cluster-allow-replica-migration") == "no"
