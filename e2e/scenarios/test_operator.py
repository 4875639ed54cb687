"""The operator itself is restarted, replaced and reconfigured: no cache pod notices (S9)."""

import pytest

from e2e.client import Client
from e2e.cluster import Cluster
from e2e.install import Installation, until_operator_ready
from e2e.kube import Kube
from e2e.platform import Faults
from e2e.recorder import Recorder

pytestmark = pytest.mark.alone

OTHER_TAG = "dev-again"


def test_s9_restarted_operator_changes_nothing(installation: Installation, kube: Kube, cart: Cluster) -> None:
    before, revisions = cart.uids(), versions(kube, cart)
    installation.kill_operator()
    until_operator_ready(kube)
    until_operator_has_looked(installation, cart)
    assert cart.uids() == before
    assert versions(kube, cart) == revisions, "the new operator has written to objects that were right"


def test_s9_other_operator_image_restarts_no_cache_pod(installation: Installation, cart: Cluster) -> None:
    before = cart.uids()
    other = installation.platform.load_operator(OTHER_TAG)
    installation.upgrade(image=other)
    until_operator_has_looked(installation, cart)
    assert cart.uids() == before
    installation.upgrade()
    until_operator_has_looked(installation, cart)
    assert cart.uids() == before


def test_s9_changed_chart_values_restart_no_cache_pod(
    installation: Installation, cart: Cluster, recorder: Recorder
) -> None:
    before = cart.uids()
    with recorder.writing():
        installation.upgrade({"replicas": 1, "resources": {"requests": {"cpu": "11m", "memory": "70Mi"}}})
        until_operator_has_looked(installation, cart)
        installation.upgrade()
        until_operator_has_looked(installation, cart)
    assert cart.uids() == before
    recorder.history.assert_nothing_lost()
    assert recorder.history.failed == 0


def test_api_server_restart_changes_nothing(
    installation: Installation, kube: Kube, cart: Cluster, shopper: Client, faults: Faults
) -> None:
    before = cart.uids()
    with faults.api_server_away():
        pass
    until_operator_has_looked(installation, cart)
    assert cart.uids() == before
    assert shopper.ask("ping") == "PONG"
    kube.delete("Service", cart.namespace, "cart-nodes")
    cart.until("watches work again", lambda: kube.find("Service", cart.namespace, "cart-nodes"), within=90)


def until_operator_has_looked(installation: Installation, cart: Cluster) -> None:
    """Wait until the operator in charge now has carried out an edit that only it can carry out."""
    kube = installation.kube
    kube.delete("PodDisruptionBudget", cart.namespace, "cart-primaries")
    cart.until("the operator repairs", lambda: kube.find("PodDisruptionBudget", cart.namespace, "cart-primaries"), 120)
    cart.until_whole()


def versions(kube: Kube, cart: Cluster) -> dict[str, str]:
    """resourceVersion of what only the operator writes to."""
    kinds = ("Service", "Secret", "ConfigMap", "NetworkPolicy")
    found = [item for kind in kinds for item in kube.list(kind, cart.namespace)]
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in found
        if item["metadata"]["name"].startswith("cart") and "recorder" not in item["metadata"]["name"]
    }
