"""Who may lead, and who takes writes: rule S10 on the true state of the simulated world."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachecluster.domain import durability
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.topology import NODE_TIMEOUT_SECONDS
from tests.simulation.clock import EPOCH
from tests.simulation.engine import replication
from tests.simulation.engine.disk import writes
from tests.simulation.engine.network import OPERATOR, QUIET, Port
from tests.simulation.engine.node import Node
from tests.simulation.operating.faults import NO_FAULTS

if TYPE_CHECKING:
    from tests.simulation.operating.operator import Operator
    from tests.simulation.world import World

BOTH_SECONDS: Final = 1.5 * NODE_TIMEOUT_SECONDS
"""A primary that has been cut off finds out after so long at most, and serves no more: until then two may serve."""
ALONE_SECONDS: Final = 5.0
"""A primary that asks for a replica takes writes for so long at most after the last report of one."""
GRACE_SECONDS: Final = 0.2
"""A command may be on its way when a cut is undone."""
PONG_SECONDS: Final = 6.0
"""A node whose way to another has been mended hears of it after so long at most: it has connected anew and asked."""
COUNT_SECONDS: Final = 1.2
"""So long after it goes on a process that stood still has counted its replicas again (once a second)."""


@dataclass(frozen=True, slots=True)
class Writing:
    """Who takes the writes of a slot, by which epoch and since when."""

    node: Node
    epoch: int
    since: float


class Leading:
    """Is told of promotions and of acknowledged writes."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.fenced: set[Node] = set()
        """Primaries that were replaced while they lived and refused writes."""
        self.beside = 0
        """Writes that a primary took although another one had taken its slots over."""
        self._writing: dict[int, Writing] = {}

    def sending(self, operator: "Operator", name: str, arguments: tuple[Any, ...]) -> None:
        """An operator is about to send a command. Who has lost the lead promotes nobody."""
        graceful = FailoverKind.GRACEFUL in arguments
        if name == "failover" and not graceful and not operator.leads() and not operator.way.dead:
            self.world.violate("leadership", f"op{operator.number} promotes and does not lead")

    # -- promotions ------------------------------------------------------------------------------------------------

    def promoting(self, node: Node, kind: FailoverKind) -> None:
        """Before a node carries out CLUSTER FAILOVER."""
        primary_id = node.me.primary_id
        if kind is FailoverKind.GRACEFUL or node.me.primary or primary_id is None:
            return
        holder = next((n for n in self._living(node) if n.node_id == primary_id), None)
        if holder is not None and not holder.quarantined:
            self._promoting_beside(holder, node, kind)
        elif holder is None:
            self._note_unsent(primary_id, node)
        restarted_with_more = holder is not None and holder.quarantined and writes(holder.tokens) < writes(node.tokens)
        if not node.repl.up and node.repl.down_since is None and not restarted_with_more:
            self.world.violate("S10", f"{kind} on {node.ip}, which has never synced")

    def _promoting_beside(self, holder: Node, node: Node, kind: FailoverKind) -> None:
        """A primary that lives may only be replaced if neither the operator nor the heir can hear it; and by the votes
        of others who cannot either, or once it refuses writes by itself. One that hangs is heard by nobody; that its
        machine answers tells against a fence alone.
        """
        what = f"{kind} on {node.ip} although {holder.ip} with its primary's id is alive"
        apart = self.world.network.apart
        stood_still = holder.frozen or self.world.clock.now() - holder.thawed < COUNT_SECONDS
        unheard = stood_still or apart(node.ip, holder.ip, GRACE_SECONDS)
        lost_to_us = apart(OPERATOR, holder.ip, GRACE_SECONDS) or (stood_still and kind is FailoverKind.FORCE)
        if not unheard or not lost_to_us:
            self.world.violate("S10", f"{what} and can be heard")
        elif self._has_stopped(holder):
            if kind is FailoverKind.TAKEOVER:
                self.fenced.add(holder)
        elif kind is FailoverKind.TAKEOVER:
            self.world.violate("S10", f"{what} and takes writes")
        elif hears := [n.ip for n in self._living(node) if n is not node and self._hears(n, holder)]:
            self.world.violate("S10", f"{what}, as {hears} know")
        self.world.watch.superseded |= writes(holder.tokens) - writes(node.tokens)

    def _note_unsent(self, lost: NodeId, heir: Node) -> None:
        """What had not left the machine of a primary without power may come back with its volume."""
        for disk in self.world.disks(self.world.owner[heir]):
            if disk.nodes_conf is not None and disk.nodes_conf.myself == lost:
                self.world.watch.superseded |= writes(disk.tokens) - writes(heir.tokens)

    def _has_stopped(self, holder: Node) -> bool:
        """It refuses writes for want of a replica; or it would, had it not stood still or were its clock right."""
        if replication.refuses(holder):
            return not holder.frozen or self._alone(holder) > ALONE_SECONDS
        late = holder.frozen or self.world.clock.now() < max(holder.thawed + COUNT_SECONDS, _tells_again(holder))
        return late and self._asks(holder)

    def _hears(self, witness: Node, holder: Node) -> bool:
        """It can tell the operator that the other one lives, and knows it by its own questions. Who has stood still
        knows what it knew then; and whom the operator asks in vain for other reasons is not heard.
        """
        network, now = self.world.network, self.world.clock.now()
        if witness is holder or witness.frozen or holder.frozen or witness.quarantined:
            return False
        if now - max(witness.thawed, holder.thawed) < PONG_SECONDS or witness.now() - witness.started < PONG_SECONDS:
            return False
        row = witness.rows.get(holder.node_id)
        if row is None or network.listeners.get(witness.ip) is not witness:
            return False
        if network.noise is not QUIET or witness.now() - row.pong_received > PONG_SECONDS:  # answers are late, or lost
            return False
        asked = self.world.faults == NO_FAULTS and not network.apart(OPERATOR, witness.ip, PONG_SECONDS)
        return asked and not network.apart(witness.ip, holder.ip, PONG_SECONDS, Port.BUS)

    # -- writes ----------------------------------------------------------------------------------------------------

    def accepted(self, node: Node, slot: int, token: str) -> None:
        """A primary has acknowledged a client's write of a slot of its own."""
        now = self.world.loop.time()
        if any(n.me.config_epoch > node.me.config_epoch and slot in n.me.slots for n in self._living(node)):
            self.beside += 1
            self.world.watch.superseded.add(token)
            if node in self.fenced and self.world.clock.now() > max(node.thawed + COUNT_SECONDS, _tells_again(node)):
                what = f"{node.ip} takes a write of slot {slot} although it was replaced, fenced"
                self.world.violate("S10", what)
        self._copied(node, now)
        before = self._writing.get(slot)
        if before is None or not before.node.alive or node.me.config_epoch > before.epoch:
            self._writing[slot] = Writing(node, node.me.config_epoch, now)
        elif node is not before.node and now - max(before.since, _awake_since(node) - EPOCH) > BOTH_SECONDS:
            self.world.violate(
                "S10", f"{node.ip} still takes writes of slot {slot}, which {before.node.ip} took over {before.since}"
            )

    def _copied(self, node: Node, now: float) -> None:
        """Who asks for a replica takes no more writes soon after the last report of one (docs/durability.md)."""
        alone = self._alone(node) if self._asks(node) else 0.0
        if alone > ALONE_SECONDS and now - (_awake_since(node) - EPOCH) > ALONE_SECONDS:
            self.world.violate("durability", f"{node.ip} takes writes {alone:.1f} s after a replica's last report")

    def _living(self, node: Node) -> list[Node]:
        return self.world.watch.living(self.world.owner[node])

    @staticmethod
    def _asks(node: Node) -> bool:
        return int(node.parameters[durability.TO_WRITE]) > 0

    @staticmethod
    def _alone(node: Node) -> float:
        """Seconds since the last report of a replica, by its own clock."""
        return node.now() - max(node.repl.heard.values(), default=node.now())


def _awake_since(node: Node) -> float:
    """The true time since which it can tell that it is cut off: before, it hung, or its clock was set."""
    return max(node.thawed, node.set_back_until, node.clock_set)


def _tells_again(node: Node) -> float:
    """The true time at which it misses its replicas, its clock having been set back."""
    return node.set_back_until + ALONE_SECONDS if node.set_back_until else 0.0
