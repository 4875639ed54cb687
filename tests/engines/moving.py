"""A cluster of real nodes with keys, in which slots are moved as a pass would: look, recover, move, again."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Final, cast

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.actions import FailoverKind, MoveSlots, SettleSlots
from cachecluster.domain.nodes import NodeView, Unreachable
from cachecluster.domain.open_slots import move_between, recover_open_slots
from cachecluster.domain.plan import Do
from cachecluster.domain.policies import resharding
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, SlotSet
from cachecluster.domain.snapshot import ClusterRef, ObjectKey, Pod, Snapshot
from cachecluster.domain.topology import Member, Topology, observe
from cachecluster.engines.client import NodeClient, NodeConnector, NodeError
from cachecluster.kube.api import KubeApi, NotFound
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.slot_moves import move_slots, settle_slots
from cachecluster.reconcile.slot_sizes import slot_bytes
from tests.engines.fleet import CONNECTOR, PASSWORDS, Nodes, has_no_link, leads, spec_version
from tests.engines.harness.binaries import FAMILIES, REDIS_SUITES
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.tags import tag
from tests.engines.harness.waiting import until

REF: Final = ClusterRef("shop", "cart", "uid")
ENGINES: Final = (*FAMILIES, *(f"redis-{family}" for family in REDIS_SUITES))
EVERY_ENGINE: Final = pytest.mark.parametrize("engine", ENGINES, indirect=True)
"""Redis, too: it has the same commands, but SETSLOT reaches no replica and a mark outlives what happens elsewhere."""
_FORMED: Final = {
    "metadata": {"annotations": {names.ANNOTATION_FORMED: str(ALL_SLOTS)}},
    "spec": {"replicas": 1},
}
"""What the API server has of the first shard: all slots have been served, so whoever has none gets some by moves."""


class Pods:
    """The part of the API server that says which pod has which address."""

    def __init__(self, nodes: Mapping[str, NodeProcess]) -> None:
        self.nodes = nodes

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
        """The pod as the API server has it."""
        if name not in self.nodes:
            raise NotFound(name)
        return {"metadata": {"name": name, "uid": f"uid-{name}"}, "status": {"podIP": self.nodes[name].address}}


class Counting:
    """A NodeConnector that runs a hook around every command that changes something."""

    CHANGES: Final = frozenset({"set_slots", "migrate", "start_migration"})

    def __init__(self, hook: Callable[[int, str, bool], Awaitable[None]], *, atomic: bool = False) -> None:
        """``hook`` is given the number of the command, what it is, and whether it has been carried out. Without
        ``atomic``, no engine can move slots at one stroke.
        """
        self.hook, self.atomic = hook, atomic
        self.number = itertools.count()

    @asynccontextmanager
    async def connect(self, ip: str, password: str | None) -> AsyncIterator[NodeClient]:
        """As the real one does."""
        async with CONNECTOR.connect(ip, password) as client:
            yield cast("NodeClient", _Watched(client, self))

    async def has_machine(self, ip: str, seconds: float) -> bool:
        """As the real one does."""
        return await CONNECTOR.has_machine(ip, seconds)


class _Watched:
    def __init__(self, client: NodeClient, counting: Counting) -> None:
        self._client, self._counting = client, counting

    def __getattr__(self, name: str) -> Any:
        command = getattr(self._client, name)
        if name == "moves_atomically" and not self._counting.atomic:
            return _never
        if name not in Counting.CHANGES:
            return command

        async def call(*arguments: Any) -> Any:
            number = next(self._counting.number)
            what = f"{name} {arguments[1]}" if name == "set_slots" else name
            await self._counting.hook(number, what, False)
            result = await command(*arguments)
            await self._counting.hook(number, what, True)
            return result

        return call


async def _never() -> bool:
    return False


class Shop:
    """Shards of real nodes; ``shard_of`` says by node name to which one a node belongs, the first of each leads."""

    def __init__(self, fleet: Nodes, shard_of: Mapping[str, int]) -> None:
        self.fleet, self.shard_of = fleet, dict(shard_of)
        self.pods = Pods(fleet.cluster.nodes)
        self.spec = CacheClusterSpec.parse(
            {
                "engine": "Valkey",
                "version": spec_version(fleet.cluster.binary),
                "topology": {"mode": "Cluster", "shards": 1 + max(shard_of.values()), "replicasPerShard": 0},
                "resources": {"limits": {"memory": "256Mi"}},
            }
        )

    def context(self, connector: NodeConnector = CONNECTOR) -> Context:
        """Means of acting, as a pass has them."""
        deps = Dependencies(
            kube=cast("KubeApi", self.pods),
            nodes=connector,
            hosts=dict,
            now=lambda: 0.0,
            generate_password=lambda: "",
            operator_namespace="",
            events=cast("Any", None),
            leader=lambda: True,
            watcher=cast("Any", None),
            clock=lambda: 0.0,
        )
        return Context(REF, deps, PASSWORDS)

    async def topology(self) -> Topology:
        """Who is who, by what a pass would see."""
        return observe(await self.snapshot())

    async def snapshot(self) -> Snapshot:
        """What a pass would see."""
        views = dict(
            zip(self.shard_of, await asyncio.gather(*(self._view(name) for name in self.shard_of)), strict=True)
        )
        return Snapshot(
            ref=REF,
            generation=1,
            now=0.0,
            spec=self.spec,
            finalizer_visible=True,
            annotations={},
            status={},
            system_secret_exists=True,
            desired=(),
            children={ObjectKey("StatefulSet", "cart-0"): _FORMED},
            pods=tuple(map(self._pod, self.shard_of)),
            hosts={},
            views=views,
        )

    async def _view(self, name: str) -> NodeView | Unreachable:
        try:
            async with CONNECTOR.connect(self.fleet.cluster[name].address, PASSWORDS.operator) as client:
                return await client.view()
        except NodeError as e:
            return Unreachable(str(e), 0.0)

    def _pod(self, name: str) -> Pod:
        shard = [other for other, index in self.shard_of.items() if index == self.shard_of[name]]
        return Pod(
            name=name,
            uid=f"uid-{name}",
            shard=self.shard_of[name],
            ordinal=shard.index(name),
            ip=self.fleet.cluster[name].address,
            host=None,
            phase="Running",
            ready=True,
            deleting=False,
            created_at=0.0,
            unschedulable=None,
            revision="",
            role_label=None,
            container=None,
        )

    def leader(self, topology: Topology, shard: int) -> Member:
        """The shard's primary, with slots or without; raises Doubt if none answers."""
        for member in topology.shards[shard].members:
            if member.node is not None and member.node.leads:
                return member
        raise Doubt(f"nobody who leads shard {shard} answers: {[m.view for m in topology.shards[shard].members]}")

    async def action(self, slots: SlotSet, source: int, destination: int) -> MoveSlots:
        """A move between two shards as they are now."""
        topology = await self.topology()
        return move_between(topology, slots, self.leader(topology, source), self.leader(topology, destination))

    async def move(
        self,
        slots: SlotSet,
        source: int,
        destination: int,
        connector: NodeConnector = CONNECTOR,
        within: float = 120.0,
    ) -> int:
        """Pass after pass until the destination owns the slots and nothing is open; how many keys were moved."""
        keys, trouble = 0, "no pass has come to an end"
        try:
            async with asyncio.timeout(within):
                while True:
                    try:
                        actions, trouble = await self._next(slots, source, destination)
                        if not actions and not trouble:
                            return keys
                        for action in actions:
                            keys += await self._carry_out(action, connector)
                    except (Doubt, NodeError, TimeoutError) as error:  # as the executor does: looked at again
                        trouble = repr(error)
                    await asyncio.sleep(0.05)
        except TimeoutError:
            tables = [await n.call("CLUSTER", "NODES") for n in self.fleet.cluster if n.running]
            raise TimeoutError("\n".join([f"slots {slots} have not moved: {trouble}", *tables])) from None

    async def _next(
        self, slots: SlotSet, source: int, destination: int
    ) -> tuple[Sequence[MoveSlots | SettleSlots], str]:
        """What a pass would do, and what it waits for."""
        topology = await self.topology()
        recovery = recover_open_slots(topology)
        if recovery:
            return recovery.actions, "; ".join(recovery.waiting)
        giver, taker = self.leader(topology, source), self.leader(topology, destination)
        owned = topology.owners.get(giver.target.node_id, NO_SLOTS) & slots
        return [move_between(topology, owned, giver, taker)] if owned else [], ""

    async def reshard(self, *, weighing: bool, within: float = 60.0) -> None:
        """Pass after pass, as the operator plans them, until the slots are shared out over all the shards."""
        async with asyncio.timeout(within):
            while True:
                snap = await self.snapshot()
                topology = observe(snap)
                if weighing:
                    sizes = await slot_bytes(topology, self.context().deps, PASSWORDS.operator)
                    snap = replace(snap, slot_bytes=sizes)
                verdicts = list(resharding.move_slots(Situation(snap, topology)))
                if not verdicts:
                    return
                for verdict in verdicts:
                    if isinstance(verdict, Do) and isinstance(verdict.action, (MoveSlots, SettleSlots)):
                        with contextlib.suppress(Doubt, NodeError, TimeoutError):
                            await self._carry_out(verdict.action, CONNECTOR)
                await asyncio.sleep(0.05)

    async def _carry_out(self, action: MoveSlots | SettleSlots, connector: NodeConnector) -> int:
        if isinstance(action, MoveSlots):
            return await move_slots(action, self.context(connector))
        await settle_slots(action, self.context(connector))
        return 0

    async def take_over(self, name: str) -> None:
        """A replica whose primary is gone becomes the primary, once it knows what its primary still owned (S10)."""
        client = await self.fleet.client(self.fleet.cluster[name])

        async def knows_newest() -> bool:
            view, owners = await client.view(), (await self.topology()).owners
            lost = view.peer(view.myself.primary_id or view.node_id)
            return lost is not None and lost.slots == owners.get(lost.node_id, NO_SLOTS)

        await until(lambda: has_no_link(client), f"{name} has taken in all that its primary sent")
        await until(knows_newest, f"{name} knows which slots its primary has given away")
        await client.failover(FailoverKind.TAKEOVER)
        await until(lambda: leads(client), f"{name} leads")

    async def fill(self, values: Mapping[bytes, bytes]) -> None:
        """Write keys to whoever owns their slots."""
        for name, keys in (await self._by_owner(values)).items():
            async with self.application(name) as client:
                pipe = client.pipeline(transaction=False)
                for key in keys:
                    pipe.set(key, values[key])
                await pipe.execute()

    async def _by_owner(self, keys: Mapping[bytes, bytes]) -> dict[str, list[bytes]]:
        topology = await self.topology()
        pods = {m.target.node_id: m.pod.name for m in topology.members if m.node is not None}
        owner = {slot: pods[i] for i, slots in topology.owners.items() for slot in slots}
        found: dict[str, list[bytes]] = {}
        for key in keys:
            found.setdefault(owner[key_slot(key)], []).append(key)
        return found

    async def stored(self) -> dict[bytes, bytes]:
        """Every key with its value, from the owners; a key that is at two primaries is an error."""
        topology = await self.topology()
        everything: dict[bytes, bytes] = {}
        for member in topology.members:
            if member.node is None or not member.node.leads:
                continue
            async with self.application(member.pod.name) as client:
                keys: list[bytes] = await client.execute_command("KEYS", "*")  # type: ignore[no-untyped-call]
                assert not everything.keys() & set(keys), "a key is at two primaries"
                pipe = client.pipeline(transaction=False)
                for key in keys:
                    pipe.get(key)
                everything |= dict(zip(keys, await pipe.execute(), strict=True))
        return everything

    @asynccontextmanager
    async def application(self, name: str) -> AsyncIterator[Redis]:
        """A connection as an application has it."""
        node = self.fleet.cluster[name]
        async with Redis(
            host=node.address, username=names.USER_APPLICATION, password=PASSWORDS.application, protocol=2
        ) as client:
            yield client


async def shop_of(fleet: Nodes, *, owning: int = 2, replicas: bool = False) -> Shop:
    """Two shards, of which ``owning`` share the slots; each with a replica or none."""
    await fleet.form(2, (0, 1) if replicas else (), owning=owning)
    return Shop(fleet, {"n0": 0, "n1": 1} | ({"n2": 0, "n3": 1} if replicas else {}))


def keys_of(slots: SlotSet, each: int) -> dict[bytes, bytes]:
    """So many keys with values in each slot; their names are no text."""
    return {tag(s) + b"\xff\x00\r\n %d" % i: b"%d/%d\x80" % (s, i) for s in slots for i in range(each)}
