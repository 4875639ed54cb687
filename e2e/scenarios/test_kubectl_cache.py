"""`kubectl cache` as people use it: from outside with a kubeconfig, and in the operator's pod."""

import json
import subprocess
import sys
from base64 import b64decode
from dataclasses import dataclass
from typing import Final

import pytest

from e2e.client import Client
from e2e.cluster import Cluster
from e2e.diagnosis import OPERATOR_NAMESPACE
from e2e.install import Installation
from e2e.kube import Kube, Output
from e2e.recorder import Recorder

PLUGIN_SECONDS: Final = 700.0
"""Longer than every time-out that is given to the command."""
GAP_MILLISECONDS: Final = 15_000
"""Generous: what a shard may be without writes while its primary hands over on a busy machine."""
RESTARTED: Final = "cachecluster.dev/restarted-at"


@dataclass(frozen=True, slots=True)
class Plugin:
    """The command, with the rights of the platform's kubeconfig."""

    installation: Installation
    namespace: str

    def run(self, *arguments: str) -> Output:
        """Run it; the exit status is reported, not raised."""
        access = self.installation.access
        where = ["-n", self.namespace, "--kubeconfig", str(access.kubeconfig)]
        where += ["--context", access.context] if access.context else []
        argv = [sys.executable, "-m", "cachecluster.cli.kubectl_cache", *arguments, *where]
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PLUGIN_SECONDS, check=False
        )
        return Output(done.returncode, done.stdout, done.stderr)

    def ask(self, *arguments: str) -> str:
        """What it prints; fails if it fails."""
        output = self.run(*arguments)
        assert output.code == 0, f"{arguments}: {output.stderr}"
        return output.stdout


@pytest.fixture
def plugin(installation: Installation, cart: Cluster) -> Plugin:
    """The command in the shared cluster's namespace."""
    return Plugin(installation, cart.namespace)


def test_status_shows_every_node_and_where_to_connect_but_no_secret(cart: Cluster, plugin: Plugin) -> None:
    text, document = plugin.ask("status", "cart"), plugin.ask("status", "cart", "-o", "json")
    lines = text.splitlines()
    assert lines[1].startswith("ClusterReady: ")
    for member in cart.members():
        [line] = [line for line in lines if member.name in line]
        assert member.role in line
        assert member.zone in line
    assert f"cart.{cart.namespace}.svc:6379, with the keys of Secret cart-connection" in text
    assert json.loads(document)["status"] == cart.read()["status"]
    values = [b64decode(v).decode() for suffix in ("system", "auth") for v in cart.secret(suffix)["data"].values()]
    passwords = [value for value in values if len(value) > 20]
    assert passwords
    assert not [p for p in passwords if p in text + document]
    assert "cart" in plugin.ask("status")


def test_failovers_are_those_in_the_status(cart: Cluster, plugin: Plugin) -> None:
    document = json.loads(plugin.ask("failovers", "cart", "-o", "json"))
    assert document == {
        "namespace": cart.namespace,
        "name": "cart",
        "failovers": cart.read()["status"]["failovers"],
    }
    assert plugin.ask("failovers", "cart").startswith(f"cart in {cart.namespace}: ")


def test_an_unknown_cluster_is_one_line_and_exit_status_1(plugin: Plugin) -> None:
    output = plugin.run("status", "card")
    assert output.code == 1
    assert output.stderr.startswith("error: no CacheCluster card in namespace")
    assert "cart" in output.stderr


def test_plan_in_the_operators_pod_sees_what_the_operator_sees(
    installation: Installation, kube: Kube, cart: Cluster
) -> None:
    def plan() -> str:
        pod = installation.operator_pods()[0]["metadata"]["name"]
        output = kube.execute(OPERATOR_NAMESPACE, pod, "kubectl-cache", "plan", "-n", cart.namespace, "cart")
        assert output.code == 0, output.stderr
        return output.stdout

    before = cart.uids()
    assert "6 of 6 nodes answer" in plan()
    assert "Nothing: the cluster is as its spec wants it." in plan()
    cart.edit({"paused": True})
    cart.until_condition("Reconciling", "False", "Paused")
    assert "Paused" in plan()
    cart.edit({"paused": None})
    cart.until_whole()
    assert cart.uids() == before


def test_plan_from_outside_says_how_much_it_has_seen(plugin: Plugin) -> None:
    text = plugin.ask("plan", "cart")
    if "6 of 6 nodes answer" in text:
        assert "Nothing: the cluster is as its spec wants it." in text
    else:
        assert "nodes cannot be reached from here" in text
        assert f"kubectl exec -n {OPERATOR_NAMESPACE} deploy/cachecluster-operator -- kubectl-cache plan" in text


def test_failover_hands_one_shard_over_and_back_without_losing_a_write(
    cart: Cluster, plugin: Plugin, shopper: Client, recorder: Recorder
) -> None:
    shopper.write(200, "handover")
    before, first = cart.uids(), cart.primary_of(1).name
    with recorder.writing():
        there = json.loads(plugin.ask("failover", "cart", "1", "-o", "json"))
        cart.until_whole()
        assert (there["from"], there["to"]) == (first, cart.primary_of(1).name)
        assert there["to"] != first
        back = json.loads(plugin.ask("failover", "cart", "cart-1", "-o", "json"))
        cart.until_whole()
    assert (back["from"], back["to"]) == (there["to"], first)
    recorder.history.assert_nothing_lost()
    assert recorder.history.longest_gap_milliseconds < GAP_MILLISECONDS, str(recorder.history)
    assert shopper.count(200, "handover") == 200
    assert cart.uids() == before, "a failover restarted a pod"


def test_restart_replaces_every_pod_without_losing_a_write(
    kube: Kube, cart: Cluster, plugin: Plugin, shopper: Client, recorder: Recorder
) -> None:
    shopper.write(200, "restart")
    before = cart.uids()
    with recorder.writing():
        assert "kubectl cache watch" in plugin.ask("restart", "cart")
        lines = plugin.ask("watch", "cart", "--timeout", "10m").splitlines()
    assert "pods replaced" in lines[0]
    assert lines[-1].startswith("cart has arrived after ")
    assert not before.items() & cart.uids().items(), "some pod was not replaced"
    recorder.history.assert_nothing_lost()
    assert recorder.history.longest_gap_milliseconds < GAP_MILLISECONDS, str(recorder.history)
    assert shopper.count(200, "restart") == 200
    cart.assert_spread()

    after = cart.uids()
    kube.patch("CacheCluster", cart.namespace, cart.name, {"metadata": {"annotations": {RESTARTED: None}}})
    cart.edit({"paused": True})  # a newer generation in the status: the operator has looked since
    cart.until_condition("Reconciling", "False", "Paused")
    cart.edit({"paused": None})
    cart.until_whole()
    assert cart.uids() == after, "to take the request away restarted a pod"
