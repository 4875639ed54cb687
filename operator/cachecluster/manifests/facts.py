"""What the builders need to know beside the spec."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Self

from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import ClusterRef, Manifest

PASSWORD_KEYS: Final = {
    "application": "application-password",
    "operator": "operator-password",
    "replication": "replication-password",
    "node": "node-password",
}
"""Field of ``Passwords`` -> key of the system Secret."""


@dataclass(frozen=True, slots=True, repr=False)
class Passwords:
    """The generated passwords of one cluster. Has no ``repr``: it must not reach a log (S12)."""

    application: str
    operator: str
    replication: str
    node: str

    @classmethod
    def from_secret(cls, secret: Manifest) -> Self:
        """Read the system Secret; raises ValueError naming a key that is missing or empty."""
        data = secret.get("data") or {}
        missing = sorted(key for key in PASSWORD_KEYS.values() if not data.get(key))
        if missing:
            raise ValueError(f"Secret {secret['metadata']['name']} has no {', '.join(missing)}")
        return cls(**{name: b64decode(data[key]).decode() for name, key in PASSWORD_KEYS.items()})


@dataclass(frozen=True, slots=True)
class Facts:
    """Who the cluster is and what is known about it."""

    ref: ClusterRef
    operator_namespace: str
    """Namespace of the operator's own pods: they may reach the cache port."""
    passwords: Passwords | None
    """None until the system Secret exists: the Secrets made from it are then left out."""
    formed: Mapping[int, SlotSet] = field(default_factory=dict)
    """Slots that each shard has served, by shard index; absent: it never held data."""
    histories: Mapping[int, str] = field(default_factory=dict)
    """Replication id with which each shard's primary serves, or last did, by shard index; absent: it is of no use."""
    present: Mapping[int, int] = field(default_factory=dict)
    """Members that each shard has, by shard index: whom the spec no longer asks for stays until it is let go."""
    restarts: Mapping[int, str] = field(default_factory=dict)
    """The restart that a shard's pods are to have behind them, by shard index; absent: none was asked for."""
    remembered: frozenset[str] = frozenset()
    """Live parameters that may once have been set on a running node (ADR 0011)."""
    volume_sizes: Mapping[int, str] = field(default_factory=dict)
    """Size of the volumes in a shard's StatefulSet, by shard index: it stays so for a StatefulSet's whole life."""
