"""A cache cluster as a scenario handles it: apply, edit, wait, and look, always with a reason to fail by."""

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from e2e.diagnosis import explain
from e2e.kube import ApiError, Kube, Obj, condition, is_true, observed, pod_is_ready, wait
from e2e.pods import CPU

FAILOVER: Final = "cachecluster.dev/failover-from"
READY_SECONDS: Final = 300.0
ZONE: Final = "topology.kubernetes.io/zone"
SLOTS: Final = 16384
CLUSTER_LABEL: Final = "cachecluster.dev/cluster"
SHARD_LABEL: Final = "cachecluster.dev/shard"
ROLE_LABEL: Final = "cachecluster.dev/role"


def small_spec(shards: int = 3, replicas: int = 1, **fields: Any) -> Obj:
    """A spec that fits many times on a small machine."""
    return {
        "engine": "Valkey",
        "version": "8.1",
        "topology": {"mode": "Cluster", "shards": shards, "replicasPerShard": replicas},
        "resources": {"requests": {"cpu": CPU, "memory": "64Mi"}, "limits": {"memory": "128Mi"}},
        **fields,
    }


@dataclass(frozen=True, slots=True)
class Member:
    """A pod of the cluster with what its labels and its Kubernetes node say."""

    name: str
    uid: str
    shard: int
    role: str
    node: str
    zone: str
    ip: str
    ready: bool
    restarts: int
    revision: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """One CacheCluster by name; holds nothing but the way to it."""

    kube: Kube
    namespace: str
    name: str

    def manifest(self, spec: Mapping[str, Any]) -> Obj:
        """The resource as a user writes it."""
        return {
            "apiVersion": "cachecluster.dev/v1alpha1",
            "kind": "CacheCluster",
            "metadata": {"name": self.name, "namespace": self.namespace},
            "spec": dict(spec),
        }

    def apply(self, spec: Mapping[str, Any]) -> None:
        """`kubectl apply --server-side`; raises ApiError if the API server refuses the spec."""
        self.kube.apply(self.manifest(spec))

    def edit(self, patch: Mapping[str, Any]) -> None:
        """Merge `patch` into the spec."""
        self.kube.patch("CacheCluster", self.namespace, self.name, {"spec": dict(patch)})

    def hand_over(self, shard: int) -> Member:
        """Have another member lead a shard, as `kubectl cache failover` does; returns it once all is whole."""
        former = self.primary_of(shard)
        request = {FAILOVER: f"{former.name}@{time.time_ns()}"}  # the same request twice would be one
        self.kube.patch("CacheCluster", self.namespace, self.name, {"metadata": {"annotations": request}})
        self.until("the role is handed over", lambda: self.primary_of(shard).name != former.name)
        self.until_whole()
        return self.primary_of(shard)

    def delete(self) -> None:
        """Ask for deletion; does not wait."""
        self.kube.delete("CacheCluster", self.namespace, self.name)

    def read(self) -> Obj:
        """The resource as it is now."""
        return self.kube.get("CacheCluster", self.namespace, self.name)

    def until(self, what: str, probe: Callable[[], Any], within: float = READY_SECONDS) -> Any:
        """Wait for `probe`; a failure shows the state of the namespace and the operator's log."""
        return wait(f"{self.namespace}/{self.name}: {what}", probe, within, lambda: explain(self.kube, self.namespace))

    def until_condition(
        self, type_: str, status: str = "True", reason: str | None = None, within: float = READY_SECONDS
    ) -> Obj:
        """Wait for a condition that speaks of the latest spec; returns it."""

        def probe() -> Obj | None:
            resource = self.read()
            found = condition(resource, type_)
            fits = found.get("status") == status and reason in {None, found.get("reason")}
            return found if fits and observed(resource) else None

        return dict(self.until(f"condition {type_} {status} {reason or ''}", probe, within))

    def is_whole(self) -> bool:
        """The latest spec is carried out completely and every copy is in step."""
        resource = self.read()
        pods = self.members()
        return (
            observed(resource)
            and is_true(resource, "Ready")
            and is_true(resource, "RolledOut")
            and not any(is_true(resource, bad) for bad in ("Reconciling", "Stalled", "Degraded"))
            and len(pods) == resource["status"]["nodes"]
            and all(p.ready for p in pods)
        )

    def until_whole(self, within: float = READY_SECONDS) -> None:
        """Wait until it is whole."""
        self.until("whole: ready, rolled out, not degraded, nothing left to do", self.is_whole, within)

    def pods(self) -> list[Obj]:
        """The cluster's pods, by name."""
        found = self.kube.list("Pod", self.namespace, f"{CLUSTER_LABEL}={self.name}")
        return sorted(found, key=lambda pod: str(pod["metadata"]["name"]))

    def members(self) -> list[Member]:
        """The cluster's pods with roles and zones."""
        zones = zones_of_machines(self.kube)
        return [_member(pod, zones) for pod in self.pods()]

    def primary_of(self, shard: int) -> Member:
        """The pod that is labelled as the shard's primary; fails if there is not exactly one."""
        found = [m for m in self.members() if m.shard == shard and m.role == "primary"]
        assert len(found) == 1, f"shard {shard} has {len(found)} pods labelled primary"
        return found[0]

    def replica_of(self, shard: int) -> Member:
        """One pod that is labelled as the shard's replica."""
        found = [m for m in self.members() if m.shard == shard and m.role == "replica"]
        assert found, f"shard {shard} has no pod labelled replica"
        return found[0]

    def uids(self) -> dict[str, tuple[str, int]]:
        """What changes if a pod is replaced or its container restarts: pod -> (uid, restarts)."""
        return {m.name: (m.uid, m.restarts) for m in self.members()}

    def assert_spread(self) -> None:
        """Every shard's members are in different zones."""
        members = self.members()
        for shard in {m.shard for m in members}:
            zones = [m.zone for m in members if m.shard == shard]
            assert len(set(zones)) == len(zones), f"shard {shard} has members in the zones {zones}"

    def assert_even(self, shards: int) -> None:
        """So many shards, all with as many slots as each other, or one more."""
        sizes = [_slots(shard["slots"]) for shard in self.read()["status"]["shards"]]
        assert len(sizes) == shards
        assert sum(sizes) == SLOTS
        assert max(sizes) - min(sizes) <= 1, sizes

    def assert_balanced(self) -> None:
        """No zone holds a majority of several primaries; after a failover that takes ten calm minutes."""
        primaries = Counter(m.zone for m in self.members() if m.role == "primary")
        if primaries.total() > 2:
            zone, most = primaries.most_common(1)[0]
            assert most * 2 <= primaries.total(), f"zone {zone} holds {most} of {primaries.total()} primaries"

    def events(self) -> list[Obj]:
        """Events about the resource."""
        found = self.kube.list("Event", self.namespace)
        return [e for e in found if e["involvedObject"].get("name") == self.name]

    def secret(self, suffix: str) -> Obj:
        """A Secret of the cluster, by what follows its name."""
        return self.kube.get("Secret", self.namespace, f"{self.name}-{suffix}")


def zones_of_machines(kube: Kube) -> dict[str, str]:
    """The zone of every Kubernetes node, empty if it has none."""
    return {n["metadata"]["name"]: n["metadata"]["labels"].get(ZONE, "") for n in kube.list("Node")}


def until_pod_ready(kube: Kube, namespace: str, pod: str, within: float = 120.0) -> None:
    """Wait for a pod."""

    def probe() -> bool:
        return pod_is_ready(kube.get("Pod", namespace, pod))

    wait(f"pod {namespace}/{pod} is ready", probe, within, lambda: explain(kube, namespace))


def leftovers(kube: Kube, namespace: str, cluster: str) -> list[str]:
    """Objects that still belong to a cluster, as kind/name."""
    kinds = (
        *("StatefulSet", "Pod", "Service", "Secret", "ConfigMap", "PodDisruptionBudget", "NetworkPolicy"),
        *("PersistentVolumeClaim", "ControllerRevision", "EndpointSlice"),
    )
    found = []
    for kind in kinds:
        for item in kube.list(kind, namespace):
            metadata = item["metadata"]
            owned = metadata.get("labels", {}).get(CLUSTER_LABEL) == cluster
            if owned or metadata["name"].startswith(f"{cluster}-"):
                found.append(f"{kind}/{metadata['name']}")
    return found


def refusal(attempt: Callable[[], None]) -> str:
    """The API server's message about a write that it must refuse."""
    try:
        attempt()
    except ApiError as error:
        if error.status not in {400, 403, 422}:
            raise
        return str(error)
    raise AssertionError("the API server has accepted it")


def _slots(ranges: str) -> int:
    """How many slots there are in `0-5460,10923`."""
    ends = [part.partition("-") for part in ranges.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in ends)


def _member(pod: Obj, zones: Mapping[str, str]) -> Member:
    labels = pod["metadata"]["labels"]
    statuses = pod["status"].get("containerStatuses", [])
    node = str(pod["spec"].get("nodeName", ""))
    return Member(
        name=str(pod["metadata"]["name"]),
        uid=str(pod["metadata"]["uid"]),
        shard=int(labels[SHARD_LABEL]),
        role=str(labels.get(ROLE_LABEL, "")),
        node=node,
        zone=zones.get(node, ""),
        ip=str(pod["status"].get("podIP", "")),
        ready=pod_is_ready(pod),
        restarts=sum(int(s["restartCount"]) for s in statuses),
        revision=str(labels.get("controller-revision-hash", "")),
    )


def compact(value: Any) -> str:
    """JSON for messages."""
    return json.dumps(value, sort_keys=True)
