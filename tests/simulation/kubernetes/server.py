"""What the API server makes of a request: preconditions, immutability, server-side apply, status, deletion."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from cachecluster.domain.quantity import to_bytes
from cachecluster.kube.api import Conflict, NotFound, Rejected
from tests.simulation.kubernetes.store import Key, Object, Store, key_of

STATEFULSET_MUTABLE: Final = frozenset(
    {"replicas", "template", "updateStrategy", "persistentVolumeClaimRetentionPolicy", "minReadySeconds", "ordinals"}
)
IDENTITY: Final = frozenset(
    {"uid", "resourceVersion", "generation", "creationTimestamp", "deletionTimestamp", "name", "namespace"}
)


class Server:
    """The write half of an API server, without its network."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.resources = {"pods/resize"}
        """Of v1, by discovery."""
        self.unresizable: set[str] = set()
        """Pods whose resize is refused."""
        self.on_delete: list[Callable[[str, str], None]] = []
        """Told what a client is about to delete: kind and name."""

    def read(self, kind: str, namespace: str, name: str) -> Object:
        """GET, only to be read; raises NotFound."""
        body = self.store.look(Key(kind, namespace, name))
        if body is None:
            raise NotFound(f"{kind} {namespace}/{name} not found")
        return body

    def create(self, manifest: Mapping[str, Any]) -> Object:
        """POST; raises Conflict."""
        body = _copy(manifest)
        if self.store.exists(key_of(body)):
            raise Conflict(f"{body['kind']} {body['metadata']['name']} already exists")
        return self.store.insert(_encoded(body))

    def apply(self, manifest: Mapping[str, Any]) -> Object:
        """Server-side apply by our manager, forced."""
        body = _encoded(_copy(manifest))
        uid, version = body["metadata"].pop("uid", None), body["metadata"].pop("resourceVersion", None)
        live = self.store.look(key_of(body))
        if live is None:
            if uid is not None:
                raise Conflict(f"uid mismatch: no existing {body['kind']} {body['metadata']['name']}")
            made = self.store.insert(_copy(body))
            self.store.applied[made["metadata"]["uid"]] = body
            return made
        _same(live, uid, version)
        before = self.store.applied.get(live["metadata"]["uid"], {})
        merged = _merged(live, body, before)
        self._check(live, merged)
        self.store.applied[live["metadata"]["uid"]] = body
        return self.store.update(merged)

    def merge_patch(self, kind: str, namespace: str, name: str, patch: Mapping[str, Any]) -> Object:
        """JSON merge patch; uid and resourceVersion in it are preconditions."""
        live = self.read(kind, namespace, name)
        meta = dict(patch.get("metadata", {}))
        _same(live, meta.pop("uid", None), meta.pop("resourceVersion", None))
        merged = _patched(live, {**patch, "metadata": meta})
        self._check(live, merged)
        return self.store.update(merged)

    def resize(self, namespace: str, name: str, uid: str, container: str, resources: Mapping[str, Any]) -> Object:
        """PATCH of pods/resize: amounts change; the quality of service class does not, and no amount comes or goes."""
        if "pods/resize" not in self.resources:
            raise NotFound("the server could not find the requested resource")
        _same(self.read("Pod", namespace, name), uid)
        live = self.store.get(Key("Pod", namespace, name)) or {}
        found = next(c for c in live["spec"]["containers"] if c["name"] == container)
        before, after = found["resources"], _copy(resources)
        if any(before[k].keys() != after[k].keys() for k in ("limits", "requests")) or name in self.unresizable:
            raise Rejected(f"Pod {name} is invalid: resources cannot be changed like that")
        found["resources"] = after
        return self.store.update(live)

    def apply_status(self, kind: str, namespace: str, name: str, status: Mapping[str, Any]) -> Object:
        """The whole status, by its one manager."""
        live = self.read(kind, namespace, name)
        return self.store.update({**live, "status": _copy(status)})

    def replace(self, manifest: Mapping[str, Any]) -> Object:
        """PUT."""
        body = _encoded(_copy(manifest))
        live = self.read(*key_of(body))
        _same(live, body["metadata"].get("uid"), body["metadata"].get("resourceVersion"))
        body["metadata"] = {**body["metadata"], **{k: live["metadata"][k] for k in IDENTITY if k in live["metadata"]}}
        self._check(live, body)
        return self.store.update(body)

    def delete(
        self,
        kind: str,
        namespace: str,
        name: str,
        uid: str,
        resource_version: str | None,
        *,
        orphan: bool = False,
        grace: int | None = None,
    ) -> None:
        """DELETE with preconditions; gone already is fine. ``orphan``: what it owns stays."""
        live = self.store.look(Key(kind, namespace, name))
        if live is not None:
            _same(live, uid, resource_version)
            for listener in self.on_delete:
                listener(kind, name)
            if orphan:
                self.store.delete_alone(Key(kind, namespace, name))
            else:
                self.store.delete(Key(kind, namespace, name), grace)

    def _check(self, live: Object, merged: Object) -> None:
        kind, name = live["kind"], live["metadata"]["name"]
        if live.get("immutable") and any(live.get(f) != merged.get(f) for f in ("data", "binaryData", "immutable")):
            raise Rejected(f"{kind} {name} is invalid: data: Forbidden: field is immutable when `immutable` is set")
        if kind == "StatefulSet":
            fields = set(live["spec"]) | set(merged["spec"])
            changed = {f for f in fields if live["spec"].get(f) != merged["spec"].get(f)}
            if changed - STATEFULSET_MUTABLE:
                raise Rejected(f"StatefulSet {name} is invalid: spec: Forbidden: updates to {sorted(changed)}")
        if kind == "PersistentVolumeClaim":
            self._check_claim(live, merged)
        if kind == "Service" and live["spec"].get("clusterIP") not in (None, merged["spec"].get("clusterIP")):
            raise Rejected(f"Service {name} is invalid: spec.clusterIP: field is immutable")

    def _check_claim(self, live: Object, merged: Object) -> None:
        """Claims can only grow, and only where their StorageClass says so (admission PersistentVolumeClaimResize)."""
        name = live["metadata"]["name"]
        before, after = (to_bytes(o["spec"]["resources"]["requests"]["storage"]) for o in (live, merged))
        if after < before:
            raise Rejected(f"PersistentVolumeClaim {name} is invalid: field can not be less than previous value")
        found = self.store.look(Key("StorageClass", "", live["spec"].get("storageClassName", "")))
        if after > before and not (found or {}).get("allowVolumeExpansion"):
            raise Rejected(
                f"PersistentVolumeClaim {name} is forbidden: only dynamically provisioned pvc can be resized"
            )


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _copy(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_copy(v) for v in value]
    return str(value) if isinstance(value, str) else value


def _encoded(body: Object) -> Object:
    if body["kind"] == "Secret" and "stringData" in body:
        raise AssertionError("stringData is write-only: it would show as drift for ever")
    return body


def _same(live: Object, uid: str | None, version: str | None = None) -> None:
    meta = live["metadata"]
    if uid is not None and uid != meta["uid"]:
        raise Conflict(f"uid mismatch: {live['kind']} {meta['name']} is another object by now")
    if version is not None and version != meta["resourceVersion"]:
        raise Conflict(f"{live['kind']} {meta['name']} has been modified")


def _merged(live: Any, sent: Any, before: Any) -> Any:
    """Fields that we send win; fields that we sent before and do not send now go; others' fields stay."""
    if isinstance(sent, Mapping) and isinstance(live, Mapping):
        earlier = before if isinstance(before, Mapping) else {}
        kept = {k: v for k, v in live.items() if k in sent or k not in earlier or k in IDENTITY}
        for key, value in sent.items():
            kept[key] = _merged(kept[key], value, earlier.get(key)) if key in kept else value
        return kept
    if isinstance(sent, list) and isinstance(live, list) and _named(sent) and _named(live):
        earlier_items = {i["name"]: i for i in before} if isinstance(before, list) and _named(before) else {}
        ours = {i["name"] for i in sent}
        theirs = [i for i in live if i["name"] not in ours and i["name"] not in earlier_items]
        current = {i["name"]: i for i in live}
        merged = [_merged(current.get(i["name"], i), i, earlier_items.get(i["name"])) for i in sent]
        return merged + theirs
    return sent


def _named(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(i, Mapping) and "name" in i for i in items)


def _patched(live: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return _copy(patch)
    result = dict(live) if isinstance(live, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = _patched(result.get(key), value)
    return result
