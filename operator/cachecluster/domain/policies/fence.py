"""When primaries ask for a replica before they accept a write, so that they stop by themselves (S10 d, ADR 0021), and
when they must not: nothing that is planned, and no replica that is lost, keeps clients from writing.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from cachecluster.api.durability import DurabilityMode
from cachecluster.api.reasons import Reason
from cachecluster.domain import fence
from cachecluster.domain.actions import (
    Configure,
    LowerFence,
    Promote,
    RaiseFence,
    RemoveReplicas,
    RollPod,
    SwitchOver,
)
from cachecluster.domain.listing import listed
from cachecluster.domain.plan import Do, Verdict, Wait
from cachecluster.domain.policies.pods import is_schedulable
from cachecluster.domain.policies.rollout import is_going
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.snapshot import InvalidSpec
from cachecluster.domain.topology import Member, Shard

REPORT_SECONDS: Final = 1.0
"""A replica reports once a second (Valkey, replicationCron: REPLCONF ACK)."""


def write_without_replicas(now: Situation) -> Iterator[Verdict]:
    """A primary that the operator reaches, and no replica, goes on alone. It can be reached: so nobody is promoted in
    its place. Whoever asked for ``AtLeastOneReplica`` has it otherwise.
    """
    for shard in now.topology.shards:
        primary = shard.primary
        if primary is None or primary.node is None or not primary.usable or fence.is_lowered(primary.node):
            continue
        if fence.may_be_replaced(shard, primary):
            continue
        late = not fence.is_heard(primary.node, fence.LATE_SECONDS - 1)
        if _mode(now, primary) is DurabilityMode.DEFAULT and (late or primary.node.refuses_writes):
            message = f"no replica reports to {primary.pod.name} any more: it accepts writes without one"
            yield Do(LowerFence(primary.target, fence.LOWERED, primary.pod.fence), Reason.FENCING, message)


def await_reports(now: Situation) -> Iterator[Verdict]:
    """A replica in step reports within a second, and no event tells of it: until then the fence cannot be raised."""
    if isinstance(now.snap.spec, InvalidSpec) or not fence.matters(now.topology):
        return
    for shard in now.topology.shards:
        primary = shard.primary
        if primary is None or primary.node is None or not primary.usable or primary.node.quarantined:
            continue
        if fence.may_be_replaced(shard, primary) or fence.is_raised(primary.node) or fence.is_heard(primary.node):
            continue
        if _lasting(now, shard):
            message = f"{primary.pod.name} asks for a replica as soon as one reports to it"
            yield Wait(Reason.FENCING, message, REPORT_SECONDS)


def _mode(now: Situation, primary: Member) -> DurabilityMode | None:
    """As the spec has it, or while that is invalid, as it was when the fence was raised."""
    if not isinstance(now.snap.spec, InvalidSpec):
        return now.snap.spec.durability_mode
    record = fence.Record.parse(primary.pod.fence)
    return record.mode if record is not None else None


def fenced(now: Situation, steps: Sequence[Do]) -> tuple[Do, ...]:
    """The steps of a plan with what the fences need: lowered before a role or the last replica goes, raised where
    nothing of the kind is at hand.
    """
    first = next((i for i, step in enumerate(steps) if step.action.disruptive), len(steps))
    quiet, rest = steps[:first], steps[first:]
    if any(isinstance(step.action, Promote) for step in rest):
        return tuple(steps)
    lowered = [do for step in rest for do in _lowered_for(now, step)]
    aside = {do.action.node.pod for do in (*quiet, *lowered) if isinstance(do.action, LowerFence)}
    busy = {s.index for step in rest if (s := _unsettled(now, step)) is not None}
    settled = [do for do in (*_patience(now), *_settle(now, busy)) if _pod(do) not in aside]
    return (*quiet, *settled, *lowered, *rest)


def _pod(do: Do) -> str | None:
    return do.action.node.pod if isinstance(do.action, RaiseFence | LowerFence) else None


def _unsettled(now: Situation, step: Do) -> Shard | None:
    """The shard whose primary may lose its role, or its replica, by the step."""
    match step.action:
        case SwitchOver(shard=index) | RollPod(shard=index) | RemoveReplicas(shard=index):
            return next((s for s in now.topology.shards if s.index == index), None)
    return None


def _lowered_for(now: Situation, step: Do) -> Iterator[Do]:
    shard = _unsettled(now, step)
    if shard is None or shard.primary is None or shard.primary.node is None:
        return
    primary, default = shard.primary, now.spec.durability_mode is DurabilityMode.DEFAULT
    if not default or fence.is_lowered(shard.primary.node) or not primary.usable:
        return
    if fence.may_be_replaced(shard, primary):
        return
    staying = [m for m in _lasting(now, shard) if not _goes_with(step, m)]
    if not staying or isinstance(step.action, SwitchOver):
        message = f"{primary.pod.name} accepts writes without a replica while its shard changes"
        yield Do(LowerFence(primary.target, fence.LOWERED, primary.pod.fence), Reason.FENCING, message)


def _goes_with(step: Do, member: Member) -> bool:
    match step.action:
        case RollPod(ordinal=ordinal):
            return member.pod.ordinal == ordinal
        case RemoveReplicas(manifest=manifest):
            return bool(member.pod.ordinal >= manifest["spec"]["replicas"])
    return False


def _lasting(now: Situation, shard: Shard) -> list[Member]:
    """Replicas in step that nothing is about to take away."""
    return [
        m
        for m in shard.members
        if m.usable
        and shard.follows(m)
        and m.pod.ordinal < shard.wanted
        and is_schedulable(now, m)
        and not is_going(now, shard, m)
    ]


def _settle(now: Situation, busy: set[int]) -> Iterator[Do]:
    """Each node as it should be while nothing happens to its shard."""
    for shard in now.topology.shards:
        for member in shard.members:
            if member.node is None or not member.usable or fence.may_be_replaced(shard, member):
                continue
            if member is shard.primary and fence.matters(now.topology):
                if shard.index not in busy:
                    yield from _primary(now, shard, member)
            elif fence.is_behind_its_time(shard, member):
                yield from _outdated(member)
            else:
                yield from _bystander(now, member)


def _primary(now: Situation, shard: Shard, member: Member) -> Iterator[Do]:
    mode, view = now.spec.durability_mode, member.node
    if view is None or view.quarantined:
        return
    lasting = _lasting(now, shard)
    record = fence.record_of(view, mode)
    if not lasting and mode is DurabilityMode.DEFAULT:
        yield from _bystander(now, member)
    elif lasting and fence.is_heard(view) and not (fence.is_raised(view) and member.pod.fence == record):
        message = f"{member.pod.name} stops accepting writes if no replica reports to it"
        action = RaiseFence(member.target, view.replication_id, record, member.pod.fence)
        yield Do(action, Reason.FENCING, message)


def _bystander(now: Situation, member: Member) -> Iterator[Do]:
    """Who does not lead, or can be replaced by votes, asks for nobody: it would refuse writes once it leads. One that
    has been replaced and has not heard of that must go on refusing them.
    """
    default = now.spec.durability_mode is DurabilityMode.DEFAULT
    if member.node is None or not (member.pod.fence or (default and not fence.is_lowered(member.node))):
        return
    message = f"{member.pod.name} accepts writes without a replica" if default else f"{member.pod.name} has no fence"
    action = LowerFence(member.target, fence.LOWERED if default else (), member.pod.fence)
    yield Do(action, Reason.FENCING, message)


def _outdated(member: Member) -> Iterator[Do]:
    """It claims slots that are another's by now, and nobody whom it hears can tell it: nobody reports to it either, so
    that it refuses writes once it asks for a replica.
    """
    if member.node is None or fence.is_outdated(member.node):
        return
    message = f"{member.pod.name} stops accepting writes until it has heard who leads its slots by now"
    yield Do(Configure((member.target,), fence.OUTDATED), Reason.FENCING, message)


def _patience(now: Situation) -> Iterator[Do]:
    """Nodes give each other more time where nothing comes of it that one counts another as failed."""
    wanted = str(int(fence.timeout_seconds(now.topology) * 1000))
    members = [m for m in now.topology.members if m.usable and m.node is not None]
    lacking = [m for m in members if m.node is not None and m.node.parameters.get(fence.TIMEOUT, wanted) != wanted]
    if lacking:
        pods = listed([m.pod.name for m in lacking])
        action = Configure(tuple(m.target for m in lacking), ((fence.TIMEOUT, wanted),))
        yield Do(action, Reason.FENCING, f"setting {fence.TIMEOUT} to {wanted} on {pods}")


POLICIES: Final = (write_without_replicas, await_reports)
