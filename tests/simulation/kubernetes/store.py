"""The objects of a Kubernetes API server, their versions, and the garbage collector."""

import marshal
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, Final, NamedTuple

from tests.simulation.clock import Clock

Object = dict[str, Any]

HISTORY: Final = 40
"""Earlier states that a stale read may show."""


class Key(NamedTuple):
    """Names an object."""

    kind: str
    namespace: str
    name: str


@dataclass(frozen=True)
class Entry:
    """One stored version. The body is kept packed, so that whoever may change it gets a copy of their own."""

    packed: bytes
    labels: dict[str, str]
    uid: str
    owners: tuple[str, ...]
    """Uids of the objects that it goes with."""

    @property
    def body(self) -> Object:
        """A fresh copy."""
        unpacked: Object = marshal.loads(self.packed)  # noqa: S302  (our own bytes, never left the process)
        return unpacked

    @cached_property
    def shared(self) -> Object:
        """One copy for all who only read."""
        return self.body

    @property
    def intact(self) -> bool:
        """Nobody has changed the shared copy."""
        return "shared" not in self.__dict__ or self.shared == self.body


def rfc3339(seconds: float) -> str:
    """Whole seconds, as the API server writes times."""
    return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


Table = dict[str, Entry]


class Store:
    """Objects by kind and namespace. Controllers write here directly; clients go through the API server."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._tables: dict[tuple[str, str], Table] = {}
        self._past: dict[tuple[str, str], deque[tuple[float, Table]]] = {}
        """Earlier states, each with the time at which it was replaced."""
        self._version = 100
        self._chance = clock.chance("store")
        self.watchers: list[Callable[[Key, Object | None], None]] = []
        """Told of every change; None: the object is gone."""
        self.applied: dict[str, Object] = {}
        """By uid: what our field manager sent last."""

    # -- reading ---------------------------------------------------------------------------------------------------

    def get(self, key: Key) -> Object | None:
        """A copy of the object, for who changes it."""
        entry = self._tables.get((key.kind, key.namespace), {}).get(key.name)
        return entry.body if entry is not None else None

    def look(self, key: Key) -> Object | None:
        """The object, only to be read."""
        entry = self._tables.get((key.kind, key.namespace), {}).get(key.name)
        return entry.shared if entry is not None else None

    def exists(self, key: Key) -> bool:
        """Whether there is such an object."""
        return key.name in self._tables.get((key.kind, key.namespace), {})

    def select(self, kind: str, namespace: str, selector: str = "", *, age: float = 0.0) -> list[Object]:
        """All matching objects, by name, only to be read; ``age``: as they were so many seconds ago, or a bit later."""
        table = self._tables.get((kind, namespace), {})
        if age:
            moment = self.clock.now() - age
            past = self._past.get((kind, namespace), ())
            table = next((state for replaced, state in past if replaced > moment), table)
        wanted = [part.split("=", 1) for part in selector.split(",") if part]
        return [e.shared for _, e in sorted(table.items()) if all(e.labels.get(k) == v for k, v in wanted)]

    def changed_by_readers(self) -> list[str]:
        """Objects of which somebody who was only to read them has changed the shared copy."""
        return [f"{k[0]} {name}" for k, t in self._tables.items() for name, e in t.items() if not e.intact]

    def bodies(self, *kinds: str) -> Iterator[tuple[Key, Object]]:
        """Everything, or all of some kinds, only to be read."""
        for (kind, namespace), table in sorted(self._tables.items()):
            if not kinds or kind in kinds:
                for name, entry in sorted(table.items()):
                    yield Key(kind, namespace, name), entry.shared

    # -- writing ---------------------------------------------------------------------------------------------------

    def insert(self, body: Object) -> Object:
        """A new object: gets its uid and times."""
        meta = body["metadata"]
        meta["uid"] = f"{self._chance.getrandbits(128):032x}"
        meta["creationTimestamp"] = rfc3339(self.clock.now())
        meta["generation"] = 1
        return self._put(body)

    def update(self, body: Object) -> Object:
        """A changed object: a new version, and a new generation if its spec has changed."""
        key, body = key_of(body), {**body, "metadata": dict(body["metadata"])}
        before = self.look(key)
        if before is None:
            raise KeyError(key)
        ignored = {"resourceVersion", "generation"}
        if _without(before, ignored) == _without(body, ignored):
            return before
        if before.get("spec") != body.get("spec"):
            body["metadata"]["generation"] = before["metadata"]["generation"] + 1
        if "deletionTimestamp" in body["metadata"] and not body["metadata"].get("finalizers") and key.kind != "Pod":
            self.remove(key)
            return body
        return self._put(body)

    def _put(self, body: Object) -> Object:
        key, meta = key_of(body), body["metadata"]
        self._version += 1
        meta["resourceVersion"] = str(self._version)
        self._remember(key)
        owners = tuple(o["uid"] for o in meta.get("ownerReferences", ()))
        entry = Entry(marshal.dumps(body), dict(meta.get("labels", {})), meta["uid"], owners)
        self._tables.setdefault((key.kind, key.namespace), {})[key.name] = entry
        self._tell(key, body)
        return entry.shared

    def _remember(self, key: Key) -> None:
        place = (key.kind, key.namespace)
        past = self._past.setdefault(place, deque(maxlen=HISTORY))
        past.append((self.clock.now(), dict(self._tables.get(place, {}))))

    def delete(self, key: Key, grace: int | None = None) -> None:
        """Ask for deletion: at once, or when the finalizers (of a pod with a grace: its kubelet) allow it."""
        body = self.get(key)
        if body is not None and key.kind == "Pod" and grace == 0:
            self.remove(key)
            return
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        if body["metadata"].get("finalizers") or (key.kind == "Pod" and body.get("spec", {}).get("nodeName")):
            body["metadata"]["deletionTimestamp"] = rfc3339(self.clock.now())
            if grace is not None:
                body["metadata"]["deletionGracePeriodSeconds"] = grace
            self._put(body)
        else:
            self.remove(key)

    def delete_alone(self, key: Key) -> None:
        """Ask for deletion of the object alone: the garbage collector frees what it owns first, one by one."""
        body = self.get(key)
        if body is not None and "deletionTimestamp" not in body["metadata"]:
            body["metadata"]["deletionTimestamp"] = rfc3339(self.clock.now())
            body["metadata"]["finalizers"] = [*body["metadata"].get("finalizers", ()), "orphan"]
            self._put(body)
            self.clock.later(0.02 + 0.2 * self._chance.random(), self._free, key, body["metadata"]["uid"])

    def _free(self, key: Key, uid: str) -> None:
        for _, body in list(self.bodies()):
            owners = body["metadata"].get("ownerReferences", ())
            kept = [o for o in owners if o["uid"] != uid]
            if len(kept) < len(owners):
                self.update({**body, "metadata": {**body["metadata"], "ownerReferences": kept}})
                self.clock.later(0.01 + 0.05 * self._chance.random(), self._free, key, uid)
                return
        owner = self.look(key)
        if owner is not None and owner["metadata"]["uid"] == uid:
            self.remove(key)

    def remove(self, key: Key) -> None:
        """Gone; what it owned follows."""
        table = self._tables.get((key.kind, key.namespace), {})
        entry = table.get(key.name)
        if entry is None:
            return
        self._version += 1
        self._remember(key)
        del table[key.name]
        self.applied.pop(entry.uid, None)
        self._tell(key, None)
        self.clock.later(0.05 + 0.5 * self._chance.random(), self._collect, entry.uid)

    def _collect(self, owner: str) -> None:
        """Delete what belongs to an owner that is gone."""
        owned = [
            Key(kind, namespace, name)
            for (kind, namespace), table in sorted(self._tables.items())
            for name, entry in sorted(table.items())
            if entry.owners and all(o == owner for o in entry.owners)
        ]
        for key in owned:
            self.delete(key)

    def _tell(self, key: Key, body: Object | None) -> None:
        for watcher in self.watchers:
            watcher(key, body)


def key_of(body: Object) -> Key:
    """Name of an object."""
    return Key(body["kind"], body["metadata"].get("namespace", ""), body["metadata"]["name"])


def _without(body: Object, fields: set[str]) -> Object:
    return {**body, "metadata": {k: v for k, v in body["metadata"].items() if k not in fields}}
