"""Where the scheduler may put a shard's pods.

Hard zone spread within a shard, soft across the cluster: both hard would deadlock the scheduler (design §5).
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.spec import Placement, Spread

_HOSTNAME: Final = "kubernetes.io/hostname"


def scheduling(placement: Placement | None, cluster: Mapping[str, str], shard: Mapping[str, str]) -> dict[str, Any]:
    """The scheduling fields of a pod spec. ``cluster`` and ``shard`` are the selectors of their pods."""
    placement = placement or Placement.model_validate({})
    zone_key = placement.topology_key or names.ZONE_LABEL
    required = placement.spread is not Spread.PREFERRED
    return {
        **({"nodeSelector": dict(sorted(placement.node_selector.items()))} if placement.node_selector else {}),
        **({"tolerations": _tolerations(placement)} if placement.tolerations else {}),
        "affinity": {
            **_zones(placement, zone_key),
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": _apart(zone_key, shard, required)},
        },
        "topologySpreadConstraints": _spread(zone_key, cluster, shard, required),
    }


def _spread(
    zone_key: str, cluster: Mapping[str, str], shard: Mapping[str, str], required: bool
) -> list[dict[str, Any]]:
    """At most one constraint for each pair of key and strength, as the API server demands."""
    hard = [_constraint(zone_key, "DoNotSchedule", shard)] if required else []
    soft_keys = dict.fromkeys((zone_key, _HOSTNAME))
    return hard + [_constraint(key, "ScheduleAnyway", cluster) for key in soft_keys]


def _constraint(key: str, otherwise: str, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "maxSkew": 1,
        "topologyKey": key,
        "whenUnsatisfiable": otherwise,
        "labelSelector": {"matchLabels": dict(labels)},
        "nodeTaintsPolicy": "Honor",  # a zone whose nodes are all tainted does not hold the others back
    }


def _apart(zone_key: str, shard: Mapping[str, str], required: bool) -> list[dict[str, Any]]:
    """Members of a shard prefer different hosts, and different zones where that is not required anyway."""
    keys = {_HOSTNAME: 100} if required else {zone_key: 100, _HOSTNAME: 50}
    return [
        {
            "weight": weight,
            "podAffinityTerm": {"topologyKey": key, "labelSelector": {"matchLabels": dict(shard)}},
        }
        for key, weight in keys.items()
    ]


def _zones(placement: Placement, zone_key: str) -> dict[str, Any]:
    if not placement.zones:
        return {}
    among = {"key": zone_key, "operator": "In", "values": sorted(set(placement.zones))}
    terms = [{"matchExpressions": [among]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def _tolerations(placement: Placement) -> list[dict[str, Any]]:
    """Sorted: their order means nothing, and must not restart a pod."""
    dumped = [t.model_dump(by_alias=True, exclude_none=True, mode="json") for t in placement.tolerations or []]
    return sorted(dumped, key=lambda t: json.dumps(t, sort_keys=True))
