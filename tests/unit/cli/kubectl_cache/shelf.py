"""A small API server for the command, with clusters whose status the operator's own code has written."""

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.screen import Form, Screen
from cachecluster.cli.kubectl_cache.session import Session
from cachecluster.domain.planner import plan
from cachecluster.domain.status import derive
from cachecluster.kube.api import Conflict, KubeApi, KubeError, NotFound
from tests.unit.domain.building import NOW, REF, Cluster

Obj = dict[str, Any]

SPEC: Obj = {
    "engine": "Valkey",
    "version": "8.1",
    "topology": {"mode": "Cluster", "shards": 3, "replicasPerShard": 1},
    "resources": {"limits": {"memory": "256Mi"}},
}


def body_of(cluster: Cluster, *, ago: float = 0.0, **more: Any) -> Obj:
    """The CacheCluster as the operator would have left it ``ago`` seconds before now."""
    snap = replace(cluster.snapshot(), now=NOW - ago)
    status = derive(snap, plan(snap)).to_json()
    metadata = {
        "name": REF.name,
        "namespace": REF.namespace,
        "uid": REF.uid,
        "generation": 3,
        "resourceVersion": "1",
        "finalizers": [names.FINALIZER],
    }
    spec = {**SPEC, "topology": cluster.spec.topology.model_dump(mode="json", by_alias=True)}
    return {"metadata": metadata, "spec": spec, "status": status, **more}


def pod_of(
    name: str, *, ready: bool = True, revision: str = "rev-t1", restart: str | None = None, **status: Any
) -> Obj:
    """A pod as the API server has it."""
    shard = name.split("-")[1]
    labels = {names.LABEL_SHARD: shard, names.LABEL_CLUSTER: REF.name, "controller-revision-hash": revision}
    conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
    metadata = {
        "name": name,
        "uid": f"uid-{name}",
        "creationTimestamp": datetime.fromtimestamp(NOW - 100, UTC).isoformat(),
        "labels": labels,
        "annotations": {names.ANNOTATION_RESTARTED: restart} if restart else {},
        "ownerReferences": [{"kind": "StatefulSet", "controller": True}],
    }
    return {"metadata": metadata, "status": {"phase": "Running", "conditions": conditions, **status}}


def pods_of(cluster: Cluster, **more: Any) -> list[Obj]:
    """All pods of a cluster."""
    return [pod_of(n.name, ready=n.ready and n.answers, revision=n.revision, **more) for n in cluster.nodes]


def set_of(shard: int, update: str = "rev-t1") -> Obj:
    """A StatefulSet as far as progress depends on it."""
    return {"metadata": {"name": names.shard_name(REF.name, shard)}, "status": {"updateRevision": update}}


class Shelf:
    """Just enough of the API server."""

    def __init__(self, *clusters: Obj, **children: Sequence[Obj]) -> None:
        """Clusters, and their children by kind."""
        self.clusters = {c["metadata"]["name"]: c for c in clusters}
        self.children = children
        self.patches: list[Mapping[str, Any]] = []
        self.reads = 0
        self.before_read: Callable[[int], None] = lambda _: None
        """Called with the number of the read of a CacheCluster: what happens meanwhile."""
        self.refuses: dict[str, KubeError] = {}
        """Errors by kind."""

    async def get(self, _: str, kind: str, __: str, name: str) -> Obj:
        self._check(kind)
        self.reads += 1
        self.before_read(self.reads)
        if name not in self.clusters:
            raise NotFound(f"{kind} {name}")
        return self.clusters[name]

    async def list(self, _: str, kind: str, __: str | None, ___: str = "") -> Sequence[Obj]:
        self._check(kind)
        return list(self.clusters.values()) if kind == names.KIND else self.children.get(kind, ())

    async def merge_patch(self, _: str, __: str, ___: str, name: str, patch: Mapping[str, Any]) -> Obj:
        self._check("patch")
        self.patches.append(patch)
        metadata, wanted = self.clusters[name]["metadata"], patch["metadata"]
        if any(wanted.get(k, metadata[k]) != metadata[k] for k in ("uid", "resourceVersion")):
            raise Conflict(f"{name} has changed")
        merged = {**metadata.get("annotations", {}), **wanted["annotations"]}
        kept = {k: v for k, v in merged.items() if v is not None}
        self.clusters[name] = {**self.clusters[name], "metadata": {**metadata, "annotations": kept}}
        return self.clusters[name]

    def _check(self, what: str) -> None:
        if what in self.refuses:
            raise self.refuses[what]


class Desk:
    """A session at a shelf, whose time passes only by waiting."""

    def __init__(self, shelf: Shelf, form: Form = "text", *, colour: bool = False, live: bool = False) -> None:
        """Waits take no real time."""
        self.out, self.time = io.StringIO(), NOW
        screen = Screen(self.out, form, colour=colour, live=live)
        self.session = Session(
            kube=cast("KubeApi", shelf),
            namespace=REF.namespace,
            screen=screen,
            operator_namespace="cachecluster-system",
            now=lambda: self.time,
            sleep=self._sleep,
        )

    async def _sleep(self, seconds: float) -> None:
        self.time += seconds

    @property
    def text(self) -> str:
        """All that was printed."""
        return self.out.getvalue()
