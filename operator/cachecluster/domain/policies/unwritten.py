"""Volumes that take no writes are said, and logs that may have a gap since are written anew (docs/durability.md)."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import RewriteLog
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.unwritten import explanation, gaps_now, unwritten

LOOK_SECONDS: Final = 5.0
"""Nothing tells of the end of a rewrite."""


def explain_unwritten(now: Situation) -> Iterator[Verdict]:
    """A volume that takes nothing is a person's to mend."""
    for member in unwritten(now.snap, now.topology):
        yield Block(Reason.VOLUME_NOT_WRITABLE, explanation(member, now.spec))


def close_log_gaps(now: Situation) -> Iterator[Verdict]:
    """A log that may have a gap is rewritten before a restart has to read it. What does not work is not tried again."""
    for member, node, gap in gaps_now(now.snap, now.topology):
        name = member.pod.name
        if node.rewrites.running:
            yield Wait(Reason.REWRITING_LOG, f"{name} rewrites its log, which may have a gap", LOOK_SECONDS)
        elif node.rewrites.begun > gap.rewrites:
            message = (
                f"{name} could not rewrite its log, which may have a gap since a write did not fit into its volume: "
                "raise persistence.size, then delete the pod while its shard has another copy"
            )
            yield Block(Reason.VOLUME_NOT_WRITABLE, message)
        else:
            message = f"{name} is to rewrite its log, which may have a gap since a write did not fit into its volume"
            yield Do(RewriteLog(member.target), Reason.REWRITING_LOG, message)


POLICIES: Final = (explain_unwritten, close_log_gaps)
