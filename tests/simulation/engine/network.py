"""Who can reach whom, and how long a packet takes."""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.clock import Clock
from tests.simulation.engine.table import Link

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

OPERATOR: Final = "operator"
"""The operator's place in the network."""


class Port(StrEnum):
    """A node listens on two: a firewall may close one of them."""

    CLIENT = "client port"
    """Clients, replicas, the operator."""
    BUS = "bus"


BOTH: Final = tuple(Port)


@dataclass(frozen=True, slots=True)
class Noise:
    """What befalls single messages of the bus: probabilities for each."""

    lost: float = 0.0
    """Its connection breaks before it arrives: TCP loses nothing else."""
    repeated: float = 0.0
    """A node says it again: of what may be said at any time, heartbeats and news."""
    late: float = 0.0
    """A packet has to be sent again; all that follows it on its connection waits."""


QUIET: Final = Noise()
LATE_SECONDS: Final = 1.5
"""A packet arrives after so long at most, having been sent again."""


class Network:
    """Addresses, listeners, cuts between places. A place is an address, or a name such as ``operator``."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.listeners: dict[str, Node] = {}
        """Process that listens at an address, if there is one."""
        self.idle: dict[Node, list[Callable[[], None]]] = {}
        """Who hears the FIN when a process ends, beside its peers."""
        self.noise = QUIET
        self.ahead: dict[str, float] = {}
        """Seconds by which the clock at an address goes ahead of the true time."""
        self._cuts: Counter[tuple[str, str, Port]] = Counter()
        """How many times each way is cut: what comes to an end undoes its own cut alone."""
        self._dark: set[str] = set()
        """Addresses of machines without power."""
        self._stranded: set[str] = set()
        """Addresses that can be reached from each other alone."""
        self._rejoined: dict[str, float] = {}
        """When an address was heard again."""
        self._healed: dict[tuple[str, str, Port], float] = {}
        """When a cut was undone."""
        self._links: dict[Node, dict[Link, None]] = {}
        self._chance = clock.chance("network")

    def cut(self, source: str, destination: str, ports: Collection[Port] = BOTH) -> None:
        """Packets from ``source`` to ``destination`` vanish; the other direction is left alone."""
        self._cuts.update((source, destination, port) for port in ports)

    def isolate(self, place: str, others: set[str], ports: Collection[Port] = BOTH) -> None:
        """Cut ``place`` off from ``others``, both ways."""
        for other in sorted(others - {place}):
            self.cut(place, other, ports)
            self.cut(other, place, ports)

    def mend(self, source: str, destination: str, ports: Collection[Port] = BOTH) -> None:
        """Undo one cut."""
        for port in ports:
            way = source, destination, port
            if self._cuts[way] > 1:
                self._cuts[way] -= 1
            elif self._cuts.pop(way, 0):
                self._healed[way] = self.clock.now()

    def heal(self) -> None:
        """Undo all cuts."""
        for source, destination, port in sorted(self._cuts.elements()):
            self.mend(source, destination, (port,))

    def darken(self, place: str) -> None:
        """Its machine has no power: nothing comes from there any more, not even a good-bye."""
        self._dark.add(place)

    def lighten(self, place: str) -> None:
        """The address is good for others again."""
        self._dark.discard(place)

    def strand(self, places: set[str]) -> None:
        """They are cut off from all others, those included that are yet to come."""
        self._stranded |= places

    def rejoin(self, places: set[str]) -> None:
        """Undo that."""
        self._stranded -= places
        self._rejoined |= dict.fromkeys(places, self.clock.now())

    def _passes(self, source: str, destination: str, port: Port) -> bool:
        dark = source in self._dark or destination in self._dark
        apart = (source in self._stranded) != (destination in self._stranded)
        return not dark and not apart and (source, destination, port) not in self._cuts

    def open(self, source: str, destination: str, port: Port = Port.CLIENT) -> bool:
        """A packet and its answer can pass."""
        return self._passes(source, destination, port) and self._passes(destination, source, port)

    def apart(self, one: str, other: str, seconds: float, port: Port = Port.CLIENT) -> bool:
        """They cannot talk to each other, or could not that many seconds ago."""
        pairs = ((one, other, port), (other, one, port))
        healed = max(self._healed.get(pair, 0.0) for pair in pairs)
        healed = max(healed, self._rejoined.get(one, 0.0), self._rejoined.get(other, 0.0))
        return not self.open(one, other, port) or self.clock.now() - healed < seconds

    def latency(self) -> float:
        """Seconds that a packet takes."""
        return 0.0002 + 0.0008 * self._chance.random()

    def send(
        self, source: str, destination: str, deliver: Callable[..., object], *args: Any, port: Port = Port.CLIENT
    ) -> None:
        """Deliver after a while, unless the way is cut."""
        if self._passes(source, destination, port):
            self.clock.later(self.latency(), deliver, *args)

    def say(self, link: Link, source: str, destination: str, deliver: Callable[[], object], *, again: bool) -> None:
        """A message on a connection of the bus; ``again``: it may be said twice."""
        noise, now = self.noise, self.clock.now()
        if noise is QUIET and link.arrives <= now:
            self.send(source, destination, deliver, port=Port.BUS)
            return
        if not self._passes(source, destination, Port.BUS):
            return
        dice = self._chance.random()
        if dice < noise.lost:
            self.close(link)
            return
        held = LATE_SECONDS * self._chance.random() if dice > 1 - noise.late else 0.0
        link.arrives = max(link.arrives, now + self.latency() + held)
        self.clock.later(link.arrives - now, deliver)
        if again and self._chance.random() < noise.repeated:
            self.clock.later(link.arrives - now + self.latency(), deliver)

    def listener(self, source: str, ip: str, port: Port = Port.CLIENT) -> "Node | None":
        """The process at ``ip``, if it can be reached from ``source`` and accepts connections."""
        found = self.listeners.get(ip) if self.open(source, ip, port) else None
        return None if found is not None and found.frozen else found

    # -- bus connections ------------------------------------------------------------------------------------------

    def connected(self, link: Link) -> None:
        """Remember an open connection under both ends."""
        self._links.setdefault(link.owner, {})[link] = None
        self._links.setdefault(link.peer, {})[link] = None

    def close(self, link: Link) -> None:
        """End a connection; both tables notice at once."""
        if not link.open:
            return
        link.open = False
        self._links.get(link.owner, {}).pop(link, None)
        self._links.get(link.peer, {}).pop(link, None)
        if link.row.link is link:
            link.row.link = None
        if link.peer_row is not None and link.peer_row.inbound is link:
            link.peer_row.inbound = None
            link.peer_row.inbound_lost = link.peer.now()

    def close_all(self, node: "Node") -> None:
        """The process has ended: its kernel resets every connection that can still be reached."""
        for link in list(self._links.get(node, {})):
            other = link.peer if link.owner is node else link.owner
            if self.open(node.ip, other.ip, Port.BUS):
                self.close(link)
        for hang_up in self.idle.pop(node, ()):
            self.send(node.ip, OPERATOR, hang_up)
