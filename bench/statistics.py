"""Percentiles of small samples."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Nearest-rank percentiles, rounded; with fewer than 100 samples p99 is the largest."""

    p50: int
    p99: int
    smallest: int
    largest: int


def percentiles(samples: Iterable[float]) -> Percentiles:
    """Percentiles of at least one sample."""
    ordered = sorted(samples)
    return Percentiles(_rank(ordered, 50), _rank(ordered, 99), round(ordered[0]), round(ordered[-1]))


def _rank(ordered: list[float], percent: int) -> int:
    return round(ordered[ceil(len(ordered) * percent / 100) - 1])
