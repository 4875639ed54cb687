"""A primary that is gone: how that is known, and when a replica has taken in all that came of it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.api.reasons import FailoverCause
from cachecluster.domain.nodes import Ending, LostConnection, NodeId, NodeView, ReplicaLink

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
LATE_PONG_SECONDS: Final = 5
"""A replica that was in step to the end has heard of the primary at most so much later over the bus than over its link:
gossip may give it the others' pongs until it has asked itself, every two and a half seconds; and whole seconds.
"""
GIVEN_UP_SECONDS: Final = 60
"""After so long without a sign of life a node gives up a link that seems to be up still (repl-timeout)."""
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
    """The operator's, where its end is known to be that of the process, or of its machine."""
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

    def is_over(self, view: NodeView) -> bool:
        """Nothing more comes to the replica: it has taken in all that it gets of the primary."""
        if view.link is None:
            return False
        if self.fence:
            return has_expired(view.link)
        return has_fallen_silent(view.link) if self.unheard else not view.link.up

    def left_in_step(self, view: NodeView) -> bool:
        """It is over, and the replica has all. One whose link ended before the process lacks what came then."""
        if view.link is None or not self.is_over(view):
            return False
        if self.fence:  # without a replica in step it has accepted nothing
            return True
        if self.connection is None or self.connection.ending is Ending.TIMED_OUT:
            return heard_to_the_end(view, self.node_id)
        if self.cause is FailoverCause.PROCESS_ENDED:
            return ended_together(view.link, self.connection)
        return quiet_seconds(view.link) <= self.connection.seconds + APART_SECONDS


def quiet_seconds(link: ReplicaLink) -> int:
    """Since when the replica has not heard of its primary, which speaks every second (repl-ping-replica-period)."""
    return (link.last_io_seconds if link.up else link.down_seconds) or 0


def has_fallen_silent(link: ReplicaLink) -> bool:
    """The replica hears nothing of its primary."""
    return quiet_seconds(link) >= QUIET_SECONDS


def has_expired(link: ReplicaLink) -> bool:
    """Its primary, if it asks for this replica, has stopped accepting writes."""
    return link.ever_synced and quiet_seconds(link) >= EXPIRY_SECONDS


def heard_to_the_end(view: NodeView, primary: NodeId) -> bool:
    """Its link to the primary did not end long before that did: it has not heard of it over the bus since."""
    row = view.peer(primary)
    if view.link is None or row is None:
        return False
    return row.pong_age is None or quiet_seconds(view.link) <= row.pong_age + LATE_PONG_SECONDS


def newest(replicas: Iterable[NodeView]) -> list[NodeView]:
    """Of replicas of one primary that have been in step with it: those of which no other shows that they have less."""
    copies = [
        (v, v.link) for v in replicas if v.link is not None and v.link.ever_synced and not v.link.sync_in_progress
    ]
    return [v for v, link in copies if not any(_has_more(other, than=v, links=(of, link)) for other, of in copies)]


def _has_more(view: NodeView, than: NodeView, links: tuple[ReplicaLink, ReplicaLink]) -> bool:
    """Within one history the offset tells; links that ended together may have got some more bytes or less. A history is
    older than the one that continues it. Of others that is older whose link ended so long before that it cannot merely
    have been given up sooner.
    """
    later, sooner = (quiet_seconds(link) for link in links)
    if view.replication_id == than.replication_id:
        return view.offset > than.offset and abs(later - sooner) > APART_SECONDS
    if than.replication_id == view.previous_replication_id:
        return True
    return view.replication_id != than.previous_replication_id and later + GIVEN_UP_SECONDS < sooner


def ended_together(link: ReplicaLink, lost: LostConnection) -> bool:
    """One end of the process explains both."""
    if link.up or link.down_seconds is None or link.down_seconds < 0:
        return False
    return -READING_SECONDS <= link.down_seconds - lost.seconds <= APART_SECONDS
