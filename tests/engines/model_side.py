"""The model's side of a schedule that real servers run as well: what happens, and what every node then says."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cachecluster.domain import durability
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import SlotSet, share
from cachecluster.engines.client import SlotState
from tests.simulation.clock import Clock, VirtualLoop
from tests.simulation.engine import atomic, commands, replication, slot_commands
from tests.simulation.engine.disk import Disk
from tests.simulation.engine.network import Network, Port
from tests.simulation.engine.node import Config, Node
from tests.simulation.engine.table import Address

NODE_TIMEOUT: Final = 2.0
KEYS: Final = (3, 5, 7)
"""Written to the first slot of each shard at the start."""
MOVING_SLOT: Final = 0
ASKING: Final = {
    "ask_one": ((durability.MAX_LAG, "3"), (durability.TO_WRITE, "1")),
    "ask_none": ((durability.TO_WRITE, "0"),),
}
"""How many replicas have to keep up with a primary that takes writes."""
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
    refuses: bool
    """Writes, for want of a replica."""
    keys: int
    open_slots: tuple[str, ...]
    """Slots that are on their way: from here (``5>1.0``) or to here (``5<0.0``)."""
    given_away: tuple[str, ...]
    """How atomic migrations from here have ended, newest first."""


State = dict[str, Seen | None]
"""By index; None: it is down."""


def in_order(rows: Iterable[tuple[int, str, SlotSet]]) -> tuple[tuple[str, str], ...]:
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
            case "deaf" | "hears":
                change = self.network.cut if step.what == "deaf" else self.network.mend
                for ip in self.ips:
                    change(ip, self.ips[step.node], (Port.BUS,))
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
                    commands.add_slots(node, SlotSet.from_ranges([(0, 3)]))
                case "epoch" | "bump":
                    commands.bump_epoch(node) if step.what == "bump" else commands.set_config_epoch(node, 77)
                case "meet":
                    commands.meet(node, Address(self.ips[step.other], 6379, 16379))
                case "importing" | "migrating" | "node" | "stable":
                    peer = None if step.what == "stable" else other_id
                    slot_commands.set_slots(node, MOVING, SlotState(step.what.upper()), peer)
                case "at_once" | "while_it_dies" | "and_dies" | "call_off":
                    self._at_once(node, step, other_id)
                case "ask_one" | "ask_none":
                    commands.configure(node, ASKING[step.what])
                case "migrate":
                    keys = [token.encode() for slot in MOVING for token in node.tokens.get(slot, ())]
                    slot_commands.migrate(node, self.ips[step.other], keys)
        except commands.Refused:
            return False
        return True

    def _at_once(self, node: Node, step: Step, other_id: NodeId) -> None:
        atomic.migrate_slots(node, MOVING, other_id)
        if step.what == "call_off":
            atomic.cancel(node)
        elif step.what != "at_once":
            self.carry_out(Step("kill", step.other if step.what == "while_it_dies" else step.node))

    def state(self) -> State:
        return {str(i): None if n is None else self._seen(n) for i, n in enumerate(self.nodes)}

    def _seen(self, node: Node) -> Seen:
        rows = [r for r in node.rows.values() if not r.handshake]
        return Seen(
            role="master" if node.me.primary else "slave",
            primary=self.names.get(node.me.primary_id or "", ""),
            knows=tuple(sorted(self.names[r.node_id] for r in rows)),
            owners=in_order((r.config_epoch, self.names[r.node_id], r.slots) for r in rows if r.primary),
            given_up=tuple(sorted(self.names[r.node_id] for r in rows if r.fail and not r.noaddr)),
            in_step=node.me.primary or node.repl.up,
            refuses=replication.refuses(node),
            keys=node.keys,
            given_away=tuple(job.state for job in node.jobs if job.outgoing),
            open_slots=tuple(
                sorted(
                    [f"{slot}>{self.names[peer]}" for slot, peer in node.migrating.items()]
                    + [f"{slot}<{self.names[peer]}" for slot, peer in node.importing.items()]
                )
            ),
        )
