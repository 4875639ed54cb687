"""What surrounds Kopf: its settings, and waiting until everything can be listed."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any, cast

import pytest

from cachecluster.api import names
from cachecluster.handlers import runtime
from cachecluster.handlers.state import Shared
from cachecluster.kube.api import KubeError, NotFound, Rejected, Unavailable
from cachecluster.kube.credentials import Credentials
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile.hosts import HostCache
from tests.dependencies import dependencies


class ScriptedLists:
    """Raises its errors one after the other, then lists."""

    def __init__(self, *errors: KubeError) -> None:
        self.errors = list(errors)
        self.asked: list[tuple[str, str | None]] = []

    async def list(self, _version: str, kind: str, namespace: str | None) -> Sequence[dict[str, Any]]:
        if self.errors:
            raise self.errors.pop(0)
        self.asked.append((kind, namespace))
        return [{"metadata": {"name": "n1"}}] if kind == "Node" else []


def shared(kube: ScriptedLists) -> Shared:
    hosts = HostCache()
    deps = dependencies(kube=kube, hosts=hosts.hosts)
    return Shared(deps, hosts, Metrics(), Credentials(), asyncio.Event())


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    async def left(shared: Shared, _seconds: float) -> bool:
        return shared.leaving.is_set()

    monkeypatch.setattr(runtime, "_left", left)


async def test_nodes_are_known_before_the_first_pass() -> None:
    parts = shared(ScriptedLists())
    assert await runtime._listed(parts, ("a", "b"))
    assert set(parts.hosts.hosts()) == {"n1"}
    assert cast("ScriptedLists", parts.deps.kube).asked == [
        ("Node", None),
        ("CacheCluster", "a"),
        ("CacheCluster", "b"),
    ]


async def test_all_namespaces_are_one_list() -> None:
    parts = shared(ScriptedLists())
    assert await runtime._listed(parts, ())
    assert ("CacheCluster", None) in cast("ScriptedLists", parts.deps.kube).asked


async def test_what_is_missing_is_waited_out_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    away, absent = Unavailable("connection refused"), NotFound("list CacheCluster: HTTP 404")
    assert await runtime._listed(shared(ScriptedLists(away, away, away, absent, absent, Rejected("forbidden"))), ())
    messages = [r.getMessage() for r in caplog.records]
    assert len(messages) == 3
    assert "connection refused" in messages[0]
    assert "is the CustomResourceDefinition installed?" in messages[1]
    assert "forbidden" in messages[2]


async def test_a_process_that_is_told_to_stop_does_not_wait_for_lists() -> None:
    parts = shared(ScriptedLists(*[Unavailable("away")] * 1000))
    parts.leaving.set()
    assert not await runtime._listed(parts, ())


def test_kopf_retries_without_end_and_never_waits_long() -> None:
    pauses = list(itertools.islice(iter(runtime._Retries()), 1000))
    assert len(pauses) == 1000
    assert max(pauses) < 10.0


def test_kopf_keeps_no_state_in_objects_and_watches_our_children_alone() -> None:
    settings = runtime.settings()
    assert settings.persistence.finalizer == names.FINALIZER
    assert not settings.posting.enabled
    assert settings.queueing.worker_limit is None
    assert set(settings.watching.label_selectors.values()) == {"app.kubernetes.io/managed-by=cachecluster-operator"}
