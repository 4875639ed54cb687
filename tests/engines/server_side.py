"""The real servers' side of a schedule that the model has run."""

import itertools
from collections.abc import Iterable
from typing import Final

from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

from cachecluster.domain.slots import SlotSet, share
from cachecluster.engines import parse
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.tags import tag
from tests.engines.model_side import ASKING, KEYS, MOVING_SLOT, Seen, State, Step, in_order
from tests.simulation.engine.atomic import ATOMIC_SINCE

EVERYTHING: Final = -2
NOTHING: Final = -1
"""Of DEBUG DROP-CLUSTER-PACKET-FILTER."""


class Servers:
    """The real side."""

    def __init__(self, cluster: ProcessCluster, shards: int) -> None:
        self.cluster, self.shards = cluster, shards
        self.names: dict[str, str] = {}
        self.starts = 2 * shards
        self.has_atomic = tuple(map(int, cluster.binary.family.split("."))) >= ATOMIC_SINCE
        self.nodes = [cluster.add(f"n{i}") for i in range(2 * shards)]

    async def form(self) -> None:
        await self.cluster.start()
        for index, node in enumerate(self.nodes):
            self.names[await node.call("CLUSTER", "MYID")] = f"{index}.0"
        await self.cluster.form(self.shards)
        for shard, slots in enumerate(share(self.shards)):
            for key in range(KEYS[shard]):
                await self.nodes[shard].call("SET", _key(slots.ranges[0][0], key), "v")

    async def carry_out(self, step: Step) -> bool:
        """Whether it was accepted."""
        node = self.nodes[step.node]
        match step.what:
            case "forget":
                answers = [await self._command(n, step) for n in self.nodes if n.running]
                return all(answers)
            case "bounce":
                await node.kill()
                await self._start(step.node)
            case "kill":
                await node.kill()
            case "start":
                await self._start(step.node)
            case "move":
                node.address = self.cluster.addresses.take()
                await self._start(step.node)
            case "deaf":
                await node.call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", EVERYTHING)
            case "hears":
                await node.call("DEBUG", "DROP-CLUSTER-PACKET-FILTER", NOTHING)
                await self._connect_anew_to(node)
            case "blank":
                for path in node.data.iterdir():
                    path.unlink()
                await self._start(step.node)
            case _:
                return await self._command(node, step)
        return True

    async def _connect_anew_to(self, node: NodeProcess) -> None:
        """A ping that was dropped on a connection that stands is waited for as long as other packets come, and who has
        given the node up stays with that: no network loses a packet so.
        """
        node_id = await node.call("CLUSTER", "MYID")
        for other in self.nodes:
            if other is not node and other.running:
                await other.call("DEBUG", "CLUSTERLINK", "KILL", "TO", node_id)

    async def _start(self, index: int) -> None:
        self.starts += 1
        await self.nodes[index].start()
        self.names.setdefault(await self.nodes[index].call("CLUSTER", "MYID"), f"{index}.{self.starts}")

    async def _command(self, node: NodeProcess, step: Step) -> bool:
        other_id = next(i for i, name in self.names.items() if name.startswith(f"{step.other}."))
        words: dict[str, tuple[str | int, ...]] = {
            "force": ("FAILOVER", "FORCE"),
            "takeover": ("FAILOVER", "TAKEOVER"),
            "graceful": ("FAILOVER",),
            "replicate": ("REPLICATE", other_id),
            "forget": ("FORGET", other_id),
            "add_slots": ("ADDSLOTSRANGE", 0, 3),
            "epoch": ("SET-CONFIG-EPOCH", 77),
            "bump": ("BUMPEPOCH",),
            "meet": ("MEET", self.nodes[step.other].address, 6379),
            "importing": ("SETSLOT", MOVING_SLOT, "IMPORTING", other_id),
            "migrating": ("SETSLOT", MOVING_SLOT, "MIGRATING", other_id),
            "node": ("SETSLOT", MOVING_SLOT, "NODE", other_id),
            "stable": ("SETSLOT", MOVING_SLOT, "STABLE"),
        }
        try:
            if step.what in {"at_once", "while_it_dies", "and_dies", "call_off"}:
                await self._at_once(node, step, other_id)
                return True
            if step.what in ASKING:
                await node.call("CONFIG", "SET", *itertools.chain(*ASKING[step.what]))
                return True
            if step.what == "migrate":
                keys = [_key(MOVING_SLOT, number) for number in range(KEYS[0])]
                to = (self.nodes[step.other].address, 6379)
                await node.call("MIGRATE", *to, "", 0, 5000, "REPLACE", "KEYS", *keys)
                return True
            await node.call("CLUSTER", *words[step.what])
        except ResponseError:
            return False
        return True

    async def _at_once(self, node: NodeProcess, step: Step, other_id: str) -> None:
        """An atomic migration; whoever is to die meanwhile finds the destination standing still."""
        other = self.nodes[step.other]
        order = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", MOVING_SLOT, MOVING_SLOT, "NODE", other_id)
        if step.what == "at_once":
            await node.call(*order)
            return
        other.pause()
        try:
            await node.call(*order)
            if step.what == "call_off":
                await node.call("CLUSTER", "CANCELSLOTMIGRATIONS")
            else:
                await (other if step.what == "while_it_dies" else node).kill()
        finally:
            if other.running:
                other.resume()

    async def state(self) -> State:
        return {str(i): await self._seen(n) if n.running else None for i, n in enumerate(self.nodes)}

    async def _seen(self, node: NodeProcess) -> Seen | None:
        try:
            asked: list[tuple[str, ...]] = [("CLUSTER", "NODES"), ("INFO", "replication"), ("DBSIZE",)]
            if self.has_atomic:
                asked.append(("CLUSTER", "GETSLOTMIGRATIONS"))
            table, info, keys, *jobs = await node.calls(*asked)
        except (Disconnected, TimeoutError):
            return None
        rows = [row for line in table.splitlines() if "handshake" not in (row := line.split())[2]]
        me = next(r for r in rows if "myself" in r[2])
        return Seen(
            role="master" if "master" in me[2] else "slave",
            primary=self._name(me[3]) if me[3] != "-" else "",
            knows=tuple(sorted(self._name(r[0]) for r in rows)),
            owners=in_order((int(r[6]), self._name(r[0]), _slots(r[8:])) for r in rows),
            given_up=tuple(sorted(self._name(r[0]) for r in rows if _given_up(r[2]))),
            in_step="role:master" in info or "master_link_status:up" in info,
            refuses="role:master" in info and "min_slaves_good_slaves:0" in info,
            keys=int(keys),
            given_away=tuple(job.state for job in map(parse.migration, itertools.chain(*jobs)) if job.outgoing),
            open_slots=tuple(sorted(self._open_slot(f) for f in me[8:] if f.startswith("["))),
        )

    def _open_slot(self, field: str) -> str:
        """Of ``[5->-id]`` or ``[5-<-id]``."""
        slot, direction, peer = field.strip("[]").split("-", 2)
        return f"{slot}{direction}{self._name(peer)}"

    def _name(self, node_id: str) -> str:
        return self.names.get(node_id, node_id[:6])


def _slots(fields: Iterable[str]) -> SlotSet:
    return SlotSet.parse(",".join(f for f in fields if not f.startswith("[")))


def _given_up(flags: str) -> bool:
    """Failed, by a majority. Who has no address any more is failed or not as it happens, and it makes no difference."""
    return {"fail", "noaddr"} & set(flags.split(",")) == {"fail"}


def _key(slot: int, number: int) -> str:
    """The ``number``-th key of a slot."""
    return f"{tag(slot).decode()}{number}"
