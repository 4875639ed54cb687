"""What people ask for by an annotation of the CacheCluster: read, and told from what has been carried out already.

A request stays where it was written. A failover is over once the status repeats it, so that a pod that comes to lead
again much later is left alone; a restart is over once the pods carry it; an approval names the one incident that it is
good for.
"""

from collections.abc import Iterable, Mapping

from cachecluster.api import names
from cachecluster.api.status import REQUEST_LENGTH
from cachecluster.domain.records import live_or_recorded
from cachecluster.domain.snapshot import ClusterRef, Manifest, ObjectKey, Snapshot
from cachecluster.domain.topology import Shard, Topology


def failover_request(pod: str, moment: str) -> str:
    """What to write so that ``pod`` hands its role over; ``moment`` tells the request from an earlier one."""
    return f"{pod}@{moment}"


def pod_in(request: str) -> str:
    """Name of the pod that is to stop being a primary."""
    return request.partition("@")[0]


def open_failover(annotations: Mapping[str, str], status: Manifest) -> str | None:
    """The request for a failover, unless there is none or the status says that it has been carried out."""
    request = annotations.get(names.ANNOTATION_FAILOVER)
    return request if request and request != status.get("lastHandledFailover") else None


def shard_in(request: str, snap: Snapshot, topology: Topology) -> Shard | None:
    """The shard that the request is about; None if it names no pod that the cluster has or should have."""
    pod = pod_in(request)
    return next((s for s in topology.shards if len(request) <= REQUEST_LENGTH and pod in _pods(snap, s)), None)


def _pods(snap: Snapshot, shard: Shard) -> frozenset[str]:
    return frozenset(names.pod_name(snap.ref.name, shard.index, ordinal) for ordinal in range(shard.expected))


def handled_failover(snap: Snapshot, topology: Topology) -> str | None:
    """For the status: the open request once another pod leads, else the last one that was carried out."""
    request = open_failover(snap.annotations, snap.status)
    if request is not None:
        shard = shard_in(request, snap, topology)
        if shard is not None and shard.primary is not None and shard.primary.pod.name != pod_in(request):
            return request
    before: str | None = snap.status.get("lastHandledFailover")
    return before


def restarts(
    cluster: str, shards: Iterable[int], annotations: Mapping[str, str], children: Mapping[ObjectKey, Manifest]
) -> dict[int, str]:
    """The restart that the pods of each shard are to have behind them.

    Where the request is not there any more, it is what the shard's StatefulSet says already: to take a request back,
    or to replace the CacheCluster by a manifest without it, restarts nobody.
    """
    asked = annotations.get(names.ANNOTATION_RESTARTED)
    sets = {shard: live_or_recorded(children, names.shard_name(cluster, shard)) for shard in shards}
    found = {shard: asked or _recorded(live) for shard, live in sets.items()}
    return {shard: restart for shard, restart in found.items() if restart}


def _recorded(statefulset: Manifest | None) -> str | None:
    """The restart in a live StatefulSet's template."""
    if statefulset is None:
        return None
    annotations = statefulset["spec"]["template"].get("metadata", {}).get("annotations") or {}
    value: str | None = annotations.get(names.ANNOTATION_RESTARTED)
    return value


def approved_loss(annotations: Mapping[str, str]) -> str | None:
    """The incident whose data somebody gives up."""
    return annotations.get(names.ANNOTATION_APPROVE_LOSS)


def approval_command(ref: ClusterRef, incident: str) -> str:
    """What to run to give up the data of an incident."""
    return f"kubectl annotate -n {ref.namespace} cc {ref.name} {names.ANNOTATION_APPROVE_LOSS}={incident} --overwrite"
