"""The nodes that take part in a move of slots, connected and looked at once more."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from cachecluster.domain.actions import Target
from cachecluster.domain.nodes import NodeId, NodeView, Role
from cachecluster.domain.slots import SlotSet
from cachecluster.engines.client import NodeClient, NodeError, SlotState, StreamPosition
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.together import together

LANES: Final = 32
"""Connections at most for SETSLOT to a primary with replicas: from Valkey 8.0 on each command holds its connection up
until the replicas have it (engine-facts §1.2)."""
SLOTS_PER_LANE: Final = 2
LAG_BYTES: Final = 1 << 20
"""How far the destination's best replica may be behind before keys are sent on (design §5)."""
POLL_SECONDS: Final = 0.02


@dataclass
class End:
    """One primary: what it said at the beginning, and connections to it."""

    target: Target
    view: NodeView
    client: NodeClient
    connect: Callable[[], Awaitable[NodeClient]]
    """One more connection, open as long as the first."""
    lanes: list[NodeClient] = field(default_factory=list)

    @property
    def has_replicas(self) -> bool:
        """Whether anybody follows it, in step or not."""
        return any(row.primary_id == self.target.node_id for row in self.view.peers)

    async def mark(self, slots: SlotSet, state: SlotState, peer: NodeId | None = None) -> None:
        """CLUSTER SETSLOT for each slot, over as many lanes as it takes."""
        if not slots:
            return
        self.lanes = self.lanes or [self.client]
        every = list(slots)
        count = lanes_for(len(every)) if self.has_replicas else 1
        self.lanes += await together(*(self.connect() for _ in range(count - len(self.lanes))))
        parts = (SlotSet.of(every[i::count]) for i in range(count))
        await together(*(lane.set_slots(part, state, peer) for lane, part in zip(self.lanes, parts, strict=False)))

    def means(self, peer: NodeId, node_id: NodeId) -> bool:
        """Whether by ``peer`` this end means the node: itself, or one that follows it by now."""
        row = self.view.peer(peer)
        return peer == node_id or (row is not None and row.primary_id == node_id)


def lanes_for(slots: int) -> int:
    """How many connections it takes to mark so many slots, at least one, on a primary with replicas."""
    return min(LANES, -(-slots // SLOTS_PER_LANE))


async def open_end(stack: AsyncExitStack, context: Context, target: Target) -> End:
    """Connect to one end of a move; raises Doubt unless it is a primary that applications may use."""
    client = await stack.enter_async_context(context.node(target))
    view = await client.view()
    if view.role is not Role.PRIMARY:
        raise Doubt(f"{target.pod} is a replica by now")
    if not view.leads:
        raise Doubt(f"{target.pod} is quarantined")
    return End(target, view, client, lambda: stack.enter_async_context(context.again(target)))


@dataclass
class Followers:
    """The destination's replicas: what left the source must not hang on a single copy for long."""

    destination: End
    clients: list[NodeClient] = field(default_factory=list)

    @classmethod
    async def of(
        cls, stack: AsyncExitStack, context: Context, destination: End, targets: Sequence[Target]
    ) -> "Followers":
        """Connect to those that can be reached."""
        opened = await asyncio.gather(
            *(stack.enter_async_context(context.node(t)) for t in targets), return_exceptions=True
        )
        clients = [c for c in opened if not isinstance(c, BaseException)]
        for error in opened:
            if isinstance(error, BaseException) and not isinstance(error, (NodeError, Doubt)):
                raise error
        return cls(destination, clients)

    async def keep_up(self, deadline: float) -> bool:
        """Wait until a replica has nearly all that the destination has; False if that takes until the deadline.

        Asked directly: what a primary knows of its replicas is up to a second old. Raises Doubt if none is in step.
        """
        if not self.destination.has_replicas:
            return True
        while True:
            head, *tails = await asyncio.gather(
                self.destination.client.position(), *(c.position() for c in self.clients), return_exceptions=True
            )
            if isinstance(head, BaseException):
                raise head
            behind = [head.offset - t.offset for t in tails if isinstance(t, StreamPosition) and t.in_step]
            if not behind:
                raise Doubt(f"paused: no replica of {self.destination.target.pod} is in step with it")
            if min(behind) < LAG_BYTES:
                return True
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
