"""The little that the operator keeps of each Kubernetes node, and whether news about one matter to anybody."""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cachecluster.api import names
from cachecluster.domain.snapshot import Host, Taint


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a cluster could act upon. A kubelet's heartbeat changes none of it."""

    host: Host
    transition: str
    """When the node has become ready or not, by the clock of who wrote it down: it tells one time from another."""
    away_since: float | None = None
    """When we have first seen that it is not ready, this time, by the clock that nobody sets."""


class HostCache:
    """Kubernetes nodes by name, as projections of what the watch delivers."""

    def __init__(self, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        """Empty; ``replace`` fills it. ``now``: Unix seconds, by the same clock as the snapshots'. ``clock``: one that
        nobody sets, in seconds: a grace must not be over because somebody has put the other one right.
        """
        self._now, self._clock = now, clock
        self._facts: dict[str, _Facts] = {}

    def hosts(self) -> Mapping[str, Host]:
        """As of now; a copy."""
        zero = self._now() - self._clock()
        return {
            name: f.host if f.away_since is None else replace(f.host, not_ready_since=zero + f.away_since)
            for name, f in self._facts.items()
        }

    def observe(self, node: Mapping[str, Any]) -> bool:
        """Take in one node; says whether anything changed that matters."""
        facts = self._dated(_facts(node))
        changed = self._facts.get(facts.host.name) != facts
        self._facts[facts.host.name] = facts
        return changed

    def _dated(self, facts: _Facts) -> _Facts:
        """With the time at which we have first seen that it is not ready, this time: clocks of other machines may be
        wrong, and who has just started has seen nothing yet.
        """
        if facts.host.ready:
            return facts
        known = self._facts.get(facts.host.name)
        same = known is not None and known.transition == facts.transition
        since = known.away_since if known is not None and same else None
        return replace(facts, away_since=self._clock() if since is None else since)

    def forget(self, name: str) -> bool:
        """The node was deleted; says whether it was known."""
        return self._facts.pop(name, None) is not None

    def replace(self, nodes: Iterable[Mapping[str, Any]]) -> frozenset[str]:
        """Take in a full list, which also shows deletions that the watch has missed; returns the changed names."""
        fresh = {facts.host.name: facts for facts in (self._dated(_facts(n)) for n in nodes)}
        old, self._facts = self._facts, fresh
        return frozenset(n for n in old.keys() | fresh.keys() if old.get(n) != fresh.get(n))


def _facts(node: Mapping[str, Any]) -> _Facts:
    metadata, spec = node["metadata"], node.get("spec") or {}
    ready = _ready_condition(node)
    host = Host(
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        schedulable=not spec.get("unschedulable", False),
        ready=is_ready(node),
        out_of_service=is_out_of_service(node),
        taints=frozenset(Taint(t["key"], t.get("value") or "", t["effect"]) for t in spec.get("taints") or ()),
    )
    return _Facts(host, ready.get("lastTransitionTime") or "")


def _ready_condition(node: Mapping[str, Any]) -> Mapping[str, Any]:
    conditions = (node.get("status") or {}).get("conditions") or ()
    return next((c for c in conditions if c["type"] == "Ready"), {})


def is_ready(node: Mapping[str, Any]) -> bool:
    """Whether the kubelet of a Kubernetes node reports, and is well."""
    return bool(_ready_condition(node).get("status") == "True")


def is_out_of_service(node: Mapping[str, Any]) -> bool:
    """Whether a Kubernetes node is tainted so: whoever does that has made sure that its machine is off."""
    return any(t["key"] == names.TAINT_OUT_OF_SERVICE for t in node.get("spec", {}).get("taints") or ())
