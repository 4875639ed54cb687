"""What is kept of Kubernetes nodes, and which news matter."""

from typing import Any

import pytest

from cachecluster.reconcile.hosts import HostCache


def node(
    name: str = "n1", heartbeat: str = "10:00", ready: str = "True", since: str = "09:00", **spec: Any
) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "resourceVersion": heartbeat,
            "labels": {"topology.kubernetes.io/zone": "a"},
        },
        "spec": spec,
        "status": {
            "conditions": [
                {"type": "Ready", "status": ready, "lastHeartbeatTime": heartbeat, "lastTransitionTime": since}
            ],
            "images": [{"names": ["valkey/valkey:8.1"]}],
        },
    }


@pytest.fixture
def cache() -> HostCache:
    cache = HostCache()
    cache.observe(node())
    return cache


def test_a_node_is_kept_as_the_few_facts_that_count(cache: HostCache) -> None:
    host = cache.hosts()["n1"]
    assert host.labels == {"topology.kubernetes.io/zone": "a"}
    assert host.schedulable
    assert host.ready
    assert not host.out_of_service


def test_the_word_that_a_machine_is_off_is_kept(cache: HostCache) -> None:
    assert cache.observe(node(taints=[{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}]))
    assert cache.hosts()["n1"].out_of_service


def test_a_heartbeat_is_no_news(cache: HostCache) -> None:
    assert not cache.observe(node(heartbeat="10:05"))


@pytest.mark.parametrize(
    "changed",
    [
        node(unschedulable=True),
        node(ready="Unknown"),
        node(taints=[{"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute", "value": "x"}]),
        {**node(), "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "b"}}},
    ],
    ids=["cordoned", "silent", "out of service", "another zone"],
)
def test_what_a_cluster_could_act_upon_is_news(cache: HostCache, changed: dict[str, Any]) -> None:
    assert cache.observe(changed)
    assert not cache.observe(changed)


def test_a_cordoned_node_is_not_schedulable(cache: HostCache) -> None:
    cache.observe(node(unschedulable=True))
    assert not cache.hosts()["n1"].schedulable


def test_a_full_list_tells_what_the_watch_has_missed(cache: HostCache) -> None:
    cache.observe(node("n2"))
    cache.observe(node("n3"))
    assert cache.replace([node(heartbeat="11:00"), node("n2", unschedulable=True), node("n4")]) == {"n2", "n3", "n4"}
    assert set(cache.hosts()) == {"n1", "n2", "n4"}


def test_a_deleted_node_is_forgotten_once(cache: HostCache) -> None:
    assert cache.forget("n1")
    assert not cache.forget("n1")
    assert not cache.hosts()


def test_a_snapshot_of_the_cache_does_not_change(cache: HostCache) -> None:
    before = cache.hosts()
    cache.forget("n1")
    assert "n1" in before


class Silence:
    """A machine that stops to report, as it is seen at various times."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.set_forward = 0.0
        self.cache = HostCache(lambda: self.now + self.set_forward, lambda: self.now)

    def seen(self, at: float, since: str, *, ready: str = "Unknown", whole: bool = False) -> float | None:
        """Since when the machine is not ready, by our own clock."""
        self.now = at
        seen = node(heartbeat=str(at), ready=ready, since=since)
        self.cache.replace([seen]) if whole else self.cache.observe(seen)
        return self.cache.hosts()["n1"].not_ready_since


def test_a_machine_is_silent_since_we_have_seen_it_whatever_other_clocks_say() -> None:
    silence = Silence()
    assert silence.seen(1000, "1970-01-01T00:00:00Z", ready="True") is None
    assert silence.seen(1001, "1970-01-01T00:00:00Z") == 1001
    assert silence.seen(1060, "1970-01-01T00:00:00Z") == 1001
    assert silence.seen(1070, "1970-01-01T00:00:00Z", whole=True) == 1001
    assert silence.seen(1080, "2200-01-01T00:00:00Z", ready="True") is None
    assert silence.seen(1090, "2200-01-01T00:01:00Z") == 1090


def test_s1_a_machine_that_was_back_while_we_did_not_look_is_silent_anew() -> None:
    silence = Silence()
    assert silence.seen(1000, "10:00") == 1000
    assert silence.seen(1050, "10:40") == 1050


def test_how_long_a_machine_is_silent_is_no_news() -> None:
    silence = Silence()
    silence.seen(1000, "10:00")
    silence.now = 1050
    assert not silence.cache.observe(node(ready="Unknown", since="10:00"))


def test_a_machine_is_not_silent_for_longer_because_somebody_sets_our_clock() -> None:
    silence = Silence()
    assert silence.seen(1000, "10:00") == 1000
    silence.set_forward = 3600
    assert silence.seen(1050, "10:00") == 1000 + 3600
