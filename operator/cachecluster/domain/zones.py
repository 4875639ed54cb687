"""Zones that would take a pod, and the replica that should move into one: members of a shard have crowded together."""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final

from cachecluster.api import names
from cachecluster.api.placement import Toleration
from cachecluster.api.spec import Placement
from cachecluster.domain.snapshot import Host, Taint
from cachecluster.domain.topology import Member, Shard

KEEPS_AWAY: Final = frozenset({"NoSchedule", "NoExecute"})


def open_zones(hosts: Iterable[Host], placement: Placement | None) -> frozenset[str]:
    """Zones with a Kubernetes node that is well, and on which the spec lets pods run. Whether there is room for one
    more, only the scheduler knows.
    """
    wanted = placement or Placement.model_validate({})
    key = wanted.topology_key or names.ZONE_LABEL
    zones = frozenset(host.labels[key] for host in hosts if key in host.labels and _takes_pods(host, wanted))
    return zones & frozenset(wanted.zones) if wanted.zones else zones


def _takes_pods(host: Host, placement: Placement) -> bool:
    selected = all(host.labels.get(label) == value for label, value in (placement.node_selector or {}).items())
    tolerated = all(_tolerates(placement.tolerations or (), taint) for taint in host.taints)
    return host.ready and host.schedulable and not host.out_of_service and selected and tolerated


def _tolerates(tolerations: Iterable[Toleration], taint: Taint) -> bool:
    """As the scheduler does."""
    if taint.effect not in KEEPS_AWAY:
        return True
    return any(
        t.key in {None, taint.key}
        and t.effect in {None, taint.effect}
        and (t.operator == "Exists" or (t.value or "") == taint.value)
        for t in tolerations
    )


def crowded_replica(shard: Shard, zones: Collection[str]) -> Member | None:
    """A replica that shares its zone with another member, while one of these zones has none of them.

    Not one with a volume, which is bound to where it was made.
    """
    counts = Counter(m.zone for m in shard.members)
    if None in counts or not set(zones) - counts.keys():
        return None
    movable = [m for m in shard.members if m is not shard.head and counts[m.zone] > 1 and not m.pod.has_volume]
    return max(movable, key=lambda m: (counts[m.zone], m.pod.ordinal), default=None)
