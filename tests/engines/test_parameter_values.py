"""Values that the operator lets pass against what live engines take: a spec that is valid must not stop a node."""

from typing import Final, assert_never

from redis.exceptions import ResponseError

from cachecluster.api.spec import EngineVersion
from cachecluster.domain.parameter_names import IMMUTABLE
from cachecluster.domain.parameter_types import TYPES, Form, Memory, Type, Whole, Word, normal
from cachecluster.domain.parameters import settable
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster

BUILD_DECIDES: Final = {"activedefrag", "jemalloc-bg-thread"}
"""Debian's builds use the system's jemalloc, which cannot defragment."""
MACHINE_DECIDES: Final = {"maxclients"}
"""The limit of open files."""


def extremes(name: str, kind: Type) -> list[str]:
    """The values at the edges of what is let pass."""
    match kind:
        case Word():
            return list(kind.words)
        case Whole():
            return [str(kind.least), str(kind.most)]
        case Memory():
            percents = ["0%", "5%", "100%"] if kind.percent else []
            return [str(kind.least), "64mb", *percents, *(["-1"] if kind.unlimited else [])]
        case Form():
            return {
                "client-output-buffer-limit": ["replica 256mb 64mb 60", "normal 0 0 0 pubsub 32mb 8mb 60"],
                "latency-tracking-info-percentiles": ["", "50 99 99.9"],
                "notify-keyspace-events": ["", "AKEg$lshzxetdm", "KEg$xtdnm", "Kg$lshzxetd"],
                "save": ["3600 1", "3600 1 300 100 60 10000"],
            }[name]
        case _:
            assert_never(kind)


def _shows(name: str, value: str, shown: str) -> bool:
    """What CONFIG GET says after it is what was set: else the operator would set it again and again."""
    if name == "client-output-buffer-limit":  # the classes that are not named keep theirs
        return normal(name, shown) == normal(name, f"{shown} {value}")
    return normal(name, shown) == normal(name, value)


async def test_the_engine_takes_every_value_that_the_operator_lets_pass(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    node = nodes.add("n0")
    await node.start()
    unset = IMMUTABLE[engine.family] | BUILD_DECIDES | MACHINE_DECIDES
    refused, tried = [], 0
    for name in settable(EngineVersion(engine.family)):
        if name in unset or name not in TYPES:
            continue
        before: list[str] = await node.call("CONFIG", "GET", name)
        if name != "save":  # the harness starts engines without save points
            assert TYPES[name].problem(before[1]) is None, f"{name}: the engine's own default {before[1]!r}"
        for value in extremes(name, TYPES[name]):
            assert TYPES[name].problem(value) is None
            tried += 1
            try:
                await node.call("CONFIG", "SET", name, normal(name, value))
            except ResponseError as error:
                refused.append(f"{name} {value}: {error}")
                continue
            shown: list[str] = await node.call("CONFIG", "GET", name)
            if not _shows(name, value, shown[1]):
                refused.append(f"{name} {value}: shown as {shown[1]}")
        await node.call("CONFIG", "SET", name, before[1])
    assert refused == []
    assert tried > 150
