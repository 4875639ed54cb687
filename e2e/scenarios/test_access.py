"""Who gets in, who does not, and that no password can be read where it does not belong (S12)."""

import json
import time
from base64 import b64decode
from collections.abc import Iterator
from typing import Final

import pytest

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, small_spec
from e2e.install import Installation
from e2e.kube import Kube, wait
from e2e.namespaces import namespace
from e2e.platform import Faults

OUT_SECONDS: Final = 15.0
REACH_SECONDS: Final = 60.0


@pytest.fixture(scope="module")
def shop(installation: Installation) -> Iterator[str]:
    """A namespace that the cluster lets in."""
    with namespace(installation.kube, "shop") as name:
        installation.kube.patch("Namespace", "", name, {"metadata": {"labels": {"team": "shop"}}})
        yield name


@pytest.fixture(scope="module")
def stranger(installation: Installation) -> Iterator[str]:
    """A namespace that it does not."""
    with namespace(installation.kube, "stranger") as name:
        yield name


@pytest.fixture(scope="module")
def guarded(kube: Kube, shared_namespace: str, shop: str) -> Cluster:
    """A cluster for the shop's namespaces only."""
    assert shop
    cluster = Cluster(kube, shared_namespace, "guarded")
    allowed = [{"namespaceSelector": {"matchLabels": {"team": "shop"}}}]
    cluster.apply(small_spec(shards=1, replicas=1, network={"policy": "Enabled", "allowFrom": allowed}))
    cluster.until_whole()
    return cluster


def visitor(installation: Installation, cluster: Cluster, where: str) -> Client:
    """A client in some namespace that holds the right password."""
    return client.start_visitor(installation.kube, installation.image, where, cluster.name, cluster.namespace)


def is_refused(answer: str) -> bool:
    """By the user's rights, or (DEBUG) by the engine for everybody."""
    return answer.startswith("NoPermissionError") or "command not allowed" in answer


def assert_stays_out(client: Client) -> None:
    """It gets no answer now, nor after the policies had time to reach the nodes."""
    deadline = time.monotonic() + OUT_SECONDS
    while time.monotonic() < deadline:
        error = client.error("ping")
        assert error.startswith("TimeoutError") or "refused" in error.lower(), error


def test_allowed_namespace_gets_in(installation: Installation, guarded: Cluster, shop: str) -> None:
    customer = visitor(installation, guarded, shop)
    wait("the customer is let in", lambda: customer.ask("ping") == "PONG", REACH_SECONDS)
    customer.write(20, "allowed")
    assert customer.count(20, "allowed") == 20


def test_other_namespaces_stay_out_even_with_the_password(
    installation: Installation, guarded: Cluster, stranger: str, shared_namespace: str
) -> None:
    for where in (stranger, shared_namespace):
        assert_stays_out(visitor(installation, guarded, where))


def test_default_lets_in_the_own_namespace_alone(
    installation: Installation, cart: Cluster, shopper: Client, stranger: str
) -> None:
    assert_stays_out(visitor(installation, cart, stranger))
    assert shopper.ask("ping") == "PONG"


def test_nobody_gets_in_without_a_password(shopper: Client) -> None:
    assert "NOAUTH" in shopper.error("ping-without-password") or "Authentication" in shopper.error(
        "ping-without-password"
    )


def test_application_may_not_administer(shopper: Client) -> None:
    answers = shopper.ask("forbidden")
    assert len(answers) == 7
    for command, answer in answers.items():
        assert is_refused(answer), f"{command}: {answer}"


def test_auth_disabled_lets_in_without_a_password_and_with_the_same_limits(
    installation: Installation, shared_namespace: str
) -> None:
    cluster = Cluster(installation.kube, shared_namespace, "open")
    cluster.apply(small_spec(shards=1, replicas=0, auth={"mode": "Disabled"}))
    cluster.until_whole()
    guest = client.start(installation.kube, installation.image, shared_namespace, "open")
    assert guest.ask("ping-without-password") == "PONG"
    assert all(is_refused(answer) for answer in guest.ask("forbidden").values())
    cluster.delete()


def test_s12_passwords_are_nowhere_but_in_secrets(installation: Installation, kube: Kube, cart: Cluster) -> None:
    passwords = [b64decode(value).decode() for value in cart.secret("system")["data"].values()]
    assert len(passwords) == 4
    assert min(len(password) for password in passwords) >= 20
    places = {
        "operator log": installation.operator_logs(),
        **{f"log of {pod}": kube.logs(cart.namespace, pod) for pod in cart.uids()},
        **{
            kind: json.dumps(kube.list(kind, cart.namespace))
            for kind in ("CacheCluster", "Event", "Pod", "StatefulSet", "ConfigMap", "Service", "ControllerRevision")
        },
        "events of the operator": json.dumps(kube.list("Event", "cachecluster-system")),
        "metrics": installation.metrics(),
    }
    leaks = [place for place, text in places.items() for password in passwords if password in text]
    assert not leaks, f"passwords appear in {leaks}"


def test_s12_passwords_are_in_no_command_line(cart: Cluster, faults: Faults) -> None:
    passwords = [b64decode(value).decode() for value in cart.secret("system")["data"].values()]
    for pod in cart.uids():
        lines = list(faults.processes(cart.namespace, pod))
        assert any("valkey-server" in line for line in lines), f"no engine among the processes of {pod}: {lines}"
        assert not [line for line in lines if any(password in line for password in passwords)]
