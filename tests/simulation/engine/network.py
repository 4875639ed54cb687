"""Who can reach whom, and how long a packet takes."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from tests.simulation.clock import Clock
from tests.simulation.engine.table import Link

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

OPERATOR: Final = "operator"
"""The operator's place in the network."""


class Network:
    """Addresses, listeners, cuts between places. A place is an address, or a name such as ``operator``."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.listeners: dict[str, Node] = {}
        """Process that listens at an address, if there is one."""
        self.idle: dict[Node, list[Callable[[], None]]] = {}
        """Who hears the FIN when a process ends, beside its peers."""
        self._cuts: set[tuple[str, str]] = set()
        self._dark: set[str] = set()
        """Addresses of machines without power."""
        self._stranded: set[str] = set()
        """Addresses that can be reached from each other alone."""
        self._rejoined: dict[str, float] = {}
        """When an address was heard again."""
        self._healed: dict[tuple[str, str], float] = {}
        """When a cut was undone."""
        self._links: dict[Node, dict[Link, None]] = {}
        self._chance = clock.chance("network")

    def cut(self, source: str, destination: str) -> None:
        """Packets from ``source`` to ``destination`` vanish; the other direction is left alone."""
        self._cuts.add((source, destination))

    def isolate(self, place: str, others: set[str]) -> None:
        """Cut ``place`` off from ``others``, both ways."""
        for other in sorted(others - {place}):
            self.cut(place, other)
            self.cut(other, place)

    def mend(self, source: str, destination: str) -> None:
        """Undo one cut."""
        if (source, destination) in self._cuts:
            self._cuts.remove((source, destination))
            self._healed[source, destination] = self.clock.now()

    def heal(self) -> None:
        """Undo all cuts."""
        for cut in sorted(self._cuts):
            self.mend(*cut)

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

    def _passes(self, source: str, destination: str) -> bool:
        dark = source in self._dark or destination in self._dark
        apart = (source in self._stranded) != (destination in self._stranded)
        return not dark and not apart and (source, destination) not in self._cuts

    def open(self, source: str, destination: str) -> bool:
        """A packet and its answer can pass."""
        return self._passes(source, destination) and self._passes(destination, source)

    def apart(self, one: str, other: str, seconds: float) -> bool:
        """They cannot talk to each other, or could not that many seconds ago."""
        healed = max(self._healed.get(pair, 0.0) for pair in ((one, other), (other, one)))
        healed = max(healed, self._rejoined.get(one, 0.0), self._rejoined.get(other, 0.0))
        return not self.open(one, other) or self.clock.now() - healed < seconds

    def latency(self) -> float:
        """Seconds that a packet takes."""
        return 0.0002 + 0.0008 * self._chance.random()

    def send(self, source: str, destination: str, deliver: Callable[..., object], *args: Any) -> None:
        """Deliver after a while, unless the way is cut."""
        if self._passes(source, destination):
            self.clock.later(self.latency(), deliver, *args)

    def listener(self, source: str, ip: str) -> "Node | None":
        """The process at ``ip``, if it can be reached from ``source`` and accepts connections."""
        found = self.listeners.get(ip) if self.open(source, ip) else None
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
            link.peer_row.inbound_lost = self.clock.now()

    def close_all(self, node: "Node") -> None:
        """The process has ended: its kernel resets every connection that can still be reached."""
        for link in list(self._links.get(node, {})):
            other = link.peer if link.owner is node else link.owner
            if self.open(node.ip, other.ip):
                self.close(link)
        for hang_up in self.idle.pop(node, ()):
            self.send(node.ip, OPERATOR, hang_up)
