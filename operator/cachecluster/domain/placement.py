"""Which member of each shard should be its primary, so that no zone holds a majority of them."""

from collections import Counter, deque
from collections.abc import Mapping, Sequence

Zone = str | None


def choose_primaries(candidates: Sequence[Sequence[Zone]], fixed: Mapping[int, Zone]) -> dict[int, int]:
    """For every shard not in ``fixed``: the index of the candidate to make primary.

    ``candidates[shard]`` are the zones of the members that could be primary; ``fixed`` the zones of primaries that
    exist already. Each shard takes the zone with the fewest primaries; then primaries are shifted along chains of
    zones while that makes the zones more even. The result is the most even one there is (a semi-matching without
    a cost-reducing path is optimal: Harvey, Ladner, Lovasz, Tamir, "Semi-Matchings for Bipartite Graphs").
    """
    counts: Counter[Zone] = Counter(fixed.values())
    chosen: dict[int, int] = {}
    for shard, zones in enumerate(candidates):
        if shard in fixed or not zones:
            continue
        _, chosen[shard] = min((counts[zone], i) for i, zone in enumerate(zones))
        counts[zones[chosen[shard]]] += 1
    while (chain := _evening_chain(candidates, chosen, counts)) is not None:
        for shard, to in chain:
            counts[candidates[shard][chosen[shard]]] -= 1
            counts[candidates[shard][to]] += 1
            chosen[shard] = to
    return chosen


def _evening_chain(
    candidates: Sequence[Sequence[Zone]], chosen: Mapping[int, int], counts: Counter[Zone]
) -> list[tuple[int, int]] | None:
    """Moves (shard, candidate) that take one primary from a fuller zone to one with at least two fewer."""
    for start in sorted(counts, key=lambda z: (-counts[z], str(z))):
        reached: dict[Zone, list[tuple[int, int]]] = {start: []}
        queue = deque([start])
        while queue:
            zone = queue.popleft()
            for shard, current in sorted(chosen.items()):
                if candidates[shard][current] != zone:
                    continue
                for i, other in enumerate(candidates[shard]):
                    if other in reached:
                        continue
                    reached[other] = [*reached[zone], (shard, i)]
                    if counts[other] <= counts[start] - 2:
                        return reached[other]
                    queue.append(other)
    return None
