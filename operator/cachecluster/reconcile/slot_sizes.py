"""What the slots hold: primaries are asked only while moves are about to begin (ADR 0015)."""

import asyncio
from typing import Final

from cachecluster.domain.nodes import NodeView
from cachecluster.domain.policies.resharding import moves_are_due
from cachecluster.domain.slot_weights import SLACK_BYTES
from cachecluster.domain.slots import SlotSet
from cachecluster.domain.topology import Member, Topology
from cachecluster.engines.client import NodeError
from cachecluster.reconcile.dependencies import Senses

COUNT_SECONDS: Final = 2.0
"""Bound on asking one primary; all are asked at once."""


async def slot_bytes(topology: Topology, deps: Senses, password: str) -> dict[int, int]:
    """Bytes of each slot that holds keys, taking every key of a shard for as large as any other. Empty while no moves
    are due, if there is next to nothing to share out, and if some primary does not tell: moves do not wait for it.
    """
    holders = [
        (shard.primary, shard.primary.node)
        for shard in topology.shards
        if shard.primary is not None and shard.primary.node is not None and shard.primary.node.keys
    ]
    if sum(node.dataset_bytes for _, node in holders) < SLACK_BYTES or not moves_are_due(topology):
        return {}
    answers = await asyncio.gather(
        *(_bytes_of(primary, node, topology.owners[node.node_id], deps, password) for primary, node in holders)
    )
    told = [answer for answer in answers if answer is not None]
    return {slot: size for answer in told for slot, size in answer.items()} if len(told) == len(answers) else {}


async def _bytes_of(
    primary: Member, node: NodeView, slots: SlotSet, deps: Senses, password: str
) -> dict[int, int] | None:
    """The same for one shard."""
    try:
        async with asyncio.timeout(COUNT_SECONDS), deps.nodes.connect(primary.target.ip, password) as client:
            counts = await client.count_keys(slots)
    except (NodeError, TimeoutError):
        return None
    keys = max(sum(counts.values()), 1)
    return {slot: node.dataset_bytes * count // keys for slot, count in counts.items()}
