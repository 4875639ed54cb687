"""Asks live engines for their parameters; prints JSON {family: {"values": {...}, "immutable": [...]}}.

    python -m tests.engines.parameter_list

`parameter_names` and `parameter_defaults` in `cachecluster.domain` are kept equal to it by a test; this shows what to
write there when a new engine version differs.
"""

import asyncio
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.exceptions import ResponseError

from tests.engines.harness.binaries import FAMILIES, engine_binary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess


@dataclass(frozen=True, slots=True)
class ParameterList:
    """What CONFIG GET * lists, with its values, and which of it CONFIG SET refuses as immutable."""

    values: Mapping[str, str]
    immutable: frozenset[str]


async def parameter_list(node: NodeProcess) -> ParameterList:
    """The parameters of a running node. Each is set to the value it has, which changes nothing."""
    reply: list[str] = await node.call("CONFIG", "GET", "*")
    values = dict(zip(reply[::2], reply[1::2], strict=True))
    immutable = [name for name, value in values.items() if await _is_immutable(node, name, value)]
    return ParameterList(values, frozenset(immutable))


async def _is_immutable(node: NodeProcess, name: str, value: str) -> bool:
    try:
        await node.call("CONFIG", "SET", name, value)
    except ResponseError as error:
        return "immutable config" in str(error)
    return False


async def _all_families(directory: Path) -> dict[str, ParameterList]:
    found = {}
    for family in FAMILIES:
        async with ProcessCluster(engine_binary(family), directory / family) as cluster:
            node = cluster.add("node")
            await node.start()
            found[family] = await parameter_list(node)
    return found


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        lists = asyncio.run(_all_families(Path(scratch)))
    print(
        json.dumps(
            {family: {"values": p.values, "immutable": sorted(p.immutable)} for family, p in lists.items()},
            indent=1,
        )
    )
