"""A primary that is gone: how that is known, and when a replica has taken in all that came of it."""

from dataclasses import dataclass
from typing import Final

from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.api.reasons import FailoverCause
from cachecluster.domain.nodes import Ending, LostConnection, NodeId, ReplicaLink

SILENT_SECONDS: Final = 2.5
"""After so long without a sign of life from the other machine, the operator's connection to it has timed out."""
QUIET_SECONDS: Final = 2
"""For so long a replica has not heard of a primary whose machine has fallen silent."""
EXPIRY_SECONDS: Final = MAX_LAG_SECONDS + 4
"""So long after a replica has last heard of its primary, that has refused writes for want of a report: two seconds
after the lag that it allows. One more, for the last report may be a second younger than the last ping; and one, for the
replica tells whole seconds.
"""
APART_SECONDS: Final = 2
"""A replica's link ended with the process although it seems to have ended this much before our connection: it tells
whole seconds.
"""
READING_SECONDS: Final = 5
"""So much longer a replica may be busy with what has come before it sees the end."""


@dataclass(frozen=True, slots=True)
class Lost:
    """A primary that is gone (S10)."""

    node_id: NodeId
    cause: FailoverCause
    why: str
    """For people."""
    pod: str | None = None
    """Where it ran, if that is known."""
    address: str | None = None
    """Whoever answers there as this node shows that it lives. None: nobody can, or it answers and serves nobody."""
    connection: LostConnection | None = None
    """The operator's, where its end is a part of how the loss is known."""
    unheard: bool = False
    """Nobody was told of its end: links may seem to be up still."""
    proven: bool = True
    """Its process has ended. False: its machine has fallen silent, and may go on unheard; that takes the consent of the
    other primaries, without whom it stops by itself.
    """
    fence: str = ""
    """What is written down of its fence on its pod, if that is the proof."""
    host: str | None = None
    """The Kubernetes node that is gone or out of service, if that is the proof."""

    @property
    def since(self) -> float | None:
        """Its last sign of life, by the clock of the failure detector; None where the operator was not connected."""
        if self.connection is None:
            return None
        return self.connection.at - (SILENT_SECONDS if self.connection.ending is Ending.TIMED_OUT else 0.0)

    def is_over(self, link: ReplicaLink) -> bool:
        """The replica has taken in all that came of the primary. One whose link ended before the process is stale."""
        if self.fence:
            return has_expired(link)
        if self.unheard:
            return has_fallen_silent(link)
        return not link.up and (self.connection is None or ended_together(link, self.connection))


def quiet_seconds(link: ReplicaLink) -> int:
    """Since when the replica has not heard of its primary, which speaks every second (repl-ping-replica-period)."""
    return (link.last_io_seconds if link.up else link.down_seconds) or 0


def has_fallen_silent(link: ReplicaLink) -> bool:
    """The replica hears nothing of its primary."""
    return quiet_seconds(link) >= QUIET_SECONDS


def has_expired(link: ReplicaLink) -> bool:
    """Its primary, if it asks for this replica, has stopped accepting writes."""
    return link.ever_synced and quiet_seconds(link) >= EXPIRY_SECONDS


def ended_together(link: ReplicaLink, lost: LostConnection) -> bool:
    """One end of the process explains both."""
    if link.up or link.down_seconds is None or link.down_seconds < 0:
        return False
    return -READING_SECONDS <= link.down_seconds - lost.seconds <= APART_SECONDS
