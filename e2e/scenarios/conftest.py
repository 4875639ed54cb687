"""One Kubernetes with the operator for the whole session; a namespace for each scenario.

uv run pytest e2e/scenarios --platform local
uv run pytest e2e/scenarios --platform kind
uv run pytest e2e/scenarios --platform existing --context NAME --image REPOSITORY:TAG
"""

import re
from collections.abc import Iterator
from typing import Final

import pytest

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation, install
from e2e.kube import Kube
from e2e.localcluster.artifacts import exclusive
from e2e.namespaces import namespace, until_gone
from e2e.platform import CHOICES, Faults, PlatformError, choose
from e2e.recorder import Recorder

SCENARIO_SECONDS: Final = 1200
"""Upper bound of one scenario; the first one also waits for the platform to be built."""
FAMILIES: Final = ("8.0", "8.1", "9.1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where to run."""
    group = parser.getgroup("e2e")
    group.addoption("--platform", choices=CHOICES, default="local", help="Kubernetes to run on")
    group.addoption("--context", help="kube-context to use with --platform existing")
    group.addoption("--image", help="operator image for --platform existing, pullable by its nodes")
    group.addoption("--fault-rounds", type=int, default=0, help="play the whole matrix of faults so many times")
    group.addoption("--keep-namespaces", action="store_true", help="leave everything behind, for a look at a failure")


def pytest_configure(config: pytest.Config) -> None:
    """Our mark."""
    config.addinivalue_line(
        "markers", "alone: takes away what other scenarios use: the operator, a machine, the API server"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Scenarios take longer than unit tests may."""
    for item in items:
        item.add_marker(pytest.mark.timeout(SCENARIO_SECONDS))


@pytest.fixture(scope="session")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Installation:
    """The platform, up, with the operator installed by Helm. It stays up for the next run.

    Of several pytest-xdist workers one installs; to the others it is then there already.
    """
    option = request.config.getoption
    with exclusive(tmp_path_factory.getbasetemp().parent / "installation.lock"):
        try:
            return install(choose(option("--platform"), option("--context"), option("--image")), FAMILIES)
        except PlatformError as error:
            request.session.shouldstop = "there is no platform to run scenarios on"
            pytest.fail(f"no platform: {error}", pytrace=False)  # not pytest.exit: a worker's reason would be lost


@pytest.fixture(scope="session")
def kube(installation: Installation) -> Iterator[Kube]:
    """The API server. At the end nothing of the scenarios may be left on it; they do not wait for that one by one."""
    yield installation.kube
    until_gone(installation.kube)


@pytest.fixture(scope="session")
def faults(installation: Installation) -> Faults:
    """Faults below Kubernetes."""
    if installation.platform.faults is None:
        pytest.skip(f"platform {installation.platform.name} gives no access to its machines")
    return installation.platform.faults


@pytest.fixture
def here(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for one scenario."""
    purpose = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())[:40].strip("-")
    with namespace(kube, purpose, keep=request.config.getoption("--keep-namespaces")) as name:
        yield name


@pytest.fixture(scope="module")
def shared_namespace(kube: Kube, request: pytest.FixtureRequest) -> Iterator[str]:
    """A namespace for all scenarios of a module."""
    purpose = request.module.__name__.rpartition(".")[2].removeprefix("test_").replace("_", "-")
    with namespace(kube, purpose, keep=request.config.getoption("--keep-namespaces")) as name:
        yield name


@pytest.fixture(scope="module")
def shared_cluster(kube: Kube, shared_namespace: str) -> Cluster:
    """A 3 x 1 cluster that the scenarios of a module leave whole."""
    cluster = Cluster(kube, shared_namespace, "cart")
    cluster.apply(small_spec())
    cluster.until_whole()
    return cluster


@pytest.fixture
def cart(shared_cluster: Cluster) -> Cluster:
    """The shared cluster, whole at the start of each scenario."""
    shared_cluster.until_whole()
    return shared_cluster


@pytest.fixture(scope="module")
def shopper(installation: Installation, shared_cluster: Cluster) -> Client:
    """A client of the shared cluster."""
    return client.start(installation.kube, installation.image, shared_cluster.namespace, shared_cluster.name)


@pytest.fixture
def recorder(installation: Installation, cart: Cluster) -> Recorder:
    """Writers for the shared cluster; not started."""
    return Recorder(installation.kube, cart.namespace, cart.name, installation.image)
