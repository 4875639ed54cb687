"""What varies from schedule to schedule: the cluster that is asked for, and how unreliable the world is."""

import random
from typing import Any, Final

from tests.simulation.operating.faults import NO_FAULTS, Faults

Shape = tuple[int, int]
"""Shards, replicas per shard."""

SHAPES: Final[tuple[Shape, ...]] = ((1, 0), (1, 2), (2, 1), (3, 1), (6, 1), (3, 2))
WEIGHTS: Final = (12, 20, 25, 28, 6, 9)
VERSIONS: Final = ("8.0", "8.1", "9.1")
"""The last one moves slots at one stroke, the others key by key."""


def spec(shape: Shape = (3, 1), **more: Any) -> dict[str, Any]:
    """What a user writes."""
    return {
        "engine": "Valkey",
        "version": "8.1",
        "topology": {"mode": "Cluster", "shards": shape[0], "replicasPerShard": shape[1]},
        "resources": {"limits": {"memory": "256Mi"}},
        **more,
    }


def version_of(seed: int) -> str:
    """Every other one moves slots at one stroke."""
    return VERSIONS[-1] if seed % 2 else VERSIONS[seed // 2 % 2]


def random_faults(chance: random.Random) -> Faults:
    """Every kind of trouble on its own and together."""
    return Faults(
        crash=chance.choice((0, 0.02, 0.1, 0.3)),
        lost_reply=chance.choice((0, 0.05, 0.2)),
        lost_request=chance.choice((0, 0.05)),
        conflict=chance.choice((0, 0.05)),
        throttle=chance.choice((0, 0.05)),
        stale_list=chance.choice((0, 0.1, 0.3)),
    )


def random_shape(chance: random.Random, *, replicas: bool = False) -> Shape:
    """Small ones more often; ``replicas``: at least one in every shard."""
    while True:
        shape = chance.choices(SHAPES, WEIGHTS)[0]
        if shape[1] or not replicas:
            return shape


__all__ = ["NO_FAULTS", "SHAPES", "Shape", "random_faults", "random_shape", "spec", "version_of"]
