"""The operator's command line and its probes."""

import time

import pytest

from cachecluster.cli.operator import SILENCE_SECONDS, Health, parse


@pytest.fixture(autouse=True)
def pod(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAMESPACE", "cachecluster-system")
    monkeypatch.setenv("POD_NAME", "cachecluster-operator-7d9f-abcde")


def test_the_defaults_are_those_of_the_operators_pod() -> None:
    options = parse(["run"])
    assert options.namespaces == ()
    assert options.leader_elect
    assert (options.log_format, options.log_level) == ("json", "INFO")
    assert (options.health_port, options.metrics_port) == (8080, 9090)
    assert options.operator_namespace == "cachecluster-system"
    assert options.pod_name == "cachecluster-operator-7d9f-abcde"


def test_namespaces_may_be_repeated_and_count_once() -> None:
    assert parse(["run", "--namespace", "a", "--namespace", "b", "--namespace", "a"]).namespaces == ("a", "b")


def test_a_kube_context_can_be_named() -> None:
    credentials = parse(["run", "--kubeconfig", "/k", "--context", "kind"]).credentials
    assert (credentials.kubeconfig, credentials.context) == ("/k", "kind")
    assert not credentials.in_cluster


def test_without_its_own_namespace_it_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POD_NAMESPACE")
    with pytest.raises(SystemExit) as ended:
        parse(["run"])
    assert ended.value.code == 2
    assert "POD_NAMESPACE" in capsys.readouterr().err


def test_ready_is_who_leads_and_serves_or_stands_by() -> None:
    health = Health()
    assert health.alive().status == 200
    assert health.ready().status == 503
    health.standby = True
    assert health.ready().status == 200
    health.standby = False
    health.serving = True
    assert health.ready().status == 200


def test_a_silent_api_server_ends_readiness_but_not_life(monkeypatch: pytest.MonkeyPatch) -> None:
    health = Health()
    health.serving = True
    later = time.monotonic() + SILENCE_SECONDS + 1
    monkeypatch.setattr("cachecluster.cli.operator.time.monotonic", lambda: later)
    assert health.ready().status == 503
    assert health.alive().status == 200
    health.heard("get", "Lease", "Unavailable", 0.1)
    assert health.ready().status == 503
    health.heard("get", "Lease", "NotFound", 0.1)
    assert health.ready().status == 200
