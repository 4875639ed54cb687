"""What shows that a process hangs, and that another node has all that it had (S1, S3, S10)."""

from typing import Final

from cachecluster.domain.nodes import NodeId, NodeView, Peer, ReplicaLink, Role

HUNG_SECONDS: Final = 10
"""For so long has a process answered nobody (2 x node timeout). A script that runs for longer answers that it is busy,
and a node that loads its data answers as well.
"""


def misses(row: Peer) -> bool:
    """A node has waited for the other one's pong for so long. One that has never had a pong knows nothing."""
    return row.suspected and row.pong_age is not None and row.pong_age >= HUNG_SECONDS


def hears(row: Peer) -> bool:
    """A node has had a pong from the other one meanwhile, or has heard from others that they had."""
    return row.pong_age is not None and row.pong_age < HUNG_SECONDS


def can_do_without(keeper: NodeView, hung: NodeId) -> bool:
    """The node has all that came of a hung one, and misses it, too: it leads, or followed that to its end."""
    row = keeper.peer(hung)
    if row is None or row.pong_age is None or not misses(row):
        return False
    if keeper.role is Role.PRIMARY:
        return keeper.leads and bool(keeper.myself.slots)
    return keeper.myself.primary_id == hung and keeper.link is not None and _to_the_end(keeper.link, row.pong_age)


def _to_the_end(link: ReplicaLink, silence: float) -> bool:
    """The link is as silent as the process, or was given up only long after that had fallen silent. Who has lost a link
    before has older data.
    """
    if link.sync_in_progress:
        return False
    if link.up:
        return (link.last_io_seconds or 0) >= HUNG_SECONDS
    return link.down_seconds is not None and 0 <= link.down_seconds <= silence - HUNG_SECONDS
