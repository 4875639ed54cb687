"""A failover that somebody asks for: carried out once, and only while it costs nothing (design §5, "Switch over")."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import SwitchOver
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.pods import best_successor, is_schedulable
from cachecluster.domain.policies.rollout import is_going
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.requests import open_failover, pod_in, shard_in
from cachecluster.domain.topology import Shard, weakness

_SHOWN: Final = 80
"""Characters of a request that a message repeats."""


def fail_over_on_request(now: Situation) -> Iterator[Verdict]:
    """The named pod hands its role to a replica in step; if another pod leads already, there is nothing to do."""
    request = open_failover(now.snap.annotations, now.snap.status)
    if request is None:
        return
    shard = shard_in(request, now.snap, now.topology)
    if shard is None:
        message = (
            f'annotation {names.ANNOTATION_FAILOVER} is "{request[:_SHOWN]}", which names no pod of this cluster. '
            f"Write the primary's pod, such as {names.pod_name(now.snap.ref.name, 0, 0)}, or remove the annotation"
        )
        yield Block(Reason.INVALID_REQUEST, message)
    elif shard.expected == 1:
        message = (
            f"shard {shard.index} has no replica that could take over from {pod_in(request)}. Remove the annotation "
            f"{names.ANNOTATION_FAILOVER}"
        )
        yield Block(Reason.INVALID_REQUEST, message)
    elif shard.primary is None or shard.primary.pod.name == pod_in(request):
        yield _hand_over(now, shard, pod_in(request))


def _hand_over(now: Situation, shard: Shard, pod: str) -> Verdict:
    """Never in a shard that lacks a copy: the switch itself is safe, but what the shard needs then is calm."""
    if shard.primary is None or not shard.healthy:
        message = f"shard {shard.index}: the requested failover away from {pod} waits: {weakness(shard)}"
        return Wait(Reason.FAILOVER_REQUESTED, message, 1.0)
    staying = [m for m in shard.replicas if is_schedulable(now, m) and not is_going(now, shard, m)]
    heir = best_successor(shard, staying)
    if heir is None:
        message = (
            f"shard {shard.index}: the requested failover away from {pod} waits: each replica's Kubernetes node is "
            "cordoned, or its pod is about to be replaced"
        )
        return Wait(Reason.FAILOVER_REQUESTED, message, 1.0)
    message = f"shard {shard.index}: {heir.pod.name} takes over from {pod}, as requested"
    return Do(SwitchOver(shard.index, shard.primary.target, heir.target), Reason.FAILOVER_REQUESTED, message)


POLICIES: Final = (fail_over_on_request,)
