"""A failing seed can be replayed: the same seed gives the same history, also in another process."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
PROGRAM = """
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import spec
from tests.simulation.world import World
with World(7, faults=Faults(crash=0.1, lost_reply=0.1, stale_list=0.2)) as world:
    ref = world.create(spec((3, 1)))
    world.wait(4)
    world.calm()
    world.converge(ref)
    print("\\n".join(world.trace))
"""


def _history(hash_seed: int) -> str:
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    first = _history(1)
    assert len(first.splitlines()) > 30
    assert _history(2) == first
