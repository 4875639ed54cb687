"""The simulation's engine model against real servers: the same commands and faults lead both to the same state.

Each schedule runs in the model first; the real servers then have to arrive where the model has. Compared are replies
(accepted or refused), who knows whom, roles, slot owners, who is given up, keys on every node, the order of epochs.
"""

import asyncio
import itertools
import random
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import ResponseError

from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.slots import SlotSet, share
from cachecluster.domain.snapshot import NodeId
from cachecluster.engines.client import SlotState
from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.harness.waiting import until
from tests.simulation.clock import Clock, VirtualLoop
from tests.simulation.engine import commands, slot_commands
from tests.simulation.engine.disk import Disk
from tests.simulation.engine.network import Network
from tests.simulation.engine.node import Config, Node
from tests.simulation.engine.table import Address

NODE_TIMEOUT: Final = 2.0
SETTLED_SECONDS: Final = 25.0
"""Virtual time after each step: elections, undone failures and syncs are over by then."""
KEYS: Final = (3, 5, 7)
"""Written to the first slot of each shard at the start."""
MOVING_SLOT: Final = 0
MOVING: Final = SlotSet.of([MOVING_SLOT])
"""The slot that moves, where one does: it has the keys of the first shard."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happens to one node (``forget``: to all). ``other`` is the index of a second one."""

    what: str
    node: int
    other: int = 0

    def __str__(self) -> str:
        return f"{self.what} {self.node} {self.other}"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one node says; nodes are named by their index and how often they have begun anew."""

    role: str
    primary: str
    knows: tuple[str, ...]
    owners: tuple[tuple[str, str], ...]
    given_up: tuple[str, ...]
    in_step: bool
    keys: int
    open_slots: tuple[str, ...]
    """Slots that are on their way: from here (``5>1.0``) or to here (``5<0.0``)."""


State = dict[str, Seen | None]
"""By index; None: it is down."""


def _in_order(rows: Iterable[tuple[int, str, SlotSet]]) -> tuple[tuple[str, str], ...]:
    """Owners and slots by configuration epoch: who has won last comes last."""
    return tuple((name, str(slots)) for _, name, slots in sorted(rows, key=lambda r: r[:2]) if slots)


class Model:
    """The model's side of a schedule."""

    def __init__(self, version: tuple[int, int], shards: int, seed: int) -> None:
        self.loop = VirtualLoop()
        self.clock = Clock(self.loop, seed)
        self.network = Network(self.clock)
        self.config = Config(version=version, node_timeout=NODE_TIMEOUT, sync_seconds=0.2)
        self.starts = 0
        self.shards = shards
        self.names: dict[str, str] = {}
        self.disks = [Disk() for _ in range(2 * shards)]
        self.ips = [f"10.0.0.{i}" for i in range(2 * shards)]
        self.nodes: list[Node | None] = [self._start(i) for i in range(2 * shards)]

    def _start(self, index: int) -> Node:
        self.starts += 1
        address = Address(self.ips[index], 6379, 16379)
        chance = self.clock.chance(f"start {self.starts}")
        node = Node(self.network, address, self.disks[index], self.config, chance)
        self.names.setdefault(node.node_id, f"{index}.{self.starts if self.starts > 2 * self.shards else 0}")
        return node

    def wait(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run_forever()

    def close(self) -> None:
        self.loop.close()

    def form(self) -> None:
        nodes = [n for n in self.nodes if n is not None]
        for epoch, node in enumerate(nodes, 1):
            commands.set_config_epoch(node, epoch)
        for node in nodes:
            for other in nodes:
                if node is not other:
                    commands.meet(node, other.address)
        self.wait(3)
        for shard, slots in enumerate(share(self.shards)):
            commands.add_slots(nodes[shard], slots)
        self.wait(3)
        for shard in range(self.shards):
            commands.replicate(nodes[self.shards + shard], nodes[shard].node_id)
        self.wait(10)
        for shard, slots in enumerate(share(self.shards)):
            for key in range(KEYS[shard]):
                assert nodes[shard].write(slots.ranges[0][0], f"k{key}") is None
        self.wait(2)

    def carry_out(self, step: Step) -> bool:
        """Whether it was accepted."""
        node = self.nodes[step.node]
        match step.what:
            case "forget":
                answers = [self._command(n, step) for n in self.nodes if n is not None]
                return all(answers)
            case "bounce" if node is not None:
                node.stop(orderly=False)
                self.wait(0.1)
                self.nodes[step.node] = self._start(step.node)
            case "kill" if node is not None:
                node.stop(orderly=False)
                self.nodes[step.node] = None
            case "start" if node is None:
                self.nodes[step.node] = self._start(step.node)
            case "move" if node is None:
                self.ips[step.node] = f"10.9.0.{self.starts}"
                self.nodes[step.node] = self._start(step.node)
            case "blank" if node is None:
                self.disks[step.node] = Disk()
                self.nodes[step.node] = self._start(step.node)
            case _:
                return node is not None and self._command(node, step)
        return True

    def _command(self, node: Node, step: Step) -> bool:
        other_id = NodeId(next(i for i, name in self.names.items() if name.startswith(f"{step.other}.")))
        try:
            match step.what:
                case "force" | "takeover" | "graceful":
                    commands.failover(node, FailoverKind(step.what.capitalize()))
                case "replicate":
                    commands.replicate(node, other_id)
                case "forget":
                    commands.forget(node, other_id)
                case "add_slots":
                    commands.add_slots(node, SlotSet(((0, 3),)))
                case "epoch":
                    commands.set_config_epoch(node, 77)
                case "meet":
                    commands.meet(node, Address(self.ips[step.other], 6379, 16379))
                case "importing" | "migrating" | "node" | "stable":
                    peer = None if step.what == "stable" else other_id
                    slot_commands.set_slots(node, MOVING, SlotState(step.what.upper()), peer)
                case "migrate":
                    keys = [token.encode() for slot in MOVING for token in node.tokens.get(slot, ())]
                    slot_commands.migrate(node, self.ips[step.other], keys)
        except commands.Refused:
            return False
        return True

    def state(self) -> State:
        return {str(i): None if n is None else self._seen(n) for i, n in enumerate(self.nodes)}

    def _seen(self, node: Node) -> Seen:
        rows = [r for r in node.rows.values() if not r.handshake]
        return Seen(
            role="master" if node.me.primary else "slave",
            primary=self.names.get(node.me.primary_id or "", ""),
            knows=tuple(sorted(self.names[r.node_id] for r in rows)),
            owners=_in_order((r.config_epoch, self.names[r.node_id], r.slots) for r in rows if r.primary),
            given_up=tuple(sorted(self.names[r.node_id] for r in rows if r.fail and not r.noaddr)),
            in_step=node.me.primary or node.repl.up,
            keys=node.keys,
            open_slots=tuple(
                sorted(
                    [f"{slot}>{self.names[peer]}" for slot, peer in node.migrating.items()]
                    + [f"{slot}<{self.names[peer]}" for slot, peer in node.importing.items()]
                )
            ),
        )


class Servers:
    """The real side."""

    def __init__(self, cluster: ProcessCluster, shards: int) -> None:
        self.cluster, self.shards = cluster, shards
        self.names: dict[str, str] = {}
        self.starts = 2 * shards
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
            case "blank":
                for path in node.data.iterdir():
                    path.unlink()
                await self._start(step.node)
            case _:
                return await self._command(node, step)
        return True

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
            "meet": ("MEET", self.nodes[step.other].address, 6379),
            "importing": ("SETSLOT", MOVING_SLOT, "IMPORTING", other_id),
            "migrating": ("SETSLOT", MOVING_SLOT, "MIGRATING", other_id),
            "node": ("SETSLOT", MOVING_SLOT, "NODE", other_id),
            "stable": ("SETSLOT", MOVING_SLOT, "STABLE"),
        }
        try:
            if step.what == "migrate":
                keys = [_key(MOVING_SLOT, number) for number in range(KEYS[0])]
                to = (self.nodes[step.other].address, 6379)
                await node.call("MIGRATE", *to, "", 0, 5000, "REPLACE", "KEYS", *keys)
                return True
            await node.call("CLUSTER", *words[step.what])
        except ResponseError:
            return False
        return True

    async def state(self) -> State:
        return {str(i): await self._seen(n) if n.running else None for i, n in enumerate(self.nodes)}

    async def _seen(self, node: NodeProcess) -> Seen | None:
        try:
            table: str = await node.call("CLUSTER", "NODES")
            info: str = await node.call("INFO", "replication")
            keys = int(await node.call("DBSIZE"))
        except (Disconnected, TimeoutError):
            return None
        rows = [row for line in table.splitlines() if "handshake" not in (row := line.split())[2]]
        me = next(r for r in rows if "myself" in r[2])
        return Seen(
            role="master" if "master" in me[2] else "slave",
            primary=self._name(me[3]) if me[3] != "-" else "",
            knows=tuple(sorted(self._name(r[0]) for r in rows)),
            owners=_in_order((int(r[6]), self._name(r[0]), _slots(r[8:])) for r in rows),
            given_up=tuple(sorted(self._name(r[0]) for r in rows if _given_up(r[2]))),
            in_step="role:master" in info or "master_link_status:up" in info,
            keys=keys,
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
    tag = next(i for i in itertools.count() if key_slot(f"{{{i}}}".encode()) == slot)
    return f"{{{tag}}}{number}"


def random_schedule(seed: int, shards: int, length: int) -> list[Step]:
    """Steps that make sense one after another; what the engine makes of them is its affair."""
    chance = random.Random(seed)  # noqa: S311
    everybody = range(2 * shards)
    down: set[int] = set()
    steps: list[Step] = []
    while len(steps) < length:
        up = [i for i in everybody if i not in down]
        node, other = chance.choice(up), chance.choice(everybody)
        what = chance.choice(("kill", "bounce", "back", "back", "force", "takeover", "graceful", "graceful", "refused"))
        if what == "kill" and len(down) < 2:
            down.add(node)
            steps.append(Step("kill", node))
        elif what == "bounce":
            steps.append(Step("bounce", node))
        elif what == "back" and down:
            back = chance.choice(sorted(down))
            down.discard(back)
            steps.append(Step(chance.choice(("start", "move", "blank")), back))
        elif what in {"force", "takeover", "graceful"}:
            steps.append(Step(what, node))
        elif what == "refused" and node != other:
            steps.append(Step(chance.choice(("add_slots", "epoch", "replicate")), node, other))
    return steps + [Step("forget", 0, gone) for gone in sorted(down)[:1]]


OPEN: Final = [Step("importing", 1, 0), Step("migrating", 0, 1)]
FIXED: Final = (
    [Step("kill", 0), Step("start", 0)],
    [Step("kill", 1), Step("move", 1), Step("graceful", 1)],
    [Step("bounce", 2)],
    [Step("kill", 3), Step("blank", 3), Step("meet", 3, 0), Step("replicate", 3, 0)],
    [Step("kill", 0), Step("kill", 1), Step("force", 4), Step("takeover", 4), Step("start", 1), Step("start", 0)],
    [
        Step("migrating", 1, 0),
        Step("importing", 0, 1),
        *OPEN,
        Step("node", 0, 1),
        Step("migrate", 0, 1),
        Step("node", 1, 1),
    ],
    [*OPEN, Step("migrate", 0, 1), Step("takeover", 3), Step("node", 1, 1)],
    [*OPEN, Step("takeover", 4), Step("migrate", 0, 4), Step("node", 4, 4)],
    [*OPEN, Step("kill", 0), Step("stable", 1), Step("start", 0)],
    [*OPEN, Step("node", 1, 1)],
)
"""Failover and return; a new address; an empty primary; a stranger at an old address; a quorum lost and regained.

Then a slot that moves: every refusal and the whole way; either end fails over half way; one end is closed; and the
danger, that a source with keys hears of a new owner.
"""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the model is after a step."""

    step: str
    accepted: bool
    state: State


def predict(version: tuple[int, int], schedule: Sequence[Step], seed: int, shards: int) -> list[Prediction]:
    """Run a schedule in the model. Needs a thread without a running event loop."""
    with closing(Model(version, shards, seed)) as model:
        model.form()
        predictions = [Prediction("form", True, model.state())]
        for step in schedule:
            accepted = model.carry_out(step)
            model.wait(SETTLED_SECONDS)
            predictions.append(Prediction(str(step), accepted, model.state()))
    return predictions


async def _agrees(engine: EngineBinary, directory: Path, schedule: Sequence[Step], seed: int, shards: int = 3) -> None:
    major, minor = map(int, engine.family.split("."))
    formed, *predictions = await asyncio.to_thread(predict, (major, minor), schedule, seed, shards)
    async with ProcessCluster(engine, directory) as cluster:
        servers = Servers(cluster, shards)
        await servers.form()
        done = [f"{engine.family} seed {seed}"]
        await _meets(formed.state, servers, done)
        for step, prediction in zip(schedule, predictions, strict=True):
            done.append(prediction.step)
            assert await servers.carry_out(step) == prediction.accepted, f"reply to the last of {done}"
            await _meets(prediction.state, servers, done)


async def _meets(expected: State, servers: Servers, done: Sequence[str]) -> None:
    """The servers arrive where the model has."""

    async def same() -> bool:
        """And not merely in passing."""
        if await servers.state() != expected:
            return False
        await asyncio.sleep(1.5 * NODE_TIMEOUT)
        return await servers.state() == expected

    try:
        await until(same, "agreement", 45)
    except TimeoutError:
        seen = await servers.state()
        pairs = {i: (expected[i], seen[i]) for i in expected if expected[i] != seen[i]}
        raise AssertionError(f"after {list(done)} (model, server): {pairs}") from None


@pytest.mark.parametrize(
    ("family", "seeds"),
    [("8.1", range(6)), ("8.0", range(100, 102)), ("9.1", range(200, 202))],
    ids=["8.1", "8.0", "9.1"],
)
async def test_random_schedules_end_alike(family: str, seeds: range, tmp_path: Path) -> None:
    engine = engine_binary(family)
    await asyncio.gather(*(_agrees(engine, tmp_path / str(seed), random_schedule(seed, 3, 5), seed) for seed in seeds))


async def test_known_stories_end_alike(engine: EngineBinary, tmp_path: Path) -> None:
    await asyncio.gather(*(_agrees(engine, tmp_path / str(i), steps, i) for i, steps in enumerate(FIXED)))
