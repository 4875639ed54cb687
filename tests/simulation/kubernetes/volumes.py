"""The storage driver: makes volumes larger, sometime after their claims have asked for it."""

from tests.simulation.clock import Clock
from tests.simulation.kubernetes.statefulset import STORAGE_CLASS
from tests.simulation.kubernetes.store import Key, Object, Store


class Resizer:
    """One StorageClass, which allows volumes to grow unless a test says otherwise."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self.store, self.clock = store, clock
        self._chance = clock.chance("resizer")
        self.allow(expansion=True)
        store.watchers.append(self._changed)

    def allow(self, *, expansion: bool) -> None:
        """An administrator writes the StorageClass."""
        self.allowed = expansion
        key = Key("StorageClass", "", STORAGE_CLASS)
        if self.store.exists(key):
            self.store.remove(key)
        self.store.insert(
            {
                "apiVersion": "storage.k8s.io/v1",
                "kind": "StorageClass",
                "metadata": {"name": STORAGE_CLASS},
                "allowVolumeExpansion": expansion,
            }
        )

    def _changed(self, key: Key, body: Object | None) -> None:
        if key.kind == "PersistentVolumeClaim" and body is not None and _asked(body) != _given(body):
            self.clock.later(1.0 + 3.0 * self._chance.random(), self._grow, key)

    def _grow(self, key: Key) -> None:
        body = self.store.look(key)
        if body is not None and _asked(body) != _given(body):
            self.store.update({**body, "status": {**body["status"], "capacity": _asked(body)}})


def _asked(claim: Object) -> Object:
    return dict(claim["spec"]["resources"]["requests"])


def _given(claim: Object) -> Object:
    return dict(claim["status"]["capacity"])
