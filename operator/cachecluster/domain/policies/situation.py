"""What every policy is given: the snapshot, and what follows from it, worked out once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.plan import Verdict
from cachecluster.domain.snapshot import InvalidSpec, Snapshot
from cachecluster.domain.topology import Topology


@dataclass(frozen=True, slots=True)
class Situation:
    """One moment of one cluster."""

    snap: Snapshot
    topology: Topology

    @property
    def spec(self) -> CacheClusterSpec:
        """The spec; only for policies behind the one that stops on an invalid spec, else raises TypeError."""
        if isinstance(self.snap.spec, InvalidSpec):
            raise TypeError("this policy belongs behind the validity gate")
        return self.snap.spec


class Policy(Protocol):
    """A pure question about the situation."""

    def __call__(self, now: Situation, /) -> Iterable[Verdict]:
        """What to do, wait for, or hold back."""
        ...
