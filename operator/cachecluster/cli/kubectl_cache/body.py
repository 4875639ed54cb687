"""What a CacheCluster says of itself, read from its JSON as it comes: an operator of another version may say more."""

from collections.abc import Mapping
from typing import Any


def annotations_of(body: Mapping[str, Any]) -> Mapping[str, str]:
    """Annotations of an object."""
    found: Mapping[str, str] = body["metadata"].get("annotations") or {}
    return found


def status_of(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """Status of a CacheCluster; empty before the operator has seen it."""
    found: Mapping[str, Any] = body.get("status") or {}
    return found


def condition_of(body: Mapping[str, Any], kind: str) -> str:
    """Status of a condition; Unknown if it has not been reported."""
    conditions = status_of(body).get("conditions") or ()
    return next((str(c["status"]) for c in conditions if c["type"] == kind), "Unknown")


def formed(body: Mapping[str, Any]) -> bool:
    """It has served slots: only then the operator reports where to connect."""
    return bool(status_of(body).get("endpoints"))


def up_to_date(body: Mapping[str, Any]) -> bool:
    """The status speaks of the latest spec."""
    return bool(status_of(body).get("observedGeneration") == body["metadata"].get("generation"))


def headline_of(body: Mapping[str, Any]) -> str:
    """The state in one line."""
    status = status_of(body)
    if not status:
        return "the operator has not reported on it yet"
    return f"{status.get('reason')}: {status.get('message')}"
