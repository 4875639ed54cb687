"""One API server for all tests of this folder, with the CustomResourceDefinition installed."""

import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from cachecluster.api import crd, names
from cachecluster.kube.credentials import Credentials
from e2e.localcluster.build import programs
from tests.apiserver.server import Answer, ApiServer
from tests.unit.api.cases import VALID

NAMESPACE = "shop"
ESTABLISHED_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Clusters:
    """CacheClusters of one namespace, by way of the API server."""

    server: ApiServer

    @property
    def path(self) -> str:
        """Of the collection."""
        return f"/apis/{names.API_VERSION}/namespaces/{NAMESPACE}/{names.PLURAL}"

    def create(self, spec: Any, name: str = "cart", dry_run: bool = True, strict: bool = True) -> Answer:
        """Create one; dry: only judge it. Strict, as kubectl is: unknown fields are refused, not dropped."""
        query = f"?fieldValidation={'Strict' if strict else 'Ignore'}{'&dryRun=All' if dry_run else ''}"
        return self.server.call("POST", self.path + query, manifest(spec, name))

    def edit(self, name: str, spec: dict[str, Any], *, dry_run: bool = True) -> Answer:
        """Judge the replacement of the spec of an existing one; store it without ``dry_run``."""
        current, query = self.get(name), "?dryRun=All" if dry_run else ""
        return self.server.call("PUT", f"{self.path}/{name}{query}", {**current, "spec": spec})

    def get(self, name: str) -> dict[str, Any]:
        """Read one."""
        answer = self.server.call("GET", f"{self.path}/{name}")
        assert answer.accepted, answer
        return answer.body

    def write_status(self, name: str, status: dict[str, Any]) -> Answer:
        """Replace the status of one."""
        body = {**self.get(name), "status": status}
        return self.server.call("PUT", f"{self.path}/{name}/status?fieldValidation=Strict", body)


def manifest(spec: Any, name: str) -> dict[str, Any]:
    """A whole CacheCluster."""
    return {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": spec}


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """A running API server of the local cluster's own build."""
    with ApiServer(programs().kubenode, tmp_path_factory.mktemp("apiserver")) as running:
        yield running


@pytest.fixture(scope="session")
def clusters(server: ApiServer) -> Clusters:
    """The resource, served."""
    definition = crd.definition()
    created = server.call("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
    assert created.accepted, created
    assert server.call("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}}).accepted
    found = Clusters(server)
    deadline = time.monotonic() + ESTABLISHED_SECONDS
    while not server.call("GET", found.path).accepted:
        assert time.monotonic() < deadline, "the CustomResourceDefinition is not served"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="session")
def credentials(clusters: Clusters) -> Credentials:
    """The administrator's, with the resource served."""
    return Credentials(str(clusters.server.kubeconfig))


@pytest.fixture
def cluster() -> dict[str, Any]:
    """A CacheCluster of its own name in the default namespace, not yet created."""
    body = manifest(VALID, f"test-{uuid.uuid4().hex[:8]}")
    body["metadata"]["namespace"] = "default"
    return body
