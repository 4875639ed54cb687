"""What the operator asks of one engine node, and the errors that come back. Implementations live beside this module."""

from collections.abc import Collection
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import NodeId, NodeView, Parameters


class NodeError(Exception):
    """A call to a node failed; ``str()`` is for people and holds no secret."""


class NodeUnreachable(NodeError):
    """No connection or no answer in time: unknown whether a command was carried out."""


class NodeDenied(NodeError):
    """Our credentials are not accepted: another cluster's node, or one whose users were changed."""


class NodeRefused(NodeError):
    """The node answered with an error; the text is the engine's own."""


class NodeClient(Protocol):
    """One connection to one node. It never reconnects: a lost connection raises NodeUnreachable."""

    async def view(self, parameters: Collection[str] = ()) -> NodeView:
        """Read identity, replication state and cluster table, and the values of ``parameters``."""
        ...

    async def node_id(self) -> NodeId:
        """CLUSTER MYID."""
        ...

    async def end_other_sessions(self) -> None:
        """CLIENT KILL every other connection of the operator's user: a predecessor that was frozen must not act."""
        ...

    async def set_config_epoch(self, epoch: int) -> None:
        """CLUSTER SET-CONFIG-EPOCH; the node must know nobody."""
        ...

    async def meet(self, ip: str, port: int, bus_port: int) -> None:
        """CLUSTER MEET; OK means only that the handshake has started."""
        ...

    async def add_slots(self, slots: SlotSet) -> None:
        """CLUSTER ADDSLOTSRANGE."""
        ...

    async def replicate(self, primary: NodeId) -> None:
        """CLUSTER REPLICATE."""
        ...

    async def forget(self, node_id: NodeId) -> None:
        """CLUSTER FORGET; an id that is not known is fine."""
        ...

    async def failover(self, kind: FailoverKind) -> None:
        """CLUSTER FAILOVER on a replica; OK of the graceful kind means only that it is scheduled."""
        ...

    async def configure(self, parameters: Parameters) -> None:
        """CONFIG SET, all in one command: either every one is in force afterwards or none has changed."""
        ...

    async def release(self) -> None:
        """Switch the application and replication users on again: the end of a quarantine (S5)."""
        ...


class NodeConnector(Protocol):
    """Opens connections as the operator's user."""

    def connect(self, ip: str, password: str | None) -> AbstractAsyncContextManager[NodeClient]:
        """Connect to the cache port of ``ip`` within a bounded time; raises NodeError."""
        ...
