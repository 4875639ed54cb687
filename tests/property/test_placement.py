"""The choice of primaries is as even as any choice could be."""

from collections import Counter
from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from cachecluster.domain.placement import choose_primaries

zones = st.sampled_from(["a", "b", "c", None])
shards = st.lists(st.lists(zones, min_size=1, max_size=3), min_size=1, max_size=6)


@given(shards, st.dictionaries(st.integers(0, 5), zones, max_size=2))
def test_no_choice_is_more_even(candidates: list[list[str | None]], fixed: dict[int, str | None]) -> None:
    fixed = {s: z for s, z in fixed.items() if s < len(candidates)}
    chosen = choose_primaries(candidates, fixed)
    assert chosen.keys() == set(range(len(candidates))) - fixed.keys()

    def unevenness(picks: dict[int, int]) -> int:
        counts = Counter([*fixed.values(), *(candidates[s][i] for s, i in picks.items())])
        return sum(n * n for n in counts.values())

    free = sorted(chosen)
    best = min(
        unevenness(dict(zip(free, picks, strict=True))) for picks in product(*(range(len(candidates[s])) for s in free))
    )
    assert unevenness(chosen) == best


@given(st.integers(1, 60), st.integers(1, 5))
def test_three_zones_never_hold_a_majority(count: int, replicas: int) -> None:
    members = [["abc"[(s + o) % 3] for o in range(1 + replicas)] for s in range(count)]
    chosen = choose_primaries(members, {})
    counts = Counter(members[s][i] for s, i in chosen.items())
    assert count < 3 or max(counts.values()) * 2 <= count or count == 3


def test_the_choice_is_the_same_every_time() -> None:
    candidates = [["a", "b"], ["b", "c"], ["c", "a"], ["a", "b"]]
    assert len({tuple(choose_primaries(candidates, {}).items()) for _ in range(5)}) == 1
