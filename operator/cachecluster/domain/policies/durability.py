"""Shards that refuse writes for want of a replica: said plainly, for clients see errors."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.durability import DurabilityMode
from cachecluster.api.reasons import Reason
from cachecluster.domain import fence
from cachecluster.domain.plan import Block, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.refused_writes import is_passing, refusal, refusing


def explain_refused_writes(now: Situation) -> Iterator[Verdict]:
    """Whatever brings the replicas back is done by other policies; nothing is ever written in their place."""
    if not now.topology.ever_formed:
        return
    for shard in refusing(now.topology):
        replaced = shard.primary is not None and fence.may_be_replaced(shard, shard.primary)
        if now.spec.durability_mode is DurabilityMode.DEFAULT and not replaced:
            continue  # it is told to do without
        if is_passing(shard):
            yield Wait(Reason.WRITES_REFUSED, refusal(shard, now.spec), 0.5)
        else:
            yield Block(Reason.WRITES_REFUSED, refusal(shard, now.spec))


POLICIES: Final = (explain_refused_writes,)
