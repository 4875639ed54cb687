"""The operator's table of parameters against what live engines list."""

from typing import Final

from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.domain.parameter_names import IMMUTABLE, KNOWN
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.parameter_list import parameter_list


async def test_known_and_immutable_parameters_are_those_of_the_live_engine(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    node = nodes.add("n0")
    await node.start()
    live = await parameter_list(node)
    assert KNOWN[engine.family] == live.values.keys()
    assert IMMUTABLE[engine.family] == live.immutable


async def test_live_parameters_and_their_first_values_are_those_of_the_live_engine(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    node = nodes.add("n0")
    await node.start()
    live = await parameter_list(node)
    first = {name: value for name, value in DEFAULTS[engine.family].items() if name not in HARNESS_SETS}
    assert first == {name: live.values[name] for name in first}
    assert not DEFAULTS[engine.family].keys() & live.immutable


HARNESS_SETS: Final = {"save"}
