"""Pods that do not come up, in words that help; role labels; and primaries that should move out of a drain's way."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import LabelRole, SwitchOver
from cachecluster.domain.lost_hosts import is_lost
from cachecluster.domain.nodes import Role
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.snapshot import ContainerState, InvalidSpec, Pod
from cachecluster.domain.syncing import catching_up, look_again
from cachecluster.domain.topology import Member, Shard

CRASH_RESTARTS: Final = 2
"""A first restart may be a blip; from the second on it is a pattern."""


def explain_pods(now: Situation) -> Iterator[Verdict]:
    """Say why a pod is not running, and wait for those that are on their way. What hangs on a lost Kubernetes node is
    explained where it is given up, and what has nothing left to serve where its slots are.
    """
    for shard in now.topology.shards:
        for member in shard.members:
            if member.node is None and is_lost(now.snap, member.pod):
                continue
            problem = pod_problem(member.pod)
            if problem is not None and member.node is None:
                yield problem
            elif member.pod.ready and member.node is None:
                message = f"{member.pod.name} is ready, as its kubelet reports, and does not answer the operator"
                yield Wait(Reason.NODE_UNREACHABLE, message, 1.0)
            elif not member.pod.ready and not shard.bereft:
                message = f"{member.pod.name} is not ready yet{catching_up(member.node)}"
                yield Wait(Reason.WAITING_FOR_PODS, message, look_again(member.node, 1.0))
        if len(shard.members) < shard.expected:
            yield _missing(now, shard)


def _missing(now: Situation, shard: Shard) -> Verdict:
    """Pods that are on their way, or that nobody may create."""
    refusal = now.snap.refused_pods.get(shard.name)
    if refusal is None:
        return Wait(Reason.WAITING_FOR_PODS, f"shard {shard.index}: pods are being created", 1.0)
    return Block(
        Reason.OBJECT_REJECTED,
        f"shard {shard.index}: Kubernetes may not create the missing pods of StatefulSet {shard.name}: {refusal}",
    )


def pod_problem(pod: Pod) -> Block | None:
    """What keeps the pod from running, if it needs somebody's attention."""
    if pod.unschedulable:
        return Block(Reason.POD_UNSCHEDULABLE, f"{pod.name} finds no place to run: {pod.unschedulable}")
    container = pod.container
    if container is None:
        return None
    if container.state is ContainerState.WAITING and container.reason in IMAGE_REASONS:
        return Block(
            Reason.IMAGE_PULL_FAILED,
            f"{pod.name}: {container.reason}: {container.message}. Correct spec.image, spec.version or "
            "spec.imagePullSecrets",
        )
    if container.state is not ContainerState.RUNNING and container.restarts >= CRASH_RESTARTS:
        return Block(Reason.POD_CRASHING, f"{pod.name} keeps ending: {container.last_termination or container.reason}")
    if container.state is ContainerState.WAITING and container.reason in CONFIG_REASONS:
        return Block(Reason.POD_CRASHING, f"{pod.name} cannot start: {container.reason}: {container.message}")
    return None


IMAGE_REASONS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
CONFIG_REASONS: Final = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def label_roles(now: Situation) -> Iterator[Verdict]:
    """Role labels follow what the nodes say: budgets and selectors rely on them.

    Who leads no more is labelled first, even if it does not answer, or has not heard of its successor: with one primary
    too many the budget would let one be evicted, and a scaler would count a shard too many.
    """
    for shard in now.topology.shards:
        for member in sorted(shard.members, key=lambda m: m is shard.primary):
            role = _role(now, shard, member)
            if role is not None and member.pod.role_label != role:
                message = f"{member.pod.name} is labelled {role}"
                yield Do(LabelRole(member.pod.name, member.pod.uid, role), Reason.LABELLING_ROLE, message)


def label_roles_meanwhile(now: Situation) -> Iterator[Verdict]:
    """While the spec is invalid, promotion goes on: a new primary must not be without its budget."""
    if isinstance(now.snap.spec, InvalidSpec):
        yield from label_roles(now)


def _role(now: Situation, shard: Shard, member: Member) -> Role | None:
    if member is shard.primary:
        return Role.PRIMARY
    if member.node is not None and member.node.role is Role.REPLICA:
        return Role.REPLICA
    owns = member.node is not None and bool(now.topology.owners.get(member.node.node_id))
    succeeded = shard.primary is not None and member.pod.role_label == Role.PRIMARY and not owns
    return Role.REPLICA if succeeded else None


def leave_cordoned_hosts(now: Situation) -> Iterator[Verdict]:
    """A cordon announces a drain: the primary's budget forbids its eviction, so the role moves away first."""
    for shard in now.topology.shards:
        primary = shard.primary
        if primary is None or is_schedulable(now, primary):
            continue
        heir = best_successor(shard, [m for m in shard.replicas if is_schedulable(now, m)])
        if heir is not None:
            message = f"shard {shard.index}: {primary.pod.host} is cordoned; {heir.pod.name} takes over"
            action = SwitchOver(shard.index, primary.target, heir.target)
            yield Do(action, Reason.NODE_CORDONED, message)


def is_schedulable(now: Situation, member: Member) -> bool:
    """Its Kubernetes node is not cordoned, as far as we know."""
    host = now.snap.hosts.get(member.pod.host) if member.pod.host else None
    return host is None or host.schedulable


def best_successor(shard: Shard, candidates: list[Member]) -> Member | None:
    """The replica in step with the primary and with the highest offset; None if there is none."""
    if shard.primary is None or shard.primary.node is None:
        return None
    leader = shard.primary.node.node_id
    able = [
        m
        for m in candidates
        if m.usable and m.synced and m.node is not None and m.node.myself.primary_id == leader and not m.pod.deleting
    ]
    return max(able, key=lambda m: (m.node.offset if m.node else 0, -m.pod.ordinal), default=None)


POLICIES: Final = (explain_pods, label_roles)
