"""The little that the operator keeps of each Kubernetes node, and whether news about one matter to anybody."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cachecluster.api import names
from cachecluster.domain.snapshot import Host


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a cluster could act upon. A kubelet's heartbeat changes none of it."""

    host: Host
    taints: frozenset[tuple[str, str]]


class HostCache:
    """Kubernetes nodes by name, as projections of what the watch delivers."""

    def __init__(self) -> None:
        """Empty; ``replace`` fills it."""
        self._facts: dict[str, _Facts] = {}

    def hosts(self) -> Mapping[str, Host]:
        """As of now; a copy."""
        return {name: facts.host for name, facts in self._facts.items()}

    def observe(self, node: Mapping[str, Any]) -> bool:
        """Take in one node; says whether anything changed that matters."""
        facts = _facts(node)
        changed = self._facts.get(facts.host.name) != facts
        self._facts[facts.host.name] = facts
        return changed

    def forget(self, name: str) -> bool:
        """The node was deleted; says whether it was known."""
        return self._facts.pop(name, None) is not None

    def replace(self, nodes: Iterable[Mapping[str, Any]]) -> frozenset[str]:
        """Take in a full list, which also shows deletions that the watch has missed; returns the changed names."""
        fresh = {facts.host.name: facts for facts in map(_facts, nodes)}
        old, self._facts = self._facts, fresh
        return frozenset(n for n in old.keys() | fresh.keys() if old.get(n) != fresh.get(n))


def _facts(node: Mapping[str, Any]) -> _Facts:
    metadata, spec, status = node["metadata"], node.get("spec") or {}, node.get("status") or {}
    conditions = status.get("conditions") or ()
    host = Host(
        name=metadata["name"],
        labels=dict(metadata.get("labels") or {}),
        schedulable=not spec.get("unschedulable", False),
        ready=any(c["type"] == "Ready" and c["status"] == "True" for c in conditions),
        out_of_service=is_out_of_service(node),
    )
    return _Facts(host, frozenset((t["key"], t["effect"]) for t in spec.get("taints") or ()))


def is_out_of_service(node: Mapping[str, Any]) -> bool:
    """Whether a Kubernetes node is tainted so: whoever does that has made sure that its machine is off."""
    return any(t["key"] == names.TAINT_OUT_OF_SERVICE for t in node.get("spec", {}).get("taints") or ())
