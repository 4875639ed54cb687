"""Machines, networks, clocks and what runs on them, Kubernetes included; and what befalls them. No operator yet."""

import random

from tests.simulation.clock import Clock, VirtualLoop
from tests.simulation.engine.network import OPERATOR, Network
from tests.simulation.kubernetes.kubelet import Kubelets, Sandbox
from tests.simulation.kubernetes.scheduler import Hosts, Scheduler
from tests.simulation.kubernetes.server import Server
from tests.simulation.kubernetes.statefulset import StatefulSets
from tests.simulation.kubernetes.store import Store
from tests.simulation.kubernetes.volumes import Resizer

NOT_READY_SECONDS = 50.0
"""Until a machine that does not report is marked (node-monitor-grace-period)."""
EXIT_SECONDS = 2.0
"""So long after it goes on, a process that has lost the lead has exited."""


class Site:
    """Where a world's clusters run."""

    def __init__(self, seed: int | str, zones: int, hosts: int) -> None:
        self.seed = seed
        self.loop = VirtualLoop()
        self.clock = Clock(self.loop, seed)
        self.chance: random.Random = self.clock.chance("world")
        self.trace: list[str] = []
        self.network = Network(self.clock)
        self.store = Store(self.clock)
        self.server = Server(self.store)
        self.hosts = Hosts.in_zones(zones, hosts)
        self.scheduler = Scheduler(self.store, self.clock, self.hosts)
        self.statefulsets = StatefulSets(self.store, self.clock)
        self.resizer = Resizer(self.store, self.clock)
        self.kubelets = Kubelets(self.store, self.clock, self.network)
        self.partitioned = False
        """A part has been cut off: asynchronous replication may then lose what was just acknowledged."""

    def note(self, what: str) -> None:
        """Write into the trace."""
        self.trace.append(f"{self.loop.time():9.3f} {what}")

    def wake_all(self) -> None:
        """Something that every operator watches has changed."""

    def cut_off(self, box: Sandbox) -> None:
        """A node can be reached by its clients alone."""
        self.partitioned = True
        others = {b.ip for b in self.kubelets.sandboxes.values() if b.ip is not None}
        self.network.isolate(box.ip or "", {*others, OPERATOR})

    def power_off(self, host: str) -> None:
        """A machine loses its power; after a while the API server counts it as not ready."""
        self.note(f"{host} loses its power")
        self.partitioned = True
        self.kubelets.power_off(host)
        self.clock.later(NOT_READY_SECONDS, self._report, host)

    def power_on(self, host: str) -> None:
        """It boots."""
        self.note(f"{host} has power again")
        self.kubelets.power_on(host)
        self.clock.later(5.0, self._report, host)

    def strand(self, host: str) -> None:
        """A machine runs on, and is cut off from all others and from the API server."""
        self.note(f"{host} is cut off")
        self.partitioned = True
        self.kubelets.strand(host)
        self.clock.later(NOT_READY_SECONDS, self._report, host)

    def rejoin(self, host: str) -> None:
        """It is heard again."""
        self.note(f"{host} is back")
        self.kubelets.rejoin(host)
        self.clock.later(5.0, self._report, host)

    def set_clock(self, host: str, seconds: float) -> None:
        """Somebody sets a machine's clock forward or back; the engine measures by it how long others are silent."""
        self.note(f"the clock of {host} is set by {seconds:+.0f} s")
        self.partitioned = True
        self.kubelets.set_clock(host, seconds)

    def _report(self, host: str) -> None:
        ready = host not in self.kubelets.dark | self.kubelets.stranded
        self.hosts.report(host, ready=ready, now=self.clock.now())
        self.wake_all()
