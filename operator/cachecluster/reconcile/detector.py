"""The failure detector of one cluster: an idle connection to each of its nodes, whose end wakes the cluster's pass.

It tells what it has seen and decides nothing: CLIENT KILL ends a connection, too.

An election ends no connection and changes no pod where the operator hears a primary that its peers do not hear. So one
node after the other is asked whether it has heard of one, or sees no majority any more: a single question to a cluster
in GLANCE_SECONDS, on a connection that is there.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from cachecluster.domain.actions import Target
from cachecluster.domain.nodes import Ending, LostConnection, Mood, NodeId
from cachecluster.domain.snapshot import Snapshot
from cachecluster.engines.client import NodeError, NodeWatcher, Watched

REMEMBERED_SECONDS: Final = 600.0
"""An end that nothing has come of in so long says nothing any more."""

GLANCE_SECONDS: Final = 5.0

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class _Wire:
    """One connection, from the attempt to open it to its end."""

    target: Target
    host: str | None
    opening: asyncio.Task[None] | None = None
    connection: Watched | None = None
    over: bool = False

    def close(self) -> None:
        """Leave it, however far it has come."""
        self.over = True
        if self.opening is not None:
            self.opening.cancel()
        if self.connection is not None:
            self.connection.close()


@dataclass(frozen=True, slots=True)
class _End:
    """What has become of a connection."""

    wire: _Wire
    ending: Ending
    at: float


class Detector:
    """Idle connections to the nodes of one cluster, at most one to each; ``async with`` closes them."""

    def __init__(
        self,
        watcher: NodeWatcher,
        *,
        wake: Callable[[], None],
        changed: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        """``wake`` is called at each end of a connection, ``changed`` when a node's mood is not that of the last look.

        ``clock`` is one that nobody sets, in seconds.
        """
        self.alarm = asyncio.Event()
        """Set at each end; whoever begins to look clears it."""
        self._watcher = watcher
        self._wake = wake
        self._changed = changed
        self._clock = clock
        self._wires: dict[NodeId, _Wire] = {}
        self._ends: dict[NodeId, _End] = {}
        self._moods: dict[NodeId, Mood] = {}
        self._turns = itertools.count()
        self._glances: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        """Nothing is connected yet."""
        self._glances = asyncio.create_task(self._glance_now_and_then())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close everything."""
        attempts = {w.opening for w in self._wires.values() if w.opening is not None}
        if self._glances is not None:
            self._glances.cancel()
            attempts.add(self._glances)
        for wire in self._wires.values():
            wire.close()
        self._wires.clear()
        if attempts:
            await asyncio.wait(attempts)

    def lost(self) -> Mapping[NodeId, LostConnection]:
        """Nodes whose connection has ended and to which no other could be opened since."""
        now = self._clock()
        self._ends = {i: e for i, e in self._ends.items() if now - e.at < REMEMBERED_SECONDS}
        return {
            i: LostConnection(t.pod, t.uid, t.ip, e.wire.host, e.ending, e.at, now - e.at)
            for i, e in self._ends.items()
            for t in [e.wire.target]
        }

    def connected(self) -> Mapping[str, NodeId]:
        """Nodes whose connection is open, by uid of their pods."""
        return {w.target.uid: i for i, w in self._wires.items() if w.connection is not None and not w.over}

    def follow(self, snap: Snapshot, password: str) -> None:
        """Connect to every node that has answered and is not connected yet.

        A pod that is gone keeps its connection until that ends: a process may outlive its pod's object.
        """
        self._wires = {i: wire for i, wire in self._wires.items() if not wire.over}
        self._moods = {
            view.node_id: Mood(view.current_epoch, view.cluster_state_ok, view.unwritten)
            for pod in snap.pods
            if (view := snap.view(pod.name)) is not None
        }
        for pod in snap.pods:
            view = snap.view(pod.name)
            if view is None or pod.ip is None:
                continue
            target = Target(pod.name, pod.uid, pod.ip, view.node_id, pod.shard)
            known = self._wires.get(target.node_id)
            if known is not None and known.target == target:
                continue
            if known is not None:
                known.close()
            wire = self._wires[target.node_id] = _Wire(target, pod.host)
            wire.opening = asyncio.create_task(self._open(wire, password))

    async def _open(self, wire: _Wire, password: str) -> None:
        target = wire.target
        try:
            wire.connection = await self._watcher.watch(
                target.ip, password, target.node_id, lambda ending: self._ended(wire, ending)
            )
        except NodeError as error:
            wire.over = True
            log.debug("no connection to %s: %s", target.pod, error)
            return
        if not wire.over:  # else it has ended already
            self._ends.pop(target.node_id, None)

    async def _glance_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(GLANCE_SECONDS)
            self.glance()

    def glance(self) -> None:
        """Ask the next node for its mood. One to which no connection could be opened is looked at again."""
        if any(wire.over and node_id not in self._ends for node_id, wire in self._wires.items()):
            self._changed()
        open_ = [(i, w.connection) for i, w in self._wires.items() if w.connection is not None and not w.over]
        if open_:
            node_id, connection = open_[next(self._turns) % len(open_)]
            connection.ask(lambda mood: self._told(node_id, mood))

    def _told(self, node_id: NodeId, mood: Mood) -> None:
        """Once for each change: whoever is woken looks, or does not come to it now."""
        if self._moods.get(node_id, mood) != mood:
            self._moods[node_id] = mood
            log.info("a node's epoch, its view of the majority or its volume is not what it was: %s", mood)
            self._changed()

    def _ended(self, wire: _Wire, ending: Ending) -> None:
        wire.over = True
        self._ends[wire.target.node_id] = _End(wire, ending, self._clock())
        log.info("the connection to %s has ended (%s)", wire.target.pod, ending.value)
        self.alarm.set()
        self._wake()
