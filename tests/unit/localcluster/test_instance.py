"""Names and addresses of local clusters, which keep instances apart."""

from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.localcluster.instance import (
    FIRST_PORT,
    MAX_NODES,
    STATE_ROOT_VARIABLE,
    Instance,
    LocalClusterError,
    layout,
    state_root,
)

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?", fullmatch=True)
EPHEMERAL_PORTS = 32768


@given(NAMES, NAMES)
def test_instances_of_different_names_share_no_path_and_no_namespace(one: str, other: str) -> None:
    a, b = Instance(one), Instance(other)

    assert (a.state == b.state) == (one == other)
    assert (a.netns("n0") == b.netns("n0")) == (one == other)
    assert (a.cgroup == b.cgroup) == (one == other)


@given(NAMES)
def test_everything_is_derived_from_the_name_alone(name: str) -> None:
    a, b = Instance(name), Instance(name)

    assert (a.port, a.machine_network, a.pod_network) == (b.port, b.machine_network, b.pod_network)
    assert FIRST_PORT <= a.port < EPHEMERAL_PORTS


@given(NAMES)
def test_networks_of_an_instance_are_private_and_disjoint(name: str) -> None:
    instance = Instance(name)
    networks = (instance.machine_network, instance.pod_network, instance.service_network)

    assert all(network.is_private for network in networks)
    assert not any(a.overlaps(b) for a, b in combinations(networks, 2))
    assert instance.control_plane in instance.machine_network
    assert instance.dns_service in instance.service_network
    assert instance.kubernetes_service in instance.service_network


@given(NAMES, st.integers(1, MAX_NODES))
def test_nodes_have_addresses_and_pod_ranges_of_their_own(name: str, count: int) -> None:
    instance = Instance(name)
    nodes = layout(instance, count, 1).nodes

    assert len({node.address for node in nodes}) == count
    assert instance.control_plane not in {node.address for node in nodes}
    assert all(node.address in instance.machine_network for node in nodes)
    assert not any(a.pods.overlaps(b.pods) for a, b in combinations(nodes, 2))
    assert all(node.pods.subnet_of(instance.pod_network) for node in nodes)


def test_ports_of_the_instances_in_use_differ() -> None:
    assert len({Instance(name).port for name in ("dev", "selftest", "selftest-b", "demo", "bench")}) == 5


def test_nodes_fill_zones_in_turn() -> None:
    made = layout(Instance("dev"), 7, 3)

    assert [node.zone for node in made.nodes] == ["a", "b", "c", "a", "b", "c", "a"]
    assert made.zones == ("a", "b", "c")
    assert [node.name for node in made.nodes_of("b")] == ["n1", "n4"]


@pytest.mark.parametrize("name", ["", "A", "1a", "-a", "a-", "a_b", "a.b", "../x", "a" * 21, "a/b"])
def test_unusable_names_are_refused(name: str) -> None:
    with pytest.raises(LocalClusterError, match="is not a name for a local cluster"):
        Instance(name)


@pytest.mark.parametrize(("nodes", "zones"), [(0, 1), (MAX_NODES + 1, 1), (3, 0), (11, 11)])
def test_sizes_out_of_range_are_refused(nodes: int, zones: int) -> None:
    with pytest.raises(LocalClusterError, match="has 1 to 50 nodes in 1 to 10 zones"):
        layout(Instance("dev"), nodes, zones)


def test_zones_without_a_node_are_refused() -> None:
    with pytest.raises(LocalClusterError, match="2 nodes cannot fill 3 zones"):
        layout(Instance("dev"), 2, 3)


def test_unknown_nodes_and_zones_are_refused_with_the_known_ones() -> None:
    made = layout(Instance("dev"), 3, 2)

    with pytest.raises(LocalClusterError, match="no node 'n9'; nodes: n0, n1, n2"):
        made.node("n9")
    with pytest.raises(LocalClusterError, match="no zone 'z'; zones: a, b"):
        made.nodes_of("z")


def test_state_directory_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(STATE_ROOT_VARIABLE, str(tmp_path))

    assert state_root() == tmp_path
    assert Instance("dev").state == tmp_path / "dev"
