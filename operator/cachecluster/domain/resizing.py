"""Whether a running pod can get the resources of a new template without being replaced (ADR 0013)."""

from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, PersistenceMode
from cachecluster.domain.drift import fingerprint, in_force
from cachecluster.domain.memory import shrinks
from cachecluster.domain.snapshot import ContainerState, InvalidSpec, Manifest, ResizeState, Snapshot
from cachecluster.domain.topology import Member, Shard

PATIENCE_SECONDS: Final = 60.0
"""So long may a kubelet take, or wait for room on its machine, before the pod is replaced instead."""


def engine_of(template: Manifest) -> Manifest:
    """The engine's container in a pod template."""
    found: Manifest = next(c for c in template["spec"]["containers"] if c["name"] == names.CONTAINER)
    return found


def resources_of(template: Manifest) -> dict[str, dict[str, str]]:
    """Resources of the engine's container as the API server completes them: requests follow from limits."""
    given = engine_of(template).get("resources", {})
    limits, requests = dict(given.get("limits", {})), dict(given.get("requests", {}))
    return {"limits": limits, "requests": {**limits, **requests}}


def fixed_hash(template: Manifest) -> str:
    """Hash of all that only another pod can have: everything but amounts, and what follows from the memory limit."""
    containers = [{**c, **_unsized(c)} for c in template["spec"]["containers"]]
    spec = {k: v for k, v in template["spec"].items() if k != "terminationGracePeriodSeconds"}
    return fingerprint({**template, "spec": {**spec, "containers": containers}})[:16]


def _unsized(container: Manifest) -> dict[str, Any]:
    """A resource may neither appear nor vanish in a running pod, so that their names count."""
    resources = {kind: sorted(amounts) for kind, amounts in container.get("resources", {}).items()}
    probe = {k: v for k, v in container.get("startupProbe", {}).items() if k != "failureThreshold"}
    return {"resources": resources, "startupProbe": probe}


def is_asked(member: Member, template: Manifest) -> bool:
    """The pod's spec has the template's resources."""
    shape = member.pod.shape
    return shape is not None and in_force(resources_of(template), shape.resources)


def can_resize(snap: Snapshot, shard: Shard, member: Member, template: Manifest) -> bool:
    """The pod differs from the template in nothing but amounts, and nothing says that it cannot have these."""
    shape = member.pod.shape
    if not snap.resizable or shape is None or isinstance(snap.spec, InvalidSpec):
        return False
    wanted = resources_of(template)
    fixed = template.get("metadata", {}).get("annotations", {}).get(names.ANNOTATION_FIXED)
    return (
        fixed is not None
        and _has_begun(snap.spec, member)
        and shape.annotations.get(names.ANNOTATION_FIXED) == fixed
        and _guaranteed(shape.resources) == _guaranteed(wanted)
        and (member.pod.uid, fingerprint(wanted)) not in snap.resize_refusals
        and not (is_asked(member, template) and _has_failed(snap, member))
        and not _needs_longer_grace(snap, shard, member, template)
    )


def _has_begun(spec: CacheClusterSpec, member: Member) -> bool:
    """A pod without a place has nothing to keep, and one whose engine does not run cannot tell if it needs less."""
    container = member.pod.container
    running = container is not None and container.state is ContainerState.RUNNING
    return member.pod.host is not None and (running or not shrinks(spec, member))


def _guaranteed(resources: Manifest) -> bool:
    """The pod's quality of service class, which cannot change: Guaranteed, or Burstable."""
    limits, requests = resources.get("limits", {}), resources.get("requests", {})
    return all(limits.get(name) is not None and limits[name] == requests.get(name) for name in ("cpu", "memory"))


def _has_failed(snap: Snapshot, member: Member) -> bool:
    if member.pod.resize is None:
        return False
    waited = snap.now - snap.resizing_since.get(member.pod.uid, snap.now)
    return member.pod.resize.state is ResizeState.INFEASIBLE or waited > PATIENCE_SECONDS


def _needs_longer_grace(snap: Snapshot, shard: Shard, member: Member, template: Manifest) -> bool:
    """A lone primary writes its last snapshot within its grace period, which a running pod keeps: more data may not fit
    into it. Where there is a replica, that has the data.
    """
    if isinstance(snap.spec, InvalidSpec) or snap.spec.persistence_mode is not PersistenceMode.SNAPSHOT:
        return False
    grace = member.pod.shape.grace if member.pod.shape is not None else None
    longer = template["spec"].get("terminationGracePeriodSeconds", 0)
    return shard.expected == 1 and grace is not None and grace < longer
