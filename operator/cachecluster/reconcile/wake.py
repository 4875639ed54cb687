"""Who must look again: one wake-up flag for each cluster, and which clusters have pods on a Kubernetes node."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from cachecluster.api.status import says_the_same
from cachecluster.domain.snapshot import ClusterRef


class ClusterKey(NamedTuple):
    """Names a cluster in the events of its children, which do not know its uid."""

    namespace: str
    name: str


class Wake:
    """One cluster's flag. Any number of wake-ups before the next look are one."""

    def __init__(self) -> None:
        """Not woken."""
        self._woken = False
        self._new_spec = False
        self._alarm = False
        self._only_urgent = False
        self._told: Mapping[str, Any] | None = None
        self._waiter: asyncio.Future[Any] | None = None

    @property
    def new_spec(self) -> bool:
        """A new generation of the spec is among the causes: earlier failures say nothing about it."""
        return self._new_spec

    @property
    def urgent(self) -> bool:
        """There is a cause that ends a back-off: a new spec, or an alarm of the failure detector."""
        return self._new_spec or self._alarm

    def set(self, *, new_spec: bool = False, alarm: bool = False) -> None:
        """Wake."""
        self._woken = True
        self._new_spec |= new_spec
        self._alarm |= alarm
        if self._waiter is not None and not self._waiter.done() and (self.urgent or not self._only_urgent):
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Begin to look: from here on a wake-up asks for another look."""
        self._woken = self._new_spec = self._alarm = False
        self._told = None

    def told(self, status: Mapping[str, Any] | None) -> None:
        """A look has ended with this status; None: it was not for us to write one."""
        self._told = status

    def status_changed(self, status: Mapping[str, Any]) -> None:
        """Wake if somebody else has written it, such as a former leader that had stood still. While we look it is read
        anyway, or ours is on its way.
        """
        if self._told is not None and not says_the_same(status, self._told):
            self.set()

    async def wait(self, stop: "asyncio.Future[Any]", seconds: float, *, only_urgent: bool = False) -> None:
        """Until woken, or ``stop`` is done, or ``seconds`` are over."""
        if stop.done() or (self.urgent if only_urgent else self._woken):
            return
        self._only_urgent = only_urgent
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({stop, self._waiter}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiter.cancel()
            self._waiter = None


class Wakes:
    """All clusters' flags."""

    def __init__(self) -> None:
        """No cluster yet."""
        self._wakes: dict[ClusterKey, tuple[str, Wake]] = {}
        self._pods: dict[tuple[str, str], tuple[ClusterKey, str]] = {}
        self._on_node: dict[str, set[tuple[str, str]]] = {}

    def register(self, ref: ClusterRef) -> Wake:
        """The cluster's flag, for the one task that looks after it."""
        wake = Wake()
        self._wakes[ClusterKey(ref.namespace, ref.name)] = (ref.uid, wake)
        return wake

    def unregister(self, ref: ClusterRef) -> None:
        """Forget the flag, unless a new cluster of the same name has its own by now."""
        key = ClusterKey(ref.namespace, ref.name)
        if self.uid(key) == ref.uid:
            del self._wakes[key]
            for pod in [p for p, (cluster, _) in self._pods.items() if cluster == key]:
                self.pod_gone(*pod)

    def uid(self, key: ClusterKey) -> str | None:
        """uid of the cluster that is looked after under this name."""
        entry = self._wakes.get(key)
        return entry[0] if entry else None

    def wake(self, key: ClusterKey, *, new_spec: bool = False) -> None:
        """Wake one cluster; one that nobody looks after is none of ours, or is about to be looked at anyway."""
        entry = self._wakes.get(key)
        if entry is not None:
            entry[1].set(new_spec=new_spec)

    def status_changed(self, key: ClusterKey, status: Mapping[str, Any]) -> None:
        """The status of one cluster has been written."""
        entry = self._wakes.get(key)
        if entry is not None:
            entry[1].status_changed(status)

    def pod_seen(self, key: ClusterKey, pod: str, node: str | None) -> None:
        """Remember where a pod of a cluster runs."""
        self.pod_gone(key.namespace, pod)
        if node:
            self._pods[key.namespace, pod] = (key, node)
            self._on_node.setdefault(node, set()).add((key.namespace, pod))

    def pod_gone(self, namespace: str, pod: str) -> None:
        """Forget it."""
        entry = self._pods.pop((namespace, pod), None)
        if entry is not None:
            pods = self._on_node[entry[1]]
            pods.discard((namespace, pod))
            if not pods:
                del self._on_node[entry[1]]

    def wake_on(self, nodes: Iterable[str]) -> None:
        """Wake every cluster with a pod on one of these Kubernetes nodes."""
        for key in {self._pods[pod][0] for node in nodes for pod in self._on_node.get(node, ())}:
            self.wake(key)
