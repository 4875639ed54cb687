"""Parameters that need no restart: an edit reaches every running node, and a value that is refused is explained."""

from typing import Final

import pytest

from e2e.client import Client
from e2e.cluster import Cluster
from e2e.engines import Engines
from e2e.kube import Kube, condition, is_true
from e2e.recorder import Recorder

SOON_SECONDS: Final = 60.0


@pytest.fixture
def engines(kube: Kube, cart: Cluster) -> Engines:
    """The nodes of the shared cluster."""
    return Engines(kube, cart)


def test_an_edit_takes_effect_on_every_node_and_restarts_none(
    cart: Cluster, engines: Engines, shopper: Client, recorder: Recorder
) -> None:
    shopper.write(200, "live")
    before = cart.uids()
    hash_before = cart.read()["status"]["effective"]["parametersHash"]
    with recorder.writing():
        cart.edit({"parameters": {"maxmemory-policy": "allkeys-lru", "hz": 50, "repl-backlog-size": "16mb"}})
        cart.until("every node has it", lambda: engines.values("maxmemory-policy") == {"allkeys-lru"}, SOON_SECONDS)
        cart.until_whole()
        assert engines.values("hz") == {"50"}
        assert engines.values("repl-backlog-size") == {str(16 * 2**20)}
        assert cart.read()["status"].get("pendingModifications", []) == []
        assert cart.read()["status"]["effective"]["parametersHash"] != hash_before

        cart.edit({"parameters": None})
        cart.until("every node is as before", lambda: engines.values("hz") == {"10"}, SOON_SECONDS)
        cart.until_whole()
        assert engines.values("maxmemory-policy") == {"noeviction"}
    recorder.history.assert_nothing_lost()
    assert cart.uids() == before, "a pod was restarted"
    assert shopper.count(200, "live") == 200
    assert cart.read()["status"]["effective"]["parametersHash"] == hash_before


def test_what_somebody_sets_by_hand_is_set_back_and_reported(cart: Cluster, engines: Engines, kube: Kube) -> None:
    before = cart.uids()
    cart.edit({"parameters": {"hz": 50}})
    cart.until_whole()
    victim = cart.replica_of(1).name
    engines.set(victim, "hz", "100")
    # Nothing in Kubernetes tells of it: something else makes the operator look before its next resync.
    kube.patch("Service", cart.namespace, "cart-nodes", {"spec": {"publishNotReadyAddresses": False}})
    cart.until("it is set back", lambda: engines.value(victim, "hz") == "50", SOON_SECONDS)
    cart.until(
        "an Event tells",
        lambda: [e for e in cart.events() if e["reason"] == "RepairingDrift" and f"{victim} differs" in e["message"]],
    )
    cart.until_whole()
    assert cart.uids() == before, "a pod was restarted"


def test_a_restarted_node_comes_back_with_the_edited_parameters(kube: Kube, cart: Cluster, engines: Engines) -> None:
    cart.edit({"parameters": {"hz": 60}})
    cart.until_whole()
    victim = cart.replica_of(0)
    kube.delete("Pod", cart.namespace, victim.name)
    cart.until("the pod is another one", lambda: cart.uids().get(victim.name, (victim.uid, 0))[0] != victim.uid)
    cart.until_whole()
    assert engines.value(victim.name, "hz") == "60"


def test_s11_a_refused_value_is_explained_and_the_way_back_works(cart: Cluster, engines: Engines) -> None:
    before = cart.uids()
    cart.edit({"parameters": {"hz": 70, "locale-collate": "no_WHERE"}})
    found = cart.until_condition("Stalled", "True", "ParameterRefused")
    assert "locale-collate" in found["message"]
    assert "spec.parameters" in found["message"]
    status = cart.read()["status"]
    assert {"parameters.hz", "parameters.locale-collate"} <= set(status["pendingModifications"])
    assert is_true(cart.read(), "Ready"), "a refused value took the cluster down"
    assert "70" not in engines.values("hz"), "all or nothing"
    assert [e for e in cart.events() if e["type"] == "Warning" and e["reason"] == "ParameterRefused"]
    cart.edit({"parameters": {"hz": 70, "locale-collate": None}})
    cart.until_whole()
    assert engines.values("hz") == {"70"}
    assert condition(cart.read(), "Stalled")["status"] == "False"
    assert cart.uids() == before, "a pod was restarted"
