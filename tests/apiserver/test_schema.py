"""The API server and the models judge alike, within a listed gap; refusals say what to write instead."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from pydantic import ValidationError

from cachecluster.api import names
from cachecluster.api.root import MAX_NAME
from cachecluster.api.spec import CacheClusterSpec
from tests.apiserver.conftest import NAMESPACE, Clusters
from tests.unit.api.cases import CODE_ONLY, FULL, REFUSED, VALID, Refused
from tests.unit.api.strategies import changed_specs, valid_specs

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples").glob("*.yaml"))
many = settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def models_accept(spec: dict[str, Any]) -> bool:
    """Whether the models take the spec."""
    try:
        CacheClusterSpec.model_validate(spec)
    except ValidationError:
        return False
    return True


def only_code_refuses(spec: dict[str, Any]) -> bool:
    """The listed gap: relations between address blocks, which CEL cannot tell."""
    spec = copy.deepcopy(spec)
    peers = spec.get("network", {}).get("allowFrom", [])
    for peer in peers:
        if isinstance(peer, dict) and isinstance(peer.get("ipBlock"), dict):
            peer["ipBlock"].pop("except", None)
    return models_accept(spec)


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_wrong_spec_is_refused_with_its_field_and_what_to_write(clusters: Clusters, case: Refused) -> None:
    answer = clusters.create(case.spec)
    assert answer.code == 422, answer
    causes = [(field.replace("[hz]", ".hz"), message) for field, message in answer.causes]
    about = [(field, message) for field, message in causes if field.startswith(f"spec.{case.at}")]
    assert about, answer.causes
    assert any(case.message in message for _, message in about), about


@pytest.mark.parametrize("case", CODE_ONLY, ids=str)
def test_the_listed_gap_is_real(clusters: Clusters, case: Refused) -> None:
    assert clusters.create(case.spec, strict=False).accepted


@pytest.mark.parametrize("spec", [VALID, FULL], ids=["least", "full"])
def test_a_right_spec_is_stored_as_it_was_written(clusters: Clusters, spec: dict[str, Any]) -> None:
    answer = clusters.create(spec)
    assert answer.accepted, answer
    assert answer.body["spec"] == spec


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_accepted(clusters: Clusters, path: Path) -> None:
    [document] = [d for d in yaml.safe_load_all(path.read_text()) if d["kind"] == names.KIND]
    answer = clusters.create(document["spec"], document["metadata"]["name"])
    assert answer.accepted, answer


@many
@given(spec=valid_specs)
def test_what_the_models_accept_the_api_server_accepts(clusters: Clusters, spec: dict[str, Any]) -> None:
    assert models_accept(spec)
    answer = clusters.create(spec)
    assert answer.accepted, answer


@many
@given(spec=changed_specs())
def test_the_api_server_and_the_models_judge_alike(clusters: Clusters, spec: dict[str, Any]) -> None:
    answer = clusters.create(spec)
    by_models = models_accept(spec)
    if answer.accepted and not by_models:
        assert only_code_refuses(spec)
    else:
        assert answer.accepted == by_models, answer


def test_the_largest_spec_stays_within_the_cost_of_its_rules(clusters: Clusters) -> None:
    labels = {f"{'k' * 58}{i:04}": "v" * 63 for i in range(32)}
    requirements = [{"key": f"example.com/{'k' * 60}", "operator": "In", "values": ["v" * 63] * 16}] * 8
    selector = {"matchLabels": labels, "matchExpressions": requirements}
    spec = {
        **FULL,
        "placement": {"zones": [f"{'z' * 60}{i}" for i in range(32)], "nodeSelector": labels},
        "parameters": {f"{'p' * 58}{i:04}": "v" * 1024 for i in range(128)},
        "network": {"allowFrom": [{"namespaceSelector": selector, "podSelector": selector}] * 32},
        "pod": {"labels": labels, "annotations": dict.fromkeys(labels, "v" * 4096)},
    }
    answer = clusters.create(spec)
    assert answer.accepted, answer


@pytest.mark.parametrize("name", ["a", "cart-2", "a" * MAX_NAME])
def test_names_that_fit(clusters: Clusters, name: str) -> None:
    assert clusters.create(VALID, name).accepted


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a" * (MAX_NAME + 1), f"at most {MAX_NAME} characters"),
        ("a" * 253, f"at most {MAX_NAME} characters"),
        ("0", "must begin with a letter"),
        ("2cart", "must begin with a letter"),
        ("cart.shop", "must begin with a letter"),
        ("cart-nodes", "must not end in -nodes"),
    ],
)
def test_names_from_which_other_names_cannot_be_made_are_refused(clusters: Clusters, name: str, message: str) -> None:
    answer = clusters.create(VALID, name)
    assert answer.code == 422
    assert message in str(answer)


def test_explain_reads_well(clusters: Clusters) -> None:
    text = clusters.server.kubectl("explain", "cacheclusters.spec.topology")
    assert "Number of shards, each with one primary." in text
    assert "enum: Cluster" in text
    assert "shards\t<integer> -required-" in text
    assert "ClusterIP" not in text


def test_the_list_shows_the_columns(clusters: Clusters) -> None:
    assert clusters.create(VALID, "columns", dry_run=False).accepted
    header, row = clusters.server.kubectl("get", "cc", "columns", "-n", NAMESPACE).splitlines()
    assert header.split() == ["NAME", "ENGINE", "VERSION", "SHARDS", "REPLICAS", "READY", "STATUS", "AGE"]
    assert row.split()[:5] == ["columns", "Valkey", "8.1", "3", "1"]
    assert "columns" in clusters.server.kubectl("get", "all", "-n", NAMESPACE)
