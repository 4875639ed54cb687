"""Applications that write, and remember what was acknowledged."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cachecluster.domain.slots import share
from tests.simulation.engine.node import Node

if TYPE_CHECKING:
    from tests.simulation.world import World


JUST_NOW_SECONDS: Final = 1.0
"""What was acknowledged so lately may still be on its way to the replicas."""


@dataclass
class History:
    """What the clients were promised."""

    acked: dict[str, int] = field(default_factory=dict)
    """Slot by token."""
    acked_at: dict[str, float] = field(default_factory=dict)
    """Loop time by token."""
    lost: set[str] = field(default_factory=set)
    """Tokens of which no copy is left."""
    serial: int = 0

    def acknowledged_before(self, moment: float) -> set[str]:
        """Tokens."""
        return {token for token, at in self.acked_at.items() if at < moment}


class Writer:
    """Appends unique tokens to two slots of every shard, several times a second."""

    def __init__(self, world: "World", cluster: str, shards: int) -> None:
        self.world, self.cluster = world, cluster
        self.slots = [s for slots in share(shards) for s in (slots.ranges[0][0], slots.ranges[0][1])]
        self.refused: dict[str, int] = {}
        self._chance = world.clock.chance(f"writer {cluster}")
        self.stopped = False
        world.clock.later(0.1, self._tick)

    def _tick(self) -> None:
        if self.stopped:
            return
        for slot in self.slots:
            for node in self._whom(slot):
                self._write(node, slot)
        self.world.clock.later(0.1 + 0.2 * self._chance.random(), self._tick)

    def _whom(self, slot: int) -> list[Node]:
        """Any node; where several take themselves for the owner, each of them has clients beside it."""
        nodes = [n for n in self.world.watch.living(self.cluster) if not n.quarantined and not n.frozen]
        claiming = [n for n in nodes if n.me.primary and slot in n.me.slots]
        return claiming if len(claiming) > 1 else [self._chance.choice(nodes)] if nodes else []

    def _write(self, node: Node, slot: int) -> None:
        """Ask a node; follow it to the owner, and from there to a node that is taking the slot over."""
        history = self.world.history
        history.serial += 1
        token = f"t{history.serial}"
        answer, asking = node.write(slot, token), False
        for redirect in ("MOVED", "ASK"):
            if answer is not None and answer.startswith(redirect):
                asking = redirect == "ASK"
                target = self.world.network.listeners.get(answer.rpartition(" ")[2])
                if target is None or not target.alive or target.frozen:
                    answer = "refused"
                    break
                node, answer = target, target.write(slot, token, asking=asking)
        if answer is None:
            history.acked[token] = slot
            history.acked_at[token] = self.world.loop.time()
            if not asking:
                self.world.watch.leading.accepted(node, slot, token)
        else:
            self.refused[answer.split()[0]] = self.refused.get(answer.split()[0], 0) + 1
