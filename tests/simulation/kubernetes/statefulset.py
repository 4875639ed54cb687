"""The StatefulSet controller (kubernetes pkg/controller/statefulset, v1.34), podManagementPolicy Parallel."""

import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Final

from tests.simulation.clock import Clock
from tests.simulation.kubernetes.store import Key, Object, Store, key_of


def ready(pod: Object) -> bool:
    """Running and Ready."""
    conditions = pod.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


STORAGE_CLASS: Final = "standard"
"""The cluster's default."""


class StatefulSets:
    """Creates, counts and replaces pods."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self._chance = clock.chance("statefulsets")
        self._queued: set[Key] = set()
        self.on_replace: list[Callable[[Object, Object], None]] = []
        """Told before a pod is deleted because its template is old: (StatefulSet, pod)."""
        self.on_surplus: list[Callable[[Object], None]] = []
        """Told before a pod is deleted because there are too many."""
        store.watchers.append(self._changed)

    def _changed(self, key: Key, body: Object | None) -> None:
        if key.kind == "StatefulSet" and body is not None:
            self._enqueue(key)
        elif key.kind == "Pod":
            self._enqueue(Key("StatefulSet", key.namespace, key.name.rpartition("-")[0]))

    def _enqueue(self, key: Key) -> None:
        if key not in self._queued:
            self._queued.add(key)
            self.clock.later(0.005 + 0.05 * self._chance.random(), self._sync, key)

    def _sync(self, key: Key) -> None:
        self._queued.discard(key)
        sts = self.store.look(key)
        if sts is None or "orphan" in sts["metadata"].get("finalizers", ()):
            return
        update = self._revision(sts, sts["spec"]["template"])
        current = sts.get("status", {}).get("currentRevision") or update
        if not self.store.exists(Key("ControllerRevision", key.namespace, current)):
            current = update
        if "deletionTimestamp" not in sts["metadata"]:
            self._adopt(sts)
            self._create_missing(sts, current, update)
            self._delete_surplus(sts)
            pods = self._pods(sts)
            self._replace_outdated(sts, pods, update)
        self._report(sts, self._pods(sts), current, update)

    def _adopt(self, sts: Object) -> None:
        """Pods of the right names and labels that nobody controls (ControllerRefManager)."""
        meta, wanted = sts["metadata"], sts["spec"]["selector"]["matchLabels"]
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": meta["name"], "uid": meta["uid"]}
        for key, body in list(self.store.bodies("ControllerRevision", "Pod")):
            labels, base = body["metadata"].get("labels", {}), key.name.rpartition("-")[0]
            free = not body["metadata"].get("ownerReferences")
            fits = key.namespace == meta["namespace"] and base == meta["name"] and free
            if fits and key.kind == "ControllerRevision":
                self.store.update({**body, "metadata": {**body["metadata"], "ownerReferences": [owner]}})
            elif fits and key.kind == "Pod" and all(labels.get(k) == v for k, v in wanted.items()):
                owners = [{**owner, "controller": True, "blockOwnerDeletion": True}]
                self.store.update({**body, "metadata": {**body["metadata"], "ownerReferences": owners}})

    def _pods(self, sts: Object) -> dict[int, Object]:
        meta = sts["metadata"]
        pods: dict[int, Object] = {}
        for ordinal in range(sts["spec"]["replicas"]):
            pod = self.store.look(Key("Pod", meta["namespace"], f"{meta['name']}-{ordinal}"))
            if pod is not None and any(o["uid"] == meta["uid"] for o in pod["metadata"].get("ownerReferences", ())):
                pods[ordinal] = pod
        return pods

    def _revision(self, sts: Object, template: Object) -> str:
        """Name of the ControllerRevision that holds the template."""
        meta = sts["metadata"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        name = f"{meta['name']}-{digest}"
        if not self.store.exists(Key("ControllerRevision", meta["namespace"], name)):
            owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": meta["name"], "uid": meta["uid"]}
            self.store.insert(
                {
                    "apiVersion": "apps/v1",
                    "kind": "ControllerRevision",
                    "metadata": {
                        "name": name,
                        "namespace": meta["namespace"],
                        "labels": dict(template["metadata"].get("labels", {})),
                        "ownerReferences": [{**owner, "controller": True}],
                    },
                    "data": template,
                }
            )
        return name

    def _create_missing(self, sts: Object, current: str, update: str) -> None:
        meta, spec = sts["metadata"], sts["spec"]
        partition = spec.get("updateStrategy", {}).get("rollingUpdate", {}).get("partition", 0)
        for ordinal in range(spec["replicas"]):
            key = Key("Pod", meta["namespace"], f"{meta['name']}-{ordinal}")
            if self.store.exists(key):
                continue
            revision = current if ordinal < partition else update
            holder = self.store.look(Key("ControllerRevision", meta["namespace"], revision))
            if holder is not None:
                self._create(sts, holder["data"], revision, ordinal)

    def _create(self, sts: Object, template: Object, revision: str, ordinal: int) -> None:
        meta = sts["metadata"]
        name = f"{meta['name']}-{ordinal}"
        labels = {
            **template["metadata"].get("labels", {}),
            "controller-revision-hash": revision,
            "statefulset.kubernetes.io/pod-name": name,
            "apps.kubernetes.io/pod-index": str(ordinal),
        }
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": meta["name"], "uid": meta["uid"]}
        for claim in sts["spec"].get("volumeClaimTemplates", ()):
            self._claim(meta["namespace"], f"{claim['metadata']['name']}-{name}", claim)
        self.store.insert(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {
                    "name": name,
                    "namespace": meta["namespace"],
                    "labels": labels,
                    "annotations": dict(template["metadata"].get("annotations", {})),
                    "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
                },
                "spec": _completed(_with_claims(template["spec"], name, sts["spec"].get("volumeClaimTemplates", ()))),
                "status": {"phase": "Pending"},
            }
        )

    def _delete_surplus(self, sts: Object) -> None:
        """Pods beyond the number of replicas go, all at once (podManagementPolicy Parallel)."""
        meta = sts["metadata"]
        for key, pod in self.store.bodies("Pod"):
            base, _, ordinal = key.name.rpartition("-")
            if key.namespace != meta["namespace"] or base != meta["name"]:
                continue
            if int(ordinal) >= sts["spec"]["replicas"] and "deletionTimestamp" not in pod["metadata"]:
                for listener in self.on_surplus:
                    listener(pod)
                self.store.delete(key)

    def _claim(self, namespace: str, name: str, template: Object) -> None:
        if not self.store.exists(Key("PersistentVolumeClaim", namespace, name)):
            self.store.insert(
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {**template["metadata"], "name": name, "namespace": namespace},
                    "spec": {"storageClassName": STORAGE_CLASS, **template["spec"]},
                    "status": {"phase": "Bound", "capacity": dict(template["spec"]["resources"]["requests"])},
                }
            )

    def _replace_outdated(self, sts: Object, pods: dict[int, Object], update: str) -> None:
        """The highest outdated ordinal at or above the partition goes; an updated one that is not ready is awaited."""
        spec = sts["spec"]
        if len(pods) < spec["replicas"] or spec.get("updateStrategy", {}).get("type") == "OnDelete":
            return
        partition = spec.get("updateStrategy", {}).get("rollingUpdate", {}).get("partition", 0)
        for ordinal in range(spec["replicas"] - 1, partition - 1, -1):
            pod = pods[ordinal]
            terminating = "deletionTimestamp" in pod["metadata"]
            if pod["metadata"]["labels"]["controller-revision-hash"] != update and not terminating:
                for listener in self.on_replace:
                    listener(sts, pod)
                self.store.delete(key_of(pod))
                return
            if terminating or not ready(pod):
                return

    def _report(self, sts: Object, pods: dict[int, Object], current: str, update: str) -> None:
        live = self.store.look(key_of(sts))
        if live is None or live["metadata"]["uid"] != sts["metadata"]["uid"]:
            return
        replicas = sts["spec"]["replicas"]
        present = [p for p in pods.values() if "deletionTimestamp" not in p["metadata"]]
        revisions = [p["metadata"]["labels"]["controller-revision-hash"] for p in present]
        healthy = sum(ready(p) for p in pods.values())
        if revisions.count(update) == replicas and healthy == replicas == len(pods):
            current = update
        status = {
            "observedGeneration": sts["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": healthy,
            "currentReplicas": revisions.count(current),
            "updatedReplicas": revisions.count(update),
            "currentRevision": current,
            "updateRevision": update,
        }
        self.store.update({**live, "status": status})


def _with_claims(spec: Object, pod: str, templates: Iterable[Object]) -> Object:
    """A pod's spec with the volumes that are its own."""
    own = [
        {"name": name, "persistentVolumeClaim": {"claimName": f"{name}-{pod}"}}
        for name in (template["metadata"]["name"] for template in templates)
    ]
    return {**spec, "volumes": [*spec.get("volumes", ()), *own]}


def _completed(spec: Object) -> Object:
    """A pod's spec with the requests that follow from its limits (defaulting of the API server)."""

    def completed(container: Object) -> Object:
        limits, requests = (container.get("resources", {}).get(kind, {}) for kind in ("limits", "requests"))
        return {**container, "resources": {"limits": dict(limits), "requests": {**limits, **requests}}}

    return {**spec, "containers": [completed(c) for c in spec["containers"]]}
