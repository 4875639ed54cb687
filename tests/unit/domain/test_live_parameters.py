"""Which parameters change on a running node, and when a node has the value that is wanted."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api.spec import CacheClusterSpec, EngineVersion
from cachecluster.domain.live_parameters import is_live, lacking, noted, outstanding, same_family, wanted
from cachecluster.domain.memory import PARAMETER, maxmemory
from cachecluster.domain.nodes import NodeView, Unreachable
from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.domain.parameter_names import IMMUTABLE
from cachecluster.domain.parameter_types import TYPES, normal
from cachecluster.domain.parameters import TWINS, settable
from cachecluster.domain.topology import Member
from cachecluster.manifests.config import live_config_map
from tests.unit.domain.building import REF, formed, spec_of


def view(version: str = "8.1.1", **parameters: str) -> NodeView:
    found = formed().snapshot().views["cart-0-0"]
    assert isinstance(found, NodeView)
    return replace(found, version=version, parameters={k.replace("_", "-"): v for k, v in parameters.items()})


def users(spec: CacheClusterSpec, remembered: Collection[str] = ()) -> dict[str, str]:
    """Without the operator's own."""
    return {name: value for name, value in wanted(spec, remembered).items() if name != PARAMETER}


@pytest.mark.parametrize("version", list(EngineVersion))
def test_live_is_whatever_may_be_set_and_is_not_immutable(version: EngineVersion) -> None:
    old_names = TWINS.keys() if version != "8.0" else frozenset()
    assert DEFAULTS[version].keys() == set(settable(version)) - IMMUTABLE[version] - old_names
    spec = spec_of(version=version)
    assert [name for name in settable(version) if is_live(name, spec) == (name in IMMUTABLE[version])] == []


@pytest.mark.parametrize("version", list(EngineVersion))
def test_the_engines_own_values_are_ones_that_users_may_write(version: EngineVersion) -> None:
    wrong = {n: v for n, v in DEFAULTS[version].items() if n in TYPES and TYPES[n].problem(v) is not None}
    assert wrong == {}


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("repl-backlog-size", "64mb", "67108864"),
        ("maxmemory-clients", "05%", "5%"),
        ("maxmemory-clients", "0%", "0"),
        ("hz", "0050", "50"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "xeE", "Eex"),
        ("notify-keyspace-events", "Eg$lshzxetd", "AE"),
        ("latency-tracking-info-percentiles", "050 99.90", "50 99.9"),
        ("save", "3600  1", "3600 1"),
        ("slot-migration-max-failover-repl-bytes", "1kb", "1024"),
        (
            "client-output-buffer-limit",
            "pubsub 32mb 8mb 60 slave 1gb 0 0",
            "replica 1073741824 0 0 pubsub 33554432 8388608 60",
        ),
    ],
)
def test_equal_values_in_other_words_are_equal(name: str, one: str, other: str) -> None:
    assert normal(name, one) == normal(name, other) == normal(name, normal(name, one))


@pytest.mark.parametrize("name", sorted(TYPES))
@pytest.mark.parametrize("odd", ["", "?", "1 2 3", "replica 1 2", "5%", "-1", "1e400"])
def test_what_cannot_be_read_stays_as_it_is(name: str, odd: str) -> None:
    normal(name, odd)


def test_a_class_of_buffers_that_is_not_named_keeps_the_engines_own_limit() -> None:
    values = users(spec_of(parameters={"client-output-buffer-limit": "replica 512mb 128mb 60"}))
    assert values == {
        "client-output-buffer-limit": "normal 0 0 0 replica 536870912 134217728 60 pubsub 33554432 8388608 60"
    }
    assert not lacking(
        values, view(client_output_buffer_limit="normal 0 0 0 slave 536870912 134217728 60 pubsub 33554432 8388608 60")
    )


@pytest.mark.parametrize("version", list(EngineVersion))
def test_two_names_of_one_parameter_are_never_both_set(version: EngineVersion) -> None:
    spec = spec_of(version=version, parameters={"slowlog-max-len": 64})
    kept = "slowlog-max-len" if version == "8.0" else "commandlog-slow-execution-max-len"
    assert users(spec) == {kept: "64"}
    if version != "8.0":
        assert users(spec_of(version=version, parameters={"commandlog-slow-execution-max-len": 64})) == {kept: "64"}
        assert "slowlog-max-len" not in DEFAULTS[version]


def test_what_earlier_specs_set_gets_the_engines_own_value() -> None:
    live = live_config_map(spec_of(parameters={"hz": 50, "timeout": 30}), REF, ())
    assert noted(live) == {"hz", PARAMETER, "timeout"}
    assert wanted(spec_of(parameters={"timeout": 5}), noted(live)).items() >= {"hz": "10", "timeout": "5"}.items()
    assert users(spec_of(), {"requirepass", "io-threads", "save"}) == {}, "only what users may set without a restart"


@pytest.mark.parametrize(
    ("spec", "node", "same"),
    [("8.1", "8.1.4", True), ("9.1", "8.1.4", False), ("8.0", "8.1.0", False), ("8.1", "255.255.255", True)],
)
def test_nodes_of_another_family_are_about_to_be_replaced(spec: str, node: str, same: bool) -> None:
    assert same_family(view(version=node), EngineVersion(spec)) is same


def test_a_parameter_that_the_node_does_not_show_is_lacking() -> None:
    values: dict[str, Any] = {"hz": "50", "timeout": "0"}
    assert lacking(values, view(hz="50")) == {"timeout": "0"}


def test_only_the_spec_can_ask_for_a_parameter_that_the_node_does_not_know() -> None:
    """Its engine then says so; one that is only remembered was never set there."""
    own = {PARAMETER: str(maxmemory(spec_of()))}
    member = Member(formed().snapshot().pods[0], view(hz="50", **own), zone=None)
    assert list(outstanding(spec_of(), {"hz", "timeout"}, [member])) == [(member, {"hz": "10"})]
    assert list(outstanding(spec_of(parameters={"timeout": 5}), (), [member])) == [(member, {"timeout": "5"})]


def test_nothing_is_outstanding_on_a_node_that_is_silent_or_of_another_family() -> None:
    pod = formed().snapshot().pods[0]
    members = [Member(pod, Unreachable("refused", 0.0), zone=None), Member(pod, view("9.1.0"), zone=None)]
    assert not list(outstanding(spec_of(parameters={"timeout": 5}), (), members))


def test_maxmemory_follows_the_smaller_limit_of_what_is_wanted_and_what_is_in_force() -> None:
    wanted_value, pod = str(256 * 2**20 * 60 // 100), formed().snapshot().pods[0]
    for limit, value in ((None, 256), (128 * 2**20, 128), (256 * 2**20, 256), (2**30, 256)):
        member = Member(replace(pod, memory_limit=limit), view(maxmemory="1"), zone=None)
        [(_, lacks)] = outstanding(spec_of(), (), [member])
        assert lacks == {PARAMETER: str(value * 2**20 * 60 // 100)}, limit
    assert wanted(spec_of())[PARAMETER] == wanted_value
