"""Metrics, logs and the endpoints that serve them."""

import json
import logging
from typing import Any

import aiohttp
import pytest

from cachecluster.observability.logging import JsonFormatter, RepeatFilter, TextFormatter, about
from cachecluster.observability.metrics import Metrics
from cachecluster.observability.server import check, serve


def samples(metrics: Metrics) -> set[str]:
    return set(metrics.render().decode().splitlines())


def record(message: str = "moved %s", *args: Any, name: str = "cachecluster.x", **extra: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": name, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message})
    made.args = args
    made.__dict__.update(extra)
    return made


def test_clusters_are_counted_by_the_state_of_each_condition() -> None:
    metrics = Metrics()
    metrics.cluster("a", {"Ready": "True", "Stalled": "False"})
    metrics.cluster("b", {"Ready": "False"})
    metrics.cluster("b", {"Ready": "True"})
    assert 'cachecluster_clusters{condition="Ready",status="True"} 2.0' in samples(metrics)
    assert 'cachecluster_clusters{condition="Ready",status="False"} 0.0' in samples(metrics)
    metrics.cluster_gone("a")
    assert 'cachecluster_clusters{condition="Ready",status="True"} 1.0' in samples(metrics)
    assert 'cachecluster_clusters{condition="Stalled",status="False"} 0.0' in samples(metrics)
    assert "cachecluster_managed_clusters 1.0" in samples(metrics)


def test_writes_are_counted_apart_from_reads() -> None:
    metrics = Metrics()
    metrics.requested("get", "Pod", "ok", 0.1)
    metrics.requested("apply", "Service", "Conflict", 0.1)
    lines = samples(metrics)
    assert 'cachecluster_api_requests_total{kind="Pod",outcome="ok",verb="get"} 1.0' in lines
    assert 'cachecluster_api_writes_total{kind="Service",outcome="Conflict",verb="apply"} 1.0' in lines
    assert not any("api_writes_total" in line and '"get"' in line for line in lines)


def test_failovers_are_counted_by_cause_and_timed_where_the_loss_was_seen() -> None:
    metrics = Metrics()
    metrics.failover("ProcessEnded", "Force", 0.04, 0.06)
    metrics.failover("ContainerTerminated", "Takeover", None, 0.06)
    lines = samples(metrics)
    assert 'cachecluster_failovers_total{cause="ProcessEnded",kind="Force"} 1.0' in lines
    assert 'cachecluster_failover_detection_seconds_bucket{le="0.05"} 1.0' in lines
    assert "cachecluster_failover_detection_seconds_count 1.0" in lines
    assert 'cachecluster_failover_promotion_seconds_bucket{le="0.075"} 2.0' in lines


def test_data_losses_are_counted_by_what_the_spec_says_of_them() -> None:
    metrics = Metrics()
    metrics.data_loss("WaitForApproval")
    assert 'cachecluster_data_losses_total{on_data_loss="WaitForApproval"} 1.0' in samples(metrics)


def test_two_operators_in_one_process_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.passed("ok", 0.1)
    assert 'cachecluster_passes_total{result="ok"} 1.0' in samples(one)
    assert 'cachecluster_passes_total{result="ok"} 1.0' not in samples(other)


def test_a_json_line_has_the_cluster_and_the_reason_as_fields() -> None:
    line = json.loads(JsonFormatter().format(record("moved %s", "cart-0", cluster="shop/cart", reason="Forming")))
    assert line["message"] == "moved cart-0"
    assert (line["cluster"], line["reason"], line["level"]) == ("shop/cart", "Forming", "warning")


def test_whatever_is_logged_about_a_cluster_carries_its_name() -> None:
    with about("shop/cart"):
        assert json.loads(JsonFormatter().format(record("x")))["cluster"] == "shop/cart"
    assert "cluster" not in json.loads(JsonFormatter().format(record("x")))


def test_a_text_line_reads_as_a_sentence() -> None:
    line = TextFormatter().format(record("moved", cluster="shop/cart", reason="Forming"))
    assert line.endswith("WARNING  shop/cart: moved (Forming)")


def test_a_librarys_retries_are_logged_once_a_minute() -> None:
    repeats = RepeatFilter()
    assert repeats.filter(record("attempt #1 failed", name="kopf.api"))
    assert not repeats.filter(record("attempt #2 failed", name="kopf.api"))
    assert repeats.filter(record("another thing", name="kopf.api"))
    assert RepeatFilter(seconds=0.0).filter(record("attempt #1 failed", name="kopf.api"))


def test_our_own_warnings_are_never_held_back() -> None:
    repeats = RepeatFilter()
    assert all(repeats.filter(record("same")) for _ in range(3))


@pytest.mark.parametrize(("ok", "status"), [(True, 200), (False, 503)])
async def test_a_page_answers_with_its_status(ok: bool, status: int) -> None:
    async with (
        serve(0, {"/readyz": lambda: check(ok, "why")}, host="127.0.0.1") as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/readyz") as response,
    ):
        assert response.status == status
        assert await response.text() == "why\n"
        assert response.headers["Connection"] == "close"
