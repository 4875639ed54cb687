"""Clusters beside each other stay apart: in one namespace, in another, under the same name."""

from collections.abc import Iterator

import pytest

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation
from e2e.namespaces import namespace


@pytest.fixture
def elsewhere(installation: Installation) -> Iterator[str]:
    """A second namespace."""
    with namespace(installation.kube, "elsewhere") as name:
        yield name


def test_s4_neighbours_share_no_node(installation: Installation, here: str, elsewhere: str) -> None:
    kube = installation.kube
    clusters = [Cluster(kube, here, "cart"), Cluster(kube, here, "session"), Cluster(kube, elsewhere, "cart")]
    for cluster in clusters:
        cluster.apply(small_spec(shards=2, replicas=1))
    for cluster in clusters:
        cluster.until_whole()

    clients = [client.start(kube, installation.image, c.namespace, c.name) for c in clusters]
    ids = [ids_of(c) for c in clients]
    assert [len(found) for found in ids] == [4, 4, 4]
    assert len(ids[0] | ids[1] | ids[2]) == 12, f"clusters share nodes: {ids}"

    clients[0].write(50, "key")
    assert clients[1].count(50, "key") == 0
    assert clients[2].count(50, "key") == 0
    passwords = {c.secret("auth")["data"]["password"] for c in clusters}
    assert len(passwords) == 3


def ids_of(application: Client) -> set[str]:
    """All ids that some node of the cluster knows."""
    return {row["id"] for view in application.ask("nodes").values() for row in view}
