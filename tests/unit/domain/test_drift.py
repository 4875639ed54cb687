"""Drift is judged on our own fields only."""

from typing import Any

from cachecluster.domain.drift import difference, stamped

WANTED: dict[str, Any] = {
    "kind": "Thing",
    "metadata": {"name": "x", "labels": {"a": "1"}},
    "spec": {"containers": [{"name": "engine", "image": "i", "args": ["a", "b"]}], "replicas": 2},
}


def live(**spec: Any) -> dict[str, Any]:
    stored = stamped(WANTED)
    return {**stored, "spec": {**stored["spec"], **spec}}


def test_what_we_applied_is_no_drift() -> None:
    assert difference(WANTED, live()) is None


def test_fields_of_others_are_theirs() -> None:
    injected = [*WANTED["spec"]["containers"], {"name": "sidecar", "image": "mesh"}]
    assert difference(WANTED, live(containers=injected, clusterIP="10.0.0.1")) is None


def test_a_changed_field_is_named() -> None:
    assert difference(WANTED, live(replicas=3)) == "spec.replicas"
    changed = [{"name": "engine", "image": "other", "args": ["a", "b"]}]
    assert difference(WANTED, live(containers=changed)) == "spec.containers[engine].image"


def test_lists_of_plain_values_must_be_equal() -> None:
    longer = [{"name": "engine", "image": "i", "args": ["a", "b", "c"]}]
    assert difference(WANTED, live(containers=longer)) == "spec.containers[engine].args"


def test_a_field_that_we_no_longer_send_is_noticed() -> None:
    less = {**WANTED, "spec": {"containers": WANTED["spec"]["containers"]}}
    assert difference(less, live()) == "fields that we no longer set"
