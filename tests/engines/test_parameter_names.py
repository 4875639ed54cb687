"""The operator's table of parameters against what live engines list."""

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
    assert KNOWN[engine.family] == live.names
    assert IMMUTABLE[engine.family] == live.immutable
