"""Several nodes that belong together, like the pods of a cluster; all end with the block that started them."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.engines.harness.addresses import Addresses
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.node import Command, NodeProcess
from tests.engines.harness.waiting import until

SLOTS: Final = 16384

CLUSTER_OPTIONS: Final[Mapping[str, str]] = {
    "cluster-enabled": "yes",
    "cluster-node-timeout": "2000",
    "cluster-require-full-coverage": "no",
    "cluster-allow-replica-migration": "no",
    "repl-diskless-sync-delay": "0",
    "enable-debug-command": "local",
}


class ProcessCluster:
    """Nodes by name. Used as `async with`, every process is gone at the end, whatever happened.

    Nodes get cluster mode by default; pass `command` (and `env`) to run the operator's start script in them instead.
    """

    def __init__(self, binary: EngineBinary, directory: Path) -> None:
        self.binary = binary
        self.directory = directory
        self.addresses = Addresses()
        self.nodes: dict[str, NodeProcess] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __getitem__(self, name: str) -> NodeProcess:
        return self.nodes[name]

    def __iter__(self) -> Iterator[NodeProcess]:
        return iter(self.nodes.values())

    def add(
        self,
        name: str,
        *,
        binary: EngineBinary | None = None,
        command: Command | None = None,
        options: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        restart_on_exit: bool = False,
        username: str | None = None,
        password: str | None = None,
    ) -> NodeProcess:
        """A new node with an address and a directory of its own; not started yet. Arguments as for NodeProcess."""
        if name in self.nodes:
            raise ValueError(f"there is a node {name} already")
        node = NodeProcess(
            name,
            binary or self.binary,
            self.directory / name,
            self.addresses.take(),
            command=command,
            options={**CLUSTER_OPTIONS, **(options or {})},
            env=env,
            restart_on_exit=restart_on_exit,
            username=username,
            password=password,
        )
        self.nodes[name] = node
        return node

    async def start(self, *, ready: bool = True) -> None:
        """Start every node that does not run, all at once."""
        await asyncio.gather(*(node.start(ready=ready) for node in self if not node.running))

    async def meet(self) -> None:
        """MEET every node with every other one (full mesh) and wait until each knows all as connected."""
        for one in self:
            await one.calls(*(("CLUSTER", "MEET", other.address, other.port) for other in self if other is not one))
        await until(self._all_know_all, f"{len(self.nodes)} nodes know each other")

    async def form(self, shards: int) -> None:
        """Make the first `shards` nodes primaries with even slots, and the others their replicas in turn; wait until
        every node says that the cluster is ok and every replica has synced."""
        nodes = list(self)
        for epoch, node in enumerate(nodes, start=1):
            await node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        await self.meet()
        primaries, replicas = nodes[:shards], nodes[shards:]
        for index, primary in enumerate(primaries):
            first, last = SLOTS * index // shards, SLOTS * (index + 1) // shards - 1
            await primary.call("CLUSTER", "ADDSLOTSRANGE", first, last)
        for index, replica in enumerate(replicas):
            primary_id = await primaries[index % shards].call("CLUSTER", "MYID")
            await replica.call("CLUSTER", "REPLICATE", primary_id)
        for node in nodes:
            await until(lambda node=node: is_ok(node), f"cluster_state ok at {node.name}")  # type: ignore[misc]
        for replica in replicas:
            await until(lambda node=replica: is_synced(node), f"{replica.name} is synced")  # type: ignore[misc]

    async def close(self) -> None:
        """Kill what still runs."""
        await asyncio.gather(*(node.close() for node in self))

    def logs(self) -> Iterator[tuple[str, str]]:
        """Name and last log lines of every node, for the report of a failed test."""
        for node in self:
            yield node.name, node.log_end()

    async def _all_know_all(self) -> bool:
        views = await asyncio.gather(*(node.call("CLUSTER", "NODES") for node in self))
        return all(_settled_links(view) == len(self.nodes) for view in views)


def _settled_links(view: str) -> int:
    """Nodes in a CLUSTER NODES text whose handshake is over and whose link is up."""
    lines = [line.split() for line in view.splitlines()]
    return sum(fields[7] == "connected" and "handshake" not in fields[2] for fields in lines)


async def is_ok(node: NodeProcess) -> bool:
    """Whether the node itself says cluster_state:ok."""
    return "cluster_state:ok" in await node.call("CLUSTER", "INFO")


async def is_synced(node: NodeProcess) -> bool:
    """Whether a replica's link to its primary is up and its first sync over."""
    return "master_link_status:up" in await node.call("INFO", "replication")
