"""How a pass tells people what happened. The implementation that posts Events lives in observability."""

from typing import Literal, Protocol

from cachecluster.api.reasons import Reason
from cachecluster.domain.snapshot import ClusterRef

EventType = Literal["Normal", "Warning"]


class EventRecorder(Protocol):
    """Posts Events about a CacheCluster; repeats are merged, failures never reach the caller."""

    async def record(self, ref: ClusterRef, type_: EventType, reason: Reason, message: str) -> None:
        """Record that ``message`` happened."""
        ...
