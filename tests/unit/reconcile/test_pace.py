"""How many keys go at once."""

from hypothesis import given
from hypothesis import strategies as st

from cachecluster.reconcile.key_moves import BATCH, BATCH_BOUNDS, TARGET_SECONDS, Pace


def test_it_settles_where_one_command_takes_the_time_aimed_at() -> None:
    for microseconds in (2, 20, 200):
        pace = Pace()
        for _ in range(10):
            pace.took(pace.keys, pace.keys * microseconds / 1e6)
        fewest, most = BATCH_BOUNDS
        assert pace.keys == max(fewest, min(most, int(TARGET_SECONDS * 1e6 / microseconds)))


def test_one_slow_command_halves_it_at_most() -> None:
    pace = Pace()
    pace.took(BATCH, 3.0)
    assert pace.keys == BATCH // 2


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(-0.01, 10.0)), max_size=30))
def test_it_stays_within_its_bounds(measured: list[tuple[int, float]]) -> None:
    pace = Pace()
    for keys, seconds in measured:
        pace.took(keys, seconds)
        assert BATCH_BOUNDS[0] <= pace.keys <= BATCH_BOUNDS[1]
