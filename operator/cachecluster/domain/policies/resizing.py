"""New amounts of memory and CPU reach running pods without a restart, where Kubernetes can do that (ADR 0013).

Up: the limit, then maxmemory. Down: maxmemory (``policies.configuration`` sees to it), then the limit. A pod that has
all that the template asks for gets the template's revision, so that the StatefulSet controller knows it as up to date.
"""

from collections.abc import Iterator

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import AdoptRevision, ResizePod
from cachecluster.domain.drift import desired_object
from cachecluster.domain.memory import fits, is_told, overfull, shrinks
from cachecluster.domain.plan import Do, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.resizing import can_resize, is_asked, resources_of
from cachecluster.domain.rolled import template_hash
from cachecluster.domain.snapshot import Manifest, ObjectKey
from cachecluster.domain.topology import Member, Shard


def resize_pods(now: Situation) -> Iterator[Verdict]:
    """All that grow at once; of those that shrink, one of each shard, its primary last (S7)."""
    if not now.topology.ever_formed:
        return
    for shard in now.topology.shards:
        key = ObjectKey("StatefulSet", shard.name)
        live, desired = now.snap.children.get(key), desired_object(now.snap, key)
        if live is None or desired is None or "deletionTimestamp" in live["metadata"]:
            continue
        status = live.get("status", {})
        applied = template_hash(desired) == template_hash(live)
        if applied and status.get("observedGeneration", 0) >= live["metadata"].get("generation", 0):
            yield from _resize_shard(now, shard, desired["spec"]["template"], status.get("updateRevision", ""))


def _resize_shard(now: Situation, shard: Shard, template: Manifest, revision: str) -> Iterator[Verdict]:
    old = [m for m in shard.members if m.pod.revision != revision and not m.pod.deleting]
    for member in sorted(old, key=lambda m: (m is shard.primary, -m.pod.ordinal)):
        if not can_resize(now.snap, shard, member, template):
            continue
        less = shrinks(now.spec, member)
        yield _step(now, member, template, revision)
        if less:
            return


def _step(now: Situation, member: Member, template: Manifest, revision: str) -> Verdict:
    name, wanted = member.pod.name, resources_of(template)
    if not is_asked(member, template):
        room = is_told(now.spec, member) and fits(now.spec, member) and not overfull(now.spec, now.topology)
        if shrinks(now.spec, member) and not room:
            message = f"{name} gets less memory once it uses no more than the new limit has room for"
            return Wait(Reason.RESIZING_PODS, message, 1.0)
        action = ResizePod(name, member.pod.uid, wanted)
        return Do(action, Reason.RESIZING_PODS, f"{name} gets {_amounts(wanted)}, without a restart")
    if member.pod.resize is not None:
        said = f": {member.pod.resize.message}" if member.pod.resize.message else ""
        return Wait(Reason.RESIZING_PODS, f"{name} is being resized by its kubelet{said}", 1.0)
    if not is_told(now.spec, member):
        return Wait(Reason.RESIZING_PODS, f"{name} has its new resources; its engine has not been told yet", 0.5)
    action_ = AdoptRevision(name, member.pod.uid, revision, wanted)
    return Do(action_, Reason.RESIZING_PODS, f"{name} has all that the new template asks for, and keeps running")


def _amounts(resources: dict[str, dict[str, str]]) -> str:
    return ", ".join(f"{name} {amount}" for name, amount in sorted(resources["limits"].items()))
