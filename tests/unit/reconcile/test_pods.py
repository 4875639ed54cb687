"""What decisions need of a pod: whether it is a member, and what its kubelet says of its resources."""

from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.domain.snapshot import Resize, ResizeState
from cachecluster.reconcile.pods import parse_pod

MIB = 2**20


def body(
    asked: str = "1Gi",
    actual: str | None = "1Gi",
    *,
    conditions: tuple[dict[str, Any], ...] = (),
    owner: str | None = "StatefulSet",
    generation: int = 2,
    observed: int | None = 2,
    labelled: bool = True,
) -> dict[str, Any]:
    """A pod as the API server holds it."""
    labels = {names.LABEL_SHARD: "0", names.LABEL_REVISION: "r"}
    if labelled:
        labels[names.LABEL_POD_NAME] = "cart-0-1"
    status: dict[str, Any] = {"phase": "Running", "conditions": list(conditions)}
    running = {"name": names.CONTAINER, "state": {"running": {}}, "restartCount": 0}
    status["containerStatuses"] = [running | ({"resources": {"limits": {"memory": actual}}} if actual else {})]
    if observed is not None:
        status["observedGeneration"] = observed
    return {
        "metadata": {
            "name": "cart-0-1",
            "uid": "u",
            "generation": generation,
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": labels,
            "ownerReferences": [{"kind": owner, "controller": True}] if owner else [],
        },
        "spec": {
            "containers": [{"name": names.CONTAINER, "resources": {"limits": {"memory": asked}}}],
            "terminationGracePeriodSeconds": 31,
        },
        "status": status,
    }


def said(kind: str, reason: str, observed: int | None = 2) -> dict[str, Any]:
    """A condition of a resize."""
    found = {"type": kind, "status": "True", "reason": reason, "message": "words"}
    return found if observed is None else {**found, "observedGeneration": observed}


@pytest.mark.parametrize(
    ("pod", "resize"),
    [
        (body(), None),
        (body(actual=None, observed=None), None),
        (body(asked="1024Mi"), None),
        (body(actual="512Mi"), Resize(ResizeState.UNDER_WAY, "")),
        (body(generation=3), Resize(ResizeState.UNDER_WAY, "")),
        (body(conditions=(said("PodResizePending", "Deferred"),)), Resize(ResizeState.DEFERRED, "words")),
        (body(conditions=(said("PodResizePending", "Infeasible", None),)), Resize(ResizeState.INFEASIBLE, "words")),
        (body(conditions=(said("PodResizeInProgress", "Error"),)), Resize(ResizeState.FAILED, "words")),
        (body(conditions=(said("PodResizeInProgress", ""),)), Resize(ResizeState.UNDER_WAY, "words")),
        (body(conditions=(said("PodResizePending", "Infeasible", 1),)), Resize(ResizeState.UNDER_WAY, "")),
        (body(conditions=({"type": "PodResizePending", "status": "False"},)), None),
    ],
)
def test_how_far_a_resize_is(pod: dict[str, Any], resize: Resize | None) -> None:
    parsed = parse_pod(pod)
    assert parsed is not None
    assert parsed.resize == resize


def test_the_limit_in_force_and_the_one_that_is_asked_for() -> None:
    parsed = parse_pod(body(actual="512Mi"))
    assert parsed is not None
    assert (parsed.memory_limit, parsed.memory_asked) == (512 * MIB, 1024 * MIB)
    assert parsed.shape is not None
    assert parsed.shape.grace == 31
    unsaid = parse_pod(body(actual=None))  # before Kubernetes 1.33
    assert unsaid is not None
    assert unsaid.memory_limit == 1024 * MIB


@pytest.mark.parametrize(
    ("pod", "member"),
    [
        (body(), True),
        (body(owner=None), True),
        (body(owner=None, labelled=False), False),
        (body(owner="Job"), False),
    ],
    ids=["of a StatefulSet", "between two StatefulSets", "made by hand", "of another controller"],
)
def test_who_is_a_member(pod: dict[str, Any], member: bool) -> None:
    assert (parse_pod(pod) is not None) is member


@pytest.mark.parametrize(
    ("volume", "has_volume"), [({"persistentVolumeClaim": {"claimName": "data"}}, True), ({"emptyDir": {}}, False)]
)
def test_whether_a_second_pod_could_write_on_its_volume(volume: dict[str, Any], has_volume: bool) -> None:
    pod = body()
    pod["spec"]["volumes"] = [{"name": "config", "configMap": {"name": "c"}}, {"name": names.DATA_VOLUME, **volume}]
    parsed = parse_pod(pod)
    assert parsed is not None
    assert parsed.has_volume is has_volume


@pytest.mark.parametrize(
    ("reason", "ended_at"), [("Error", 1767225600.0), ("Unknown", None), ("ContainerStatusUnknown", None)]
)
def test_when_the_previous_run_ended_if_the_kubelet_saw_it(reason: str, ended_at: float | None) -> None:
    pod = body()
    ended = {"exitCode": 255, "reason": reason, "finishedAt": "2026-01-01T00:00:00Z"}
    pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}
    found = parse_pod(pod)
    assert found is not None
    assert found.container is not None
    assert found.container.ended_at == ended_at
