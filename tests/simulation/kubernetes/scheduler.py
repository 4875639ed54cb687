"""Hosts in zones, and the scheduler's choice among them: hard spread is kept, soft spread is preferred."""

from collections import Counter
from dataclasses import dataclass, field, replace

from cachecluster.api import names
from cachecluster.domain.snapshot import Host
from cachecluster.kube.api import NotFound
from tests.simulation.clock import Clock
from tests.simulation.kubernetes.store import Key, Object, Store


@dataclass
class Hosts:
    """The Kubernetes nodes."""

    by_name: dict[str, Host] = field(default_factory=dict)

    @classmethod
    def in_zones(cls, zones: int, each: int) -> "Hosts":
        """``each`` hosts in each of ``zones`` zones a, b, c, ..."""
        made = {}
        for z in range(zones):
            for i in range(each):
                zone = chr(ord("a") + z)
                labels = {names.ZONE_LABEL: zone, "kubernetes.io/hostname": f"host-{zone}{i}"}
                made[f"host-{zone}{i}"] = Host(f"host-{zone}{i}", labels, schedulable=True, ready=True)
        return cls(made)

    def cordon(self, name: str, *, on: bool = True) -> None:
        """kubectl cordon."""
        self.by_name[name] = replace(self.by_name[name], schedulable=not on)

    def report(self, name: str, *, ready: bool, now: float) -> None:
        """Whether its kubelet reports, if it is still there."""
        if name in self.by_name and self.by_name[name].ready != ready:
            since = None if ready else now
            self.by_name[name] = replace(self.by_name[name], ready=ready, not_ready_since=since)

    def take_out_of_service(self, name: str, *, on: bool = True) -> None:
        """kubectl taint node NAME node.kubernetes.io/out-of-service."""
        self.by_name[name] = replace(self.by_name[name], out_of_service=on)

    def read(self, name: str) -> Object:
        """GET of a Node; raises NotFound."""
        if name not in self.by_name:
            raise NotFound(f"Node {name} not found")
        host = self.by_name[name]
        taints = [{"key": names.TAINT_OUT_OF_SERVICE}] if host.out_of_service else []
        ready = {"type": "Ready", "status": "True" if host.ready else "Unknown"}
        return {"metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": [ready]}}


class Scheduler:
    """Binds pods to hosts."""

    def __init__(self, store: Store, clock: Clock, hosts: Hosts) -> None:
        self.store, self.clock, self.hosts = store, clock, hosts
        self._chance = clock.chance("scheduler")
        self._zone_of_claim: dict[str, str] = {}
        store.watchers.append(self._changed)

    def _changed(self, key: Key, body: Object | None) -> None:
        if key.kind == "Pod" and body is not None and not body["spec"].get("nodeName"):
            self.clock.later(0.01 + 0.05 * self._chance.random(), self._schedule, key, body["metadata"]["uid"])

    def _schedule(self, key: Key, uid: str) -> None:
        pod = self.store.look(key)
        if pod is None or pod["metadata"]["uid"] != uid or pod["spec"].get("nodeName"):
            return
        host = self._choose(pod)
        if host is None:
            message = f"0/{len(self.hosts.by_name)} nodes are available"
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
            self.store.update({**pod, "status": {**pod["status"], "conditions": [condition]}})
            self.clock.later(1.0, self._schedule, key, uid)
            return
        for claim in _claims(pod):
            self._zone_of_claim.setdefault(claim, host.labels[names.ZONE_LABEL])
        spec = {**pod["spec"], "nodeName": host.name}
        condition = {"type": "PodScheduled", "status": "True"}
        self.store.update({**pod, "spec": spec, "status": {**pod["status"], "conditions": [condition]}})

    def _choose(self, pod: Object) -> Host | None:
        fitting = [h for h in self.hosts.by_name.values() if h.schedulable and h.ready and self._fits(pod, h)]
        scores = [(self._crowding(pod, h), self._chance.random(), h.name) for h in fitting]
        return self.hosts.by_name[min(scores)[2]] if scores else None

    def _fits(self, pod: Object, host: Host) -> bool:
        spec = pod["spec"]
        if any(host.labels.get(k) != v for k, v in spec.get("nodeSelector", {}).items()):
            return False
        zones = {self._zone_of_claim[c] for c in _claims(pod) if c in self._zone_of_claim}
        if zones and host.labels[names.ZONE_LABEL] not in zones:
            return False
        terms = (
            spec.get("affinity", {})
            .get("nodeAffinity", {})
            .get("requiredDuringSchedulingIgnoredDuringExecution", {})
            .get("nodeSelectorTerms", [])
        )
        if terms and not any(_matches(t, host) for t in terms):
            return False
        hard = [c for c in spec.get("topologySpreadConstraints", ()) if c["whenUnsatisfiable"] == "DoNotSchedule"]
        return all(self._skew(pod, c, host) <= c["maxSkew"] for c in hard)

    def _skew(self, pod: Object, constraint: Object, host: Host) -> int:
        counts = self._counts(pod, constraint)
        key = constraint["topologyKey"]
        domains = {h.labels.get(key) for h in self.hosts.by_name.values() if h.schedulable and self._selected(pod, h)}
        fewest = min((counts[d] for d in domains), default=0)
        return counts[host.labels.get(key)] + 1 - fewest

    def _selected(self, pod: Object, host: Host) -> bool:
        terms = (
            pod["spec"]
            .get("affinity", {})
            .get("nodeAffinity", {})
            .get("requiredDuringSchedulingIgnoredDuringExecution", {})
            .get("nodeSelectorTerms", [])
        )
        return not terms or any(_matches(t, host) for t in terms)

    def _counts(self, pod: Object, constraint: Object) -> Counter[str | None]:
        wanted = constraint.get("labelSelector", {}).get("matchLabels", {})
        counts: Counter[str | None] = Counter()
        for other in self.store.select("Pod", pod["metadata"]["namespace"]):
            labels = other["metadata"].get("labels", {})
            at = other["spec"].get("nodeName")
            placed = (
                at
                and "deletionTimestamp" not in other["metadata"]
                and other["metadata"]["name"] != pod["metadata"]["name"]
            )
            if placed and all(labels.get(k) == v for k, v in wanted.items()):
                host = self.hosts.by_name.get(at)
                counts[host.labels.get(constraint["topologyKey"]) if host is not None else None] += 1
        return counts

    def _crowding(self, pod: Object, host: Host) -> int:
        soft = [
            c for c in pod["spec"].get("topologySpreadConstraints", ()) if c["whenUnsatisfiable"] != "DoNotSchedule"
        ]
        return sum(self._counts(pod, c)[host.labels.get(c["topologyKey"])] for c in soft)


def _matches(term: Object, host: Host) -> bool:
    return all(
        e["operator"] == "In" and host.labels.get(e["key"]) in e["values"] for e in term.get("matchExpressions", ())
    )


def _claims(pod: Object) -> list[str]:
    """The claims that a pod mounts."""
    sources = (v.get("persistentVolumeClaim") for v in pod["spec"].get("volumes", ()))
    return [source["claimName"] for source in sources if source is not None]
