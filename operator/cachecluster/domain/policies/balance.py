"""Primaries that have crowded into one zone move back, calmly (design §5)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import SwitchOver
from cachecluster.domain.plan import Do, Verdict
from cachecluster.domain.policies.pods import best_successor, is_schedulable
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import crowded_zone

CALM_SECONDS: Final = 600.0
"""So long must a zone have held a majority. The condition ZonesSpread keeps the time; without it, we wait."""


def spread_primaries(now: Situation) -> Iterator[Verdict]:
    """Move one primary out of a zone that holds a majority of them; never while anything is amiss."""
    zone = crowded_zone(now.topology)
    if zone is None or not all(s.healthy for s in now.topology.shards) or not _calm(now):
        return
    counts = {z: sum(s.primary is not None and s.primary.zone == z for s in now.topology.shards) for z in _zones(now)}
    for shard in now.topology.shards:
        if shard.primary is None or shard.primary.zone != zone:
            continue
        elsewhere = [
            m for m in shard.replicas if m.zone and counts[m.zone] + 1 < counts[zone] and is_schedulable(now, m)
        ]
        heir = best_successor(shard, sorted(elsewhere, key=lambda m: counts[m.zone or ""])[:1])
        if heir is not None:
            message = f"zone {zone} holds a majority of the primaries; {heir.pod.name} in zone {heir.zone} takes over"
            yield Do(SwitchOver(shard.index, shard.primary.target, heir.target), Reason.RESTORING_ZONE_BALANCE, message)
            return


def _zones(now: Situation) -> set[str]:
    return {m.zone for m in now.topology.members if m.zone is not None}


def _calm(now: Situation) -> bool:
    """The last status has said for long enough that the zones are not spread."""
    for condition in now.snap.status.get("conditions", ()):
        if condition["type"] == ConditionType.ZONES_SPREAD and condition["status"] == "False":
            since = datetime.fromisoformat(condition["lastTransitionTime"]).timestamp()
            return now.snap.now - since >= CALM_SECONDS
    return False


POLICIES: Final = (spread_primaries,)
