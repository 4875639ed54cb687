"""What the slots hold: primaries are asked only while moves are about to begin (ADR 0015)."""

import asyncio
from typing import Final

from cachecluster.domain.policies.resharding import moves_are_due
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.domain.snapshot import NodeView
from cachecluster.domain.topology import Member, Topology
from cachecluster.engines.client import NodeError
from cachecluster.reconcile.dependencies import Senses

COUNT_SECONDS: Final = 2.0
"""Bound on asking one primary; all are asked at once."""


async def slot_bytes(topology: Topology, deps: Senses, password: str) -> dict[int, int]:
    """Bytes of each slot that holds keys, taking every key of a shard for as large as any other. Empty while no moves
    are due, and if some primary does not tell: moves do not wait for it.
    """
    if not moves_are_due(topology):
        return {}
    primaries = [s.primary for s in topology.shards if s.primary is not None]
    answers = await asyncio.gather(*(_bytes_of(m, topology, deps, password) for m in primaries))
    told = [answer for answer in answers if answer is not None]
    return {slot: size for answer in told for slot, size in answer.items()} if len(told) == len(answers) else {}


async def _bytes_of(primary: Member, topology: Topology, deps: Senses, password: str) -> dict[int, int] | None:
    """The same for one shard."""
    if not isinstance(primary.view, NodeView) or primary.pod.ip is None:
        return None
    slots = topology.owners.get(primary.view.node_id, NO_SLOTS)
    try:
        async with asyncio.timeout(COUNT_SECONDS), deps.nodes.connect(primary.pod.ip, password) as node:
            counts = await node.count_keys(slots)
    except (NodeError, TimeoutError):
        return None
    keys = max(sum(counts.values()), 1)
    return {slot: primary.view.dataset_bytes * count // keys for slot, count in counts.items()}
