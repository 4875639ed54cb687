"""Nodes with the users that the operator writes, formed and asked through the operator's own client."""

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from redis.asyncio import Redis

from cachecluster.api import names
from cachecluster.api.spec import AuthMode, CacheClusterSpec
from cachecluster.domain.nodes import NodeId, Role
from cachecluster.domain.slots import ALL_SLOTS, share
from cachecluster.engines.client import NodeClient
from cachecluster.engines.valkey import ValkeyConnector
from cachecluster.manifests import Passwords, acl
from tests.engines.harness.addresses import BUS_PORT, PORT
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until

PASSWORDS: Final = Passwords("app-secret", "operator-secret", "replication-secret", "node-secret")
CONNECTOR: Final = ValkeyConnector()


def spec_version(binary: EngineBinary) -> str:
    """The version that a spec names: for Redis the one of Valkey that is closest to it."""
    return "8.0" if binary.name == "redis" else binary.family


def _for_redis(users: str) -> str:
    """Without the rights to what only Valkey knows, or only later releases of Redis."""
    unknown = {"+cluster|slot-stats", "+cluster|myshardid"}
    return "".join(" ".join(w for w in line.split(" ") if w not in unknown) + "\n" for line in users.splitlines())


def of_shard(users: str, shard: int) -> str:
    """A file of users as the start script writes it for a node of that shard."""
    lines = (line.split(" ", 2) for line in users.splitlines())
    return "".join(f"{kind} {names.user_of(user, shard)} {rules}\n" for kind, user, rules in lines)


class Nodes:
    """Nodes with the users that the operator writes, and connections to them as the operator opens them."""

    def __init__(self, cluster: ProcessCluster, stack: contextlib.AsyncExitStack) -> None:
        self.cluster = cluster
        self._stack = stack
        self._spec = CacheClusterSpec.parse(
            {
                "engine": "Valkey",
                "version": spec_version(cluster.binary),
                "topology": {"mode": "Cluster", "shards": 2, "replicasPerShard": 1},
                "resources": {"limits": {"memory": "256Mi"}},
            }
        )

    async def start(self, name: str, shard: int = 0) -> NodeProcess:
        """A blank node with its users."""
        return await self._start(name, shard, acl.users_file(self._spec.version, AuthMode.PASSWORD, PASSWORDS))

    async def start_quarantined(self, name: str) -> NodeProcess:
        """A blank node of shard 0 whose users but the operator's and its own are off."""
        return await self._start(name, 0, acl.quarantine_file(self._spec.version, AuthMode.PASSWORD, PASSWORDS))

    async def _start(self, name: str, shard: int, general: str) -> NodeProcess:
        users = of_shard(general, shard)
        directory = self.cluster.directory / name
        directory.mkdir(parents=True)
        is_redis = self.cluster.binary.name == "redis"
        (directory / "users.acl").write_text(_for_redis(users) if is_redis else users)
        node = self.cluster.add(
            name,
            username=names.USER_APPLICATION,
            password=PASSWORDS.application,
            options={
                "aclfile": str(directory / "users.acl"),
                "masteruser" if is_redis else "primaryuser": names.user_of(names.USER_REPLICATION, shard),
                "masterauth" if is_redis else "primaryauth": PASSWORDS.replication,
            },
        )
        await node.start()
        return node

    async def client(self, node: NodeProcess) -> NodeClient:
        """A connection that is open until the test ends."""
        return await self._stack.enter_async_context(CONNECTOR.connect(node.address, PASSWORDS.operator))

    async def form(
        self, primaries: int, replicas_of: Sequence[int] = (0,), *, owning: int | None = None
    ) -> list[tuple[NodeProcess, NodeClient]]:
        """Primaries of which the first ``owning`` share all slots (default: all), then synced replicas, one for each
        entry of ``replicas_of``, the index of its primary; formed by the client alone.
        """
        count = primaries + len(replicas_of)
        shards = (*range(primaries), *replicas_of)
        nodes = await asyncio.gather(*(self.start(f"n{index}", shard) for index, shard in enumerate(shards)))
        clients = await asyncio.gather(*map(self.client, nodes))
        ids = await asyncio.gather(*(client.node_id() for client in clients))
        await asyncio.gather(*(client.set_config_epoch(epoch) for epoch, client in enumerate(clients, start=1)))
        for (one, client), other in itertools.product(zip(nodes, clients, strict=True), nodes):
            if one is not other:
                await client.meet(other.address, PORT, BUS_PORT)
        for client, slots in zip(clients, share(owning or primaries), strict=False):
            await client.add_slots(slots)
        await _every(clients, lambda c: sees_all_slots(c, count), "every node knows all")
        replicas = clients[primaries:]
        for replica, primary in zip(replicas, replicas_of, strict=True):
            await replica.replicate(ids[primary])
        await _every(replicas, in_step, "the replicas are in step")
        for replica_id in ids[primaries:]:  # primaries vote only for a replica that they know as one
            await _every(clients, lambda c, i=replica_id: lists_replica(c, i), "every node knows it")  # type: ignore[misc]
        await _every(clients, serves, "every node sees the whole cluster")
        return list(zip(nodes, clients, strict=True))


async def _every(clients: Sequence[NodeClient], holds: Callable[[NodeClient], Awaitable[bool]], what: str) -> None:
    """Wait until something is true of each node."""
    await asyncio.gather(*(until(lambda c=client: holds(c), what) for client in clients))  # type: ignore[misc]


async def sees_all_slots(client: NodeClient, nodes: int) -> bool:
    """Whether the node is linked to that many, itself included, and knows an owner for every slot."""
    peers = [p for p in (await client.view()).peers if p.connected and "handshake" not in p.flags]
    return len(peers) == nodes and sum(len(p.slots) for p in peers) == len(ALL_SLOTS)


async def lists_replica(client: NodeClient, node_id: NodeId) -> bool:
    """Whether the node serves and its table has the other as a replica."""
    view = await client.view()
    row = view.peer(node_id)
    return view.cluster_state_ok and row is not None and row.primary_id is not None


async def in_step(client: NodeClient) -> bool:
    """Whether the node is a replica with its link up."""
    link = (await client.view()).link
    return link is not None and link.up


async def leads(client: NodeClient) -> bool:
    """Whether the node is a primary by now."""
    return (await client.view()).role is Role.PRIMARY


async def serves(client: NodeClient) -> bool:
    """Whether the node says that the cluster is ok."""
    return (await client.view()).cluster_state_ok


async def has_no_link(client: NodeClient) -> bool:
    """Whether the node is a replica that has lost its primary."""
    link = (await client.view()).link
    return link is not None and not link.up


async def as_operator(node: NodeProcess, *words: str) -> Any:
    """The reply to one command over a separate connection of the operator's user."""
    async with Redis(host=node.address, username=names.USER_OPERATOR, password=PASSWORDS.operator, protocol=2) as other:
        return await other.execute_command(*words)  # type: ignore[no-untyped-call]
