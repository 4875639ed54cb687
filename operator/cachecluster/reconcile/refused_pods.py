"""Why pods are missing: the StatefulSet controller tells that in Events and nowhere else. Asked only while one is."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any, Final

from cachecluster.domain.snapshot import ClusterRef, Manifest, ObjectKey, Pod
from cachecluster.kube.api import Rejected
from cachecluster.reconcile.dependencies import Memory, Senses

PATIENCE_SECONDS: Final = 2.0
"""A pod that is on its way is there by then. What has to be quick, a promotion above all, is done by then, too."""
_REFUSALS: Final = "involvedObject.kind=StatefulSet,reason=FailedCreate"
_CAUSE: Final = " failed error: "
"""What stands before the API server's words (Kubernetes pkg/controller/statefulset, recordPodEvent)."""


async def refused_pods(
    ref: ClusterRef, deps: Senses, memory: Memory, children: Mapping[ObjectKey, Manifest], pods: Collection[Pod]
) -> dict[str, str]:
    """What keeps the pods of StatefulSets from being created, by their names, in the API server's words.

    Raises KubeError when the API server does not answer.
    """
    short = _short(children, pods)
    if not short:
        memory.short_since = None
        return {}
    if memory.short_since is None:
        memory.short_since = deps.clock()
    if deps.clock() - memory.short_since < PATIENCE_SECONDS:
        return {}
    try:
        events = await deps.kube.list("v1", "Event", ref.namespace, field_selector=_REFUSALS)
    except Rejected:
        return {}
    told = {event["involvedObject"].get("uid"): _cause(event) for event in sorted(events, key=_moment)}
    return {name: told[uid] for name, uid in short.items() if uid in told}


def _short(children: Mapping[ObjectKey, Manifest], pods: Collection[Pod]) -> dict[str, str]:
    """uids of the StatefulSets that have fewer pods than they should, by name."""
    present = Counter(pod.name.rpartition("-")[0] for pod in pods)
    return {
        key.name: body["metadata"]["uid"]
        for key, body in children.items()
        if key.kind == "StatefulSet" and present[key.name] < body["spec"]["replicas"]
    }


def _moment(event: Mapping[str, Any]) -> str:
    """Times of the API server sort as text."""
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _cause(event: Mapping[str, Any]) -> str:
    message = str(event.get("message", ""))
    return message.partition(_CAUSE)[2] or message
