"""How many schedules to run, and how to replay one: ``--seeds N``, ``--seed K``."""

import gc
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

DEFAULT_SEEDS = 1000
CHUNK = 50


def pytest_addoption(parser: pytest.Parser) -> None:
    """Ask for more schedules, or for one."""
    group = parser.getgroup("simulation")
    group.addoption("--seeds", type=int, default=DEFAULT_SEEDS, help="number of simulated formations; others in step")
    group.addoption("--seed", type=int, default=None, help="replay one simulated schedule")


def pytest_configure(config: pytest.Config) -> None:
    """Our mark."""
    how = "share(fraction, whole_from=N): run only this fraction of --seeds schedules, but all from so many on"
    config.addinivalue_line("markers", how)


def pytest_collection_finish() -> None:
    """What has been imported stays: the collector need not look through it again and again."""
    gc.collect()
    gc.freeze()


@dataclass(frozen=True)
class Seeds:
    """A run of seeds that one test works through."""

    first: int
    last: int

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.first, self.last))

    def __str__(self) -> str:
        return f"{self.first}-{self.last - 1}"


def _share(mark: pytest.Mark | None, total: int) -> float:
    if mark is None or total >= mark.kwargs.get("whole_from", total + 1):
        return 1.0
    return float(mark.args[0])


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Tests that take ``seeds`` run once for each chunk; a ``share`` mark asks for a fraction of all."""
    if "seeds" not in metafunc.fixturenames:
        return
    one = metafunc.config.getoption("--seed", None)
    total = metafunc.config.getoption("--seeds", DEFAULT_SEEDS)
    if one is not None:
        chunks = [Seeds(one, one + 1)]
    else:
        count = max(1, int(total * _share(metafunc.definition.get_closest_marker("share"), total)))
        chunks = [Seeds(i, min(i + CHUNK, count)) for i in range(0, count, CHUNK)]
    metafunc.parametrize("seeds", chunks, ids=str)
