"""Parameters that change without a restart: what a starting node reads, and what the operator's connection does."""

from collections.abc import Mapping

import pytest

from cachecluster.domain.live_parameters import FILE, lacking, wanted
from cachecluster.domain.memory import PARAMETER, maxmemory
from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.engines.client import NodeRefused
from cachecluster.engines.valkey import ValkeyConnector
from cachecluster.manifests.valkey_conf import live_conf
from tests.engines.harness.binaries import EngineBinary
from tests.engines.harness.cluster import ProcessCluster
from tests.engines.harness.node import NodeProcess
from tests.engines.pods import PASSWORDS, Pods

PARAMETERS: Mapping[str, str | int] = {
    "maxmemory-policy": "allkeys-lru",
    "notify-keyspace-events": "KEA",
    "client-output-buffer-limit": "replica 512mb 128mb 60",
    "slowlog-max-len": 7,
    "latency-tracking-info-percentiles": "",
    "repl-backlog-size": "64mb",
}


def pods_of(nodes: ProcessCluster, engine: EngineBinary, parameters: Mapping[str, str | int]) -> Pods:
    """One node."""
    spec = {
        "engine": "Valkey",
        "version": engine.family,
        "topology": {"mode": "Cluster", "shards": 1, "replicasPerShard": 0},
        "resources": {"limits": {"memory": "256Mi"}},
        "parameters": dict(parameters),
    }
    return Pods(nodes, spec)


async def values(node: NodeProcess) -> dict[str, str]:
    """CONFIG GET *."""
    reply: list[str] = await node.call("CONFIG", "GET", "*")
    return dict(zip(reply[::2], reply[1::2], strict=True))


async def test_a_starting_node_reads_them_and_the_operators_own_win(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = pods_of(nodes, engine, PARAMETERS)
    pods.live[FILE] += "appendonly yes\n"  # by somebody who may edit the ConfigMap
    await pods.start()
    asked = wanted(pods.spec)
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        assert lacking(asked, await client.view(asked)) == {}
    found = await values(pods[0, 0])
    assert found["maxmemory"] == str(maxmemory(pods.spec))
    assert found["appendonly"] == "no"


async def test_a_starting_node_has_the_engines_own_value_of_each_and_takes_it_when_told(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = pods_of(nodes, engine, {})
    await pods.start()
    asked = wanted(pods.spec, DEFAULTS[engine.family])
    assert len(asked) > 75
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        assert lacking(asked, await client.view(asked)) == {}
        await client.configure(tuple(asked.items()))
        assert lacking(asked, await client.view(asked)) == {}


async def test_a_starting_node_reads_every_parameter_from_the_file(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, {})
    asked = wanted(pods.spec, DEFAULTS[engine.family])
    pods.live[FILE] = live_conf(asked)
    await pods.start()
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        assert lacking(asked, await client.view(asked)) == {}


async def test_they_are_set_on_a_running_node_and_what_is_taken_back_is_set_back(
    nodes: ProcessCluster, engine: EngineBinary
) -> None:
    pods = pods_of(nodes, engine, PARAMETERS)
    asked = wanted(pods.spec)
    limit = {PARAMETER: asked[PARAMETER]}
    pods.live[FILE] = live_conf(limit)
    await pods.start()
    before = await values(pods[0, 0])
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        missing = lacking(asked, await client.view(asked))
        assert missing | limit == asked
        assert PARAMETER not in missing
        await client.configure(tuple(missing.items()))
        assert lacking(asked, await client.view(asked)) == {}
        assert (await values(pods[0, 0]))["maxmemory-policy"] == "allkeys-lru"

        first = wanted(pods.spec.model_copy(update={"parameters": None}), asked)
        assert first.keys() == asked.keys()
        await client.configure(tuple(lacking(first, await client.view(first)).items()))
        assert lacking(first, await client.view(first)) == {}
    assert await values(pods[0, 0]) == before


async def test_s11_a_node_takes_all_or_none_and_says_why(nodes: ProcessCluster, engine: EngineBinary) -> None:
    pods = pods_of(nodes, engine, {})
    await pods.start()
    async with ValkeyConnector().connect(pods[0, 0].address, PASSWORDS.operator) as client:
        for name, value in (("locale-collate", "no_WHERE"), ("maxmemory-policy", "lru"), ("not-a-parameter", "1")):
            with pytest.raises(NodeRefused, match=name):
                await client.configure((("hz", "50"), (name, value)))
        view = await client.view(["hz", "locale-collate", "not-a-parameter"])
        assert view.parameters == {"hz": "10", "locale-collate": ""}
        assert (await client.view()).parameters == {}
