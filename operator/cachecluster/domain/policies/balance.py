"""Members of a shard, and primaries, that have crowded into one zone move apart, calmly (design §5, ADR 0023)."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import MovePod, SwitchOver
from cachecluster.domain.plan import Do, Verdict
from cachecluster.domain.policies.pods import best_successor, is_schedulable
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import crowded_zone
from cachecluster.domain.zones import crowded_replica, open_zones

CALM_SECONDS: Final = 600.0
"""So long must a zone have led too many. The condition ZonesSpread keeps the time; without it, we wait.

So old must a pod be that moves: the scheduler may put it back where it was, and then not every few seconds."""


def spread_replicas(now: Situation) -> Iterator[Verdict]:
    """Make one replica anew that shares its zone while another is open to it; never while anything is amiss (S7)."""
    if not all(s.healthy for s in now.topology.shards):
        return
    zones = open_zones(now.snap.hosts.values(), now.spec.placement)
    for shard in now.topology.shards:
        replica = crowded_replica(shard, zones)
        if shard.primary is None or replica is None or now.snap.now - replica.pod.created_at < CALM_SECONDS:
            continue
        message = f"shard {shard.index} shares zone {replica.zone}; {replica.pod.name} is made anew, in another zone"
        yield Do(MovePod(replica.target, shard.primary.target), Reason.RESTORING_ZONE_BALANCE, message)
        return


def spread_primaries(now: Situation) -> Iterator[Verdict]:
    """Move one primary out of a zone that leads half of the shards or more; never while anything is amiss."""
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
            message = f"zone {zone} leads half of the shards or more; {heir.pod.name} in zone {heir.zone} takes over"
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


POLICIES: Final = (spread_replicas, spread_primaries)
