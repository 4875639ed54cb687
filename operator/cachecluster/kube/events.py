"""Kubernetes Events about clusters: the same news is one Event with a count, also across restarts of the operator."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.kube.api import Conflict, KubeApi, KubeError, NotFound

REPEAT_SECONDS: Final = 600.0
"""A repeated Event is brought up to date at most this often."""
REMEMBERED: Final = 4096
"""Events whose last posting is remembered; a forgotten one only costs a request more."""
_MESSAGE_LIMIT: Final = 1024
"""Longest message that the API server accepts (k8s.io/kubernetes/pkg/apis/core/validation/events.go)."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Posted:
    at: float
    unposted: int = 0


class KubeEventRecorder:
    """Implements EventRecorder. Failures are logged and never reach the caller."""

    def __init__(self, kube: KubeApi, *, instance: str, now: Callable[[], float]) -> None:
        """``instance`` names this process in the Events; ``now`` is in Unix seconds."""
        self._kube = kube
        self._instance = instance
        self._now = now
        self._posted: OrderedDict[str, _Posted] = OrderedDict()

    async def record(self, ref: ClusterRef, type_: Literal["Normal", "Warning"], reason: Reason, message: str) -> None:
        """Post it, or count it if it was posted lately."""
        name = _name(ref, reason, message)
        known = self._posted.get(name)
        if known is not None and self._now() < known.at + REPEAT_SECONDS:
            known.unposted += 1
            return
        now = datetime.fromtimestamp(self._now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        event = {
            **_about(ref, name),
            "type": type_,
            "reason": reason.value,
            "message": message[:_MESSAGE_LIMIT],
            "count": 1 + (known.unposted if known else 0),
            "firstTimestamp": now,
            "lastTimestamp": now,
            "source": {"component": names.FIELD_MANAGER},
            "reportingComponent": names.FIELD_MANAGER,
            "reportingInstance": self._instance,
        }
        try:
            await self._post(event)
        except KubeError as error:
            log.warning("could not post an Event: %s", error, extra={"cluster": str(ref)})
            return
        self._posted[name] = _Posted(self._now())
        self._posted.move_to_end(name)
        while len(self._posted) > REMEMBERED:
            self._posted.popitem(last=False)

    async def _post(self, event: Mapping[str, Any]) -> None:
        """Create it; one of before is brought up to date, unless that was done lately (by our predecessor)."""
        namespace, name = event["metadata"]["namespace"], event["metadata"]["name"]
        try:
            await self._kube.create(event)
        except Conflict:
            try:
                old = await self._kube.get("v1", "Event", namespace, name)
                if self._now() >= _seconds(old.get("lastTimestamp")) + REPEAT_SECONDS:
                    patch = {
                        "count": int(old.get("count") or 0) + event["count"],
                        "lastTimestamp": event["lastTimestamp"],
                    }
                    await self._kube.merge_patch("v1", "Event", namespace, name, patch)
            except NotFound:
                return  # It has just expired; the next repeat creates it anew.


def _about(ref: ClusterRef, name: str) -> dict[str, Any]:
    involved = {
        "apiVersion": names.API_VERSION,
        "kind": names.KIND,
        "namespace": ref.namespace,
        "name": ref.name,
        "uid": ref.uid,
    }
    metadata = {"namespace": ref.namespace, "name": name}
    return {"apiVersion": "v1", "kind": "Event", "metadata": metadata, "involvedObject": involved}


def _name(ref: ClusterRef, reason: Reason, message: str) -> str:
    digest = hashlib.sha256(f"{ref.uid}\0{reason.value}\0{message}".encode()).hexdigest()
    return f"{ref.name}.{digest[:16]}"


def _seconds(timestamp: Any) -> float:
    """Unix seconds of a Kubernetes time; 0 for none, so that it counts as long ago."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return 0.0
