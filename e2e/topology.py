"""The layout of a cluster as a small table: shards down, zones across."""

from collections.abc import Sequence

from e2e.cluster import Cluster, Member


def table(cluster: Cluster) -> str:
    """One row for each shard, one column for each zone; the primary is marked with a star."""
    members = cluster.members()
    slots = [str(shard["slots"]) for shard in cluster.read()["status"]["shards"]]
    zones = sorted({m.zone for m in members})
    header = ["SHARD", "SLOTS", *(f"ZONE {zone}" for zone in zones)]
    rows = [[str(shard), slots[shard], *(_cell(members, shard, zone) for zone in zones)] for shard in range(len(slots))]
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)) for row in (header, *rows)
    )


def _cell(members: Sequence[Member], shard: int, zone: str) -> str:
    here = [m for m in members if m.shard == shard and m.zone == zone]
    return ", ".join(f"{m.name} on {m.node}{' *' if m.role == 'primary' else ''}" for m in here) or "-"
