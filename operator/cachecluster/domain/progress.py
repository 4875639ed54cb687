"""How far a resharding has come, in numbers that change at most every ten seconds, and what of it is news."""

from datetime import datetime
from typing import Final

from cachecluster.api.status import Resharding
from cachecluster.domain.policies.resharding import wanted_moves
from cachecluster.domain.snapshot import Snapshot
from cachecluster.domain.topology import Topology

STEP_SECONDS: Final = 10
"""Progress is written no more often than that."""


def resharding_status(snap: Snapshot, topology: Topology, keys_moved: int) -> Resharding | None:
    """What is left to move and how long that may take; None if nothing is.

    ``keys_moved`` counts the keys since the progress was last written.
    """
    before = resharding_before(snap)
    goal = sum(not s.leaving for s in topology.shards)
    if topology.uncovered:
        return before
    left = sum(len(move.slots) for move in wanted_moves(topology))
    if not left:
        return None
    if before is None or before.to != goal:
        origin = sum(s.primary is not None for s in topology.shards)
        numbers = {"slots": left, "slots_moved": 0, "keys_moved": keys_moved, "progress_percent": 0}
        return Resharding.model_validate({"from": origin, "to": goal, "started_at": snap.moment, **numbers})
    elapsed = int(snap.now - datetime.fromisoformat(before.started_at).timestamp())
    if elapsed < before.elapsed_seconds + STEP_SECONDS:
        return before
    total = max(before.slots, left)
    moved = total - left
    return before.model_copy(
        update={
            "slots": total,
            "slots_moved": moved,
            "keys_moved": before.keys_moved + keys_moved,
            "progress_percent": 100 * moved // total,
            "elapsed_seconds": elapsed,
            "eta_seconds": elapsed * left // moved if moved else None,
        }
    )


def resharding_before(snap: Snapshot) -> Resharding | None:
    """As it was last written."""
    return Resharding.read(snap.status.get("resharding"))


def resharding_news(before: Resharding | None, after: Resharding | None) -> str | None:
    """What people want to hear of: the start, each quarter, the end."""
    if after is None:
        return f"resharding to {_shards(before.to)} is done" if before is not None else None
    if before is None or before.to != after.to:
        return f"resharding from {_shards(after.from_)} to {_shards(after.to)}: {after.slots} slots are to move"
    if after.progress_percent // 25 == before.progress_percent // 25:
        return None
    return (
        f"resharding to {_shards(after.to)}: {after.progress_percent} % done, {after.slots_moved} of {after.slots} "
        f"slots, {after.keys_moved} keys"
    )


def _shards(count: int) -> str:
    return f"{count} shard{'s' if count != 1 else ''}"
