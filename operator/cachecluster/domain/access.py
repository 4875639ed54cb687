"""What the engine's users may do, in one form for what is wanted (a line of an ACL file) and what is (ACL LIST).

Knows no password and keeps no hash of one: a mark of the hash tells whether two passwords are the same (S12).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from cachecluster.api import names

_MARK_LENGTH: Final = 16
_SILENT: Final = frozenset({"resetchannels", "sanitize-payload", "alldbs"})
"""What an engine lists, or leaves out, of a user without anything special."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Of one user."""

    commands: str
    """In the order of the rules, which matters."""
    keys: str
    channels: str
    passwords: frozenset[str]
    """Marks of their hashes, or ``nopass``."""
    others: str = ""
    """Selectors, and whatever else none of our users has."""
    is_on: bool = field(default=True, compare=False)
    """A matter of quarantines (S5), not of rights."""


def read_users(lines: Iterable[str]) -> dict[str, Rights]:
    """Rights by user, of lines ``user NAME rule...``; raises ValueError."""
    found = {}
    for line in lines:
        kind, name, *rules = line.split()
        if kind != "user":
            raise ValueError("a line about a user is not understood")
        found[name] = _rights(rules)
    return found


def _rights(rules: Iterable[str]) -> Rights:
    """Engines list keys before commands, and of a pattern that covers all others only that one."""
    commands: list[str] = []
    keys: list[str] = []
    channels: list[str] = []
    others: list[str] = []
    passwords: set[str] = set()
    is_on = False
    for rule in rules:
        match rule[0]:
            case _ if others and others[0].startswith("("):
                others.append(rule)
            case "+" | "-":
                commands.append(rule)
            case "~" | "%":
                keys.append(rule)
            case "&":
                channels.append(rule)
            case "#":
                passwords.add(sha256(rule.encode()).hexdigest()[:_MARK_LENGTH])
            case _ if rule in {"on", "off"}:
                is_on = rule == "on"
            case _ if rule == "nopass":
                passwords.add(rule)
            case _ if rule not in _SILENT:
                others.append(rule)
    return Rights(
        " ".join(commands),
        "~*" if "~*" in keys else " ".join(keys),
        " ".join(channels),
        frozenset(passwords),
        " ".join(others),
        is_on,
    )


def differing(wanted: Mapping[str, Rights], found: Mapping[str, Rights], shard: int) -> tuple[str, ...]:
    """Users that a node of that shard has not got, or with other rights, sorted; named as in ``wanted``."""
    return tuple(sorted(user for user, rights in wanted.items() if found.get(names.user_of(user, shard)) != rights))
