"""Packets that a node's kernel is told to drop: which, and the rules of iptables that say so."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

TABLE = "mangle"
"""Seen by packets of the node itself and of its pods alike; those to a Service have their real address there."""


class Direction(StrEnum):
    """Seen from the node."""

    BOTH = "both"
    IN = "in"
    OUT = "out"


@dataclass(frozen=True, slots=True)
class Traffic:
    """What passes between a node, with its pods, and some addresses."""

    node: str
    away: tuple[str, ...]
    """Addresses or networks at the other end."""
    here: str = ""
    """Address of one of the node's pods; empty: the node itself and all of its pods."""
    direction: Direction = Direction.BOTH
    port: int | None = None
    """Of TCP, at either end; None: everything."""

    def rules(self) -> Sequence[str]:
        """As for iptables-restore, without the command."""
        chains = {
            Direction.OUT: ("POSTROUTING", "-s", "-d"),
            Direction.IN: ("PREROUTING", "-d", "-s"),
        }
        return [
            f"{chain}{f' {ours} {self.here}' if self.here else ''} {theirs} {address}{port} -j DROP"
            for direction, (chain, ours, theirs) in chains.items()
            if self.direction in {direction, Direction.BOTH}
            for address in self.away
            for port in self._ports()
        ]

    def _ports(self) -> Iterator[str]:
        if self.port is None:
            yield ""
        else:
            yield from (f" -p tcp --{end} {self.port}" for end in ("sport", "dport"))


def change(command: str, traffic: Sequence[Traffic]) -> str:
    """Shell line for one node that adds (`-A`) or takes away (`-D`) all rules of some traffic at once."""
    lines = [f"*{TABLE}", *(f"{command} {rule}" for item in traffic for rule in item.rules()), "COMMIT"]
    return "iptables-restore --wait --noflush <<'END'\n" + "\n".join(lines) + "\nEND"
