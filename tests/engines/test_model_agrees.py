"""The simulation's engine model against real servers: the same commands and faults lead both to the same state.

Each schedule runs in the model first; the real servers then have to arrive where the model has. Compared are replies
(accepted or refused), who knows whom, roles, slot owners, who is given up, keys on every node, the order of epochs.
"""

import asyncio
import random
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.engines.harness.binaries import EngineBinary, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.waiting import until
from tests.engines.model_side import NODE_TIMEOUT, Model, State, Step
from tests.engines.server_side import Servers

SETTLED_SECONDS: Final = 25.0
"""Virtual time after each step: elections, undone failures and syncs are over by then."""


def random_schedule(seed: int, shards: int, length: int) -> list[Step]:
    """Steps that make sense one after another; what the engine makes of them is its affair."""
    chance = random.Random(seed)  # noqa: S311
    everybody = range(2 * shards)
    down: set[int] = set()
    steps: list[Step] = []
    while len(steps) < length:
        up = [i for i in everybody if i not in down]
        node, other = chance.choice(up), chance.choice(everybody)
        what = chance.choice(("kill", "bounce", "back", "back", "force", "takeover", "graceful", "graceful", "refused"))
        if what == "kill" and len(down) < 2:
            down.add(node)
            steps.append(Step("kill", node))
        elif what == "bounce":
            steps.append(Step("bounce", node))
        elif what == "back" and down:
            back = chance.choice(sorted(down))
            down.discard(back)
            steps.append(Step(chance.choice(("start", "move", "blank")), back))
        elif what in {"force", "takeover", "graceful"}:
            steps.append(Step(what, node))
        elif what == "refused" and node != other:
            steps.append(Step(chance.choice(("add_slots", "epoch", "replicate")), node, other))
    return steps + [Step("forget", 0, gone) for gone in sorted(down)[:1]]


OPEN: Final = [Step("importing", 1, 0), Step("migrating", 0, 1)]
FIXED: Final = (
    [Step("kill", 0), Step("start", 0)],
    [Step("kill", 1), Step("move", 1), Step("graceful", 1)],
    [Step("bounce", 2)],
    [Step("kill", 3), Step("blank", 3), Step("meet", 3, 0), Step("replicate", 3, 0)],
    [Step("kill", 0), Step("kill", 1), Step("force", 4), Step("takeover", 4), Step("start", 1), Step("start", 0)],
    [
        Step("migrating", 1, 0),
        Step("importing", 0, 1),
        *OPEN,
        Step("node", 0, 1),
        Step("migrate", 0, 1),
        Step("node", 1, 1),
    ],
    [*OPEN, Step("migrate", 0, 1), Step("takeover", 3), Step("node", 1, 1)],
    [*OPEN, Step("takeover", 4), Step("migrate", 0, 4), Step("node", 4, 4)],
    [*OPEN, Step("kill", 0), Step("stable", 1), Step("start", 0)],
    [*OPEN, Step("node", 1, 1)],
    [Step("bump", 0), Step("bump", 0), Step("bump", 1), Step("kill", 0), Step("start", 0)],
    [Step("ask_one", 0), Step("ask_one", 3), Step("kill", 3), Step("start", 3), Step("graceful", 3), Step("kill", 3)],
    [Step("ask_one", 0), *OPEN, Step("kill", 3), Step("migrate", 0, 1), Step("ask_none", 0), Step("migrate", 0, 1)],
    [Step("ask_one", 1), *OPEN, Step("kill", 4), Step("migrate", 0, 1), Step("start", 4), Step("migrate", 0, 1)],
)
"""Failover and return; a new address; an empty primary; a stranger at an old address; a quorum lost and regained.

Then a slot that moves: every refusal and the whole way; either end fails over half way; one end is closed; and the
danger, that a source with keys hears of a new owner. Then epochs that are bumped. Last, writes that ask for a replica:
refused without one, also those that MIGRATE makes at either end.
"""


STROKES: Final = (
    [Step("at_once", 0, 1), Step("at_once", 1, 0)],
    [Step("at_once", 0, 0), Step("at_once", 0, 4), Step("at_once", 1, 0), Step("at_once", 3, 1)],
    [*OPEN, Step("at_once", 0, 1), Step("stable", 0), Step("stable", 1), Step("at_once", 0, 1)],
    [Step("while_it_dies", 0, 1), Step("start", 1)],
    [Step("and_dies", 0, 1), Step("start", 0)],
    [Step("call_off", 0, 1), Step("at_once", 0, 1), Step("bounce", 0)],
    [Step("ask_one", 1), Step("kill", 4), Step("at_once", 0, 1), Step("start", 4), Step("at_once", 0, 1)],
)
"""Slots that move at one stroke: there and back; every refusal; half moved by hand; either end dies; called off; the
destination refuses writes for want of a replica."""


DEAF: Final = (
    [Step("deaf", 0), Step("hears", 0)],
    [Step("deaf", 3), Step("hears", 3), Step("kill", 0), Step("start", 0)],
    [Step("deaf", 1), Step("force", 4), Step("hears", 1), Step("deaf", 2), Step("graceful", 5), Step("hears", 2)],
)
"""A node hears nothing on the bus, and replication goes on: a primary is replaced; a replica is given up, hears again,
and is elected when its turn comes."""
DEAF_FAMILIES: Final = ("8.1", "9.1")
"""Valkey 8.0 cannot be told to drop all packets."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """Where the model is after a step."""

    step: str
    accepted: bool
    state: State


def predict(version: tuple[int, int], schedule: Sequence[Step], seed: int, shards: int) -> list[Prediction]:
    """Run a schedule in the model. Needs a thread without a running event loop."""
    with closing(Model(version, shards, seed)) as model:
        model.form()
        predictions = [Prediction("form", True, model.state())]
        for step in schedule:
            accepted = model.carry_out(step)
            model.wait(SETTLED_SECONDS)
            predictions.append(Prediction(str(step), accepted, model.state()))
    return predictions


async def _agrees(engine: EngineBinary, directory: Path, schedule: Sequence[Step], seed: int, shards: int = 3) -> None:
    major, minor = map(int, engine.family.split("."))
    formed, *predictions = await asyncio.to_thread(predict, (major, minor), schedule, seed, shards)
    async with ProcessCluster(engine, directory) as cluster:
        servers = Servers(cluster, shards)
        await servers.form()
        done = [f"{engine.family} seed {seed}"]
        await _meets(formed.state, servers, done)
        for step, prediction in zip(schedule, predictions, strict=True):
            done.append(prediction.step)
            assert await servers.carry_out(step) == prediction.accepted, f"reply to the last of {done}"
            await _meets(prediction.state, servers, done)


async def _meets(expected: State, servers: Servers, done: Sequence[str]) -> None:
    """The servers arrive where the model has."""

    async def same() -> bool:
        """And not merely in passing."""
        if await servers.state() != expected:
            return False
        await asyncio.sleep(1.5 * NODE_TIMEOUT)
        return await servers.state() == expected

    try:
        await until(same, "agreement", 45, every=0.2)
    except TimeoutError:
        seen = await servers.state()
        pairs = {i: (expected[i], seen[i]) for i in expected if expected[i] != seen[i]}
        raise AssertionError(f"after {list(done)} (model, server): {pairs}") from None


@pytest.mark.parametrize(
    ("family", "seeds"),
    [("8.1", range(6)), ("8.0", range(100, 102)), ("9.1", range(200, 202))],
    ids=["8.1", "8.0", "9.1"],
)
async def test_random_schedules_end_alike(family: str, seeds: range, tmp_path: Path) -> None:
    engine = engine_binary(family)
    await asyncio.gather(*(_agrees(engine, tmp_path / str(seed), random_schedule(seed, 3, 5), seed) for seed in seeds))


async def test_known_stories_end_alike(engine: EngineBinary, tmp_path: Path) -> None:
    await asyncio.gather(*(_agrees(engine, tmp_path / str(i), steps, i) for i, steps in enumerate(FIXED)))


async def test_slots_that_move_at_one_stroke_end_alike(tmp_path: Path) -> None:
    engine = engine_binary("9.1")
    await asyncio.gather(*(_agrees(engine, tmp_path / str(i), steps, i) for i, steps in enumerate(STROKES)))


@pytest.mark.parametrize("family", DEAF_FAMILIES)
async def test_nodes_that_are_deaf_on_the_bus_end_alike(family: str, tmp_path: Path) -> None:
    engine = engine_binary(family)
    await asyncio.gather(*(_agrees(engine, tmp_path / str(i), steps, i) for i, steps in enumerate(DEAF)))


@pytest.mark.parametrize("family", DEAF_FAMILIES)
async def test_a_primary_that_is_deaf_on_the_bus_stops_within_one_and_a_half_timeouts(
    family: str, tmp_path: Path
) -> None:
    """Half a timeout until it asks who has been silent, a whole one until it gives up (docs/durability.md)."""
    async with ProcessCluster(engine_binary(family), tmp_path) as cluster:
        servers = Servers(cluster, 3)
        await servers.form()
        primary = servers.nodes[0]
        await servers.carry_out(Step("deaf", 0))
        began = asyncio.get_running_loop().time()

        async def stopped() -> bool:
            return "cluster_state:fail" in await primary.call("CLUSTER", "INFO")

        await until(stopped, "it takes no more writes", 10, every=0.02)
        took = asyncio.get_running_loop().time() - began
        assert NODE_TIMEOUT < took < 1.5 * NODE_TIMEOUT + 1.0, took
