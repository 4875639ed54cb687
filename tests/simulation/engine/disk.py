"""What of a node outlives its process: the files on its volume."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import SlotSet
from tests.simulation.engine.table import Address

Tokens = Mapping[int, tuple[str, ...]]
"""Acknowledged and other writes by slot, in the order in which they were applied."""


def writes(tokens: Tokens) -> set[str]:
    """Those of all slots."""
    return {token for some in tokens.values() for token in some}


@dataclass(frozen=True, slots=True)
class SavedRow:
    """A line of nodes.conf."""

    node_id: NodeId
    address: Address
    shard_id: str
    primary: bool
    primary_id: NodeId | None
    config_epoch: int
    slots: SlotSet
    noaddr: bool
    fail: bool
    heard: bool
    """There has been a pong of it."""


@dataclass(frozen=True, slots=True)
class NodesConf:
    """nodes.conf, as it was last fsynced."""

    myself: NodeId
    current_epoch: int
    last_vote_epoch: int
    rows: tuple[SavedRow, ...]

    @property
    def mine(self) -> SavedRow:
        """The line about the node itself."""
        return next(r for r in self.rows if r.node_id == self.myself)


@dataclass(frozen=True, slots=True)
class Dump:
    """An RDB file with the replication history that it belongs to."""

    tokens: Tokens
    replication_id: str
    offset: int


@dataclass(slots=True, eq=False)
class Disk:
    """An emptyDir or a persistent volume."""

    cluster_uid: str | None = None
    nodes_conf: NodesConf | None = None
    dump: Dump | None = None
    append_only: Tokens | None = None
    retired: list[NodeId] = field(default_factory=list)
    """Identities that the start guard has put aside."""

    @property
    def tokens(self) -> Tokens:
        """Data that a process would load."""
        if self.append_only is not None:
            return self.append_only
        return self.dump.tokens if self.dump is not None else {}
