"""The kubelets of all hosts: sandboxes with addresses, containers that start, die, come back, and are probed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.quantity import to_bytes
from tests.simulation.clock import Clock
from tests.simulation.engine.disk import Disk
from tests.simulation.engine.network import Network
from tests.simulation.engine.node import Node, used_memory
from tests.simulation.kubernetes.container import Environment, HandOver, is_ready
from tests.simulation.kubernetes.startup import Startup
from tests.simulation.kubernetes.store import Key, Object, Store, rfc3339

PROBE_SECONDS: Final = 2.0
FAILURE_THRESHOLD: Final = 3
BACK_OFF: Final = (0.5, 0.5, 10.0, 20.0, 40.0)
"""Before the n-th restart of a container within ten minutes (CrashLoopBackOff begins at ten seconds)."""
REFRESH_SECONDS: Final = 60.0
"""A container that starts again finds files that are at most about so old (the kubelet's sync period)."""


@dataclass(eq=False)
class Sandbox:
    """A pod on its host."""

    key: Key
    uid: str
    host: str
    disk: Disk
    ip: str | None = None
    environment: Environment | None = None
    """What is mounted: set up once, still there when the container starts again, and refreshed now and then."""
    mounted_at: float = 0.0
    startup: Startup | None = None
    ready: bool = False
    failures: int = 0
    """Probes that have failed in a row."""
    restarts: int = 0
    started_at: float | None = None
    waiting: str = "ContainerCreating"
    ended: dict[str, Any] | None = None
    going: bool = False
    resources: Object | None = None
    """In force; None before it is set up."""
    resizing: str = ""
    """Reason of the condition PodResizePending (Deferred, Infeasible) or PodResizeInProgress (Error)."""
    restart_times: list[float] = field(default_factory=list)

    @property
    def node(self) -> Node | None:
        """The engine process, once the start script has come so far."""
        node = self.startup.node if self.startup else None
        return node if node is not None and node.alive else None


class Kubelets:
    """Runs pods."""

    def __init__(self, store: Store, clock: Clock, network: Network) -> None:
        self.store, self.clock, self.network = store, clock, network
        self._chance = clock.chance("kubelet")
        self.sandboxes: dict[str, Sandbox] = {}
        """By pod uid."""
        self.bad_images: set[str] = set()
        """Images that no registry has."""
        self.crashing_images: set[str] = set()
        """Images whose process ends at once."""
        self.dark: set[str] = set()
        """Hosts without power."""
        self.stranded: set[str] = set()
        """Hosts that run on and are cut off from all others."""
        self.ahead: dict[str, float] = {}
        """Seconds by which the clocks of hosts go ahead of the true time."""
        self.no_room: dict[str, str] = {}
        """Pods that cannot grow, with the reason (Deferred, Infeasible)."""
        self.slow_start = 0.3
        self.report_delay = 0.1
        """How long it takes at least until the end of a container is reported."""
        self.reuse_addresses = True
        """The address of a pod that is gone is the next one given out; else it is never given out again."""
        self.on_node: list[Callable[[Sandbox, Node], None]] = []
        """Told of every engine process that starts."""
        self._volumes: dict[str, Disk] = {}
        self._free = [f"10.1.{i // 200}.{i % 200 + 1}" for i in range(2000, 0, -1)]
        store.watchers.append(self._changed)

    def of(self, pod: str) -> Sandbox | None:
        """The sandbox of a pod by its name."""
        return next((s for s in self.sandboxes.values() if s.key.name == pod), None)

    def _changed(self, key: Key, body: Object | None) -> None:
        if key.kind == "Pod" and body is None:
            self._let_go(key)
        if key.kind != "Pod" or body is None or not body["spec"].get("nodeName"):
            return
        uid = body["metadata"]["uid"]
        if uid not in self.sandboxes:
            box = Sandbox(key, uid, body["spec"]["nodeName"], self._disk(key, uid, body))
            self.sandboxes[uid] = box
            self.clock.later(self.slow_start * (0.3 + self._chance.random()), self._set_up, box)
        box = self.sandboxes[uid]
        if box.resources is not None and box.resources != _engine(body)["resources"]:
            self.clock.later(0.1 + 0.9 * self._chance.random(), self._resize, box)
        if "deletionTimestamp" in body["metadata"] and not self.sandboxes[uid].going:
            self.sandboxes[uid].going = True
            self.clock.later(0.02 + 0.1 * self._chance.random(), self._tear_down, self.sandboxes[uid])

    def _let_go(self, key: Key) -> None:
        """A pod was deleted by force: its kubelet ends it when it hears of that."""
        for box in [b for b in self.sandboxes.values() if b.key == key and not b.going]:
            box.going = True
            self.clock.later(0.02 + 0.1 * self._chance.random(), self._tear_down, box)

    def exists(self, box: Sandbox) -> bool:
        """Its pod does, too."""
        return self._pod(box) is not None

    def _disk(self, key: Key, uid: str, pod: Object) -> Disk:
        inline = {v["name"] for v in pod["spec"].get("volumes", ()) if "persistentVolumeClaim" not in v}
        if names.DATA_VOLUME in inline:
            return Disk()
        claim = self.store.look(Key("PersistentVolumeClaim", key.namespace, f"{names.DATA_VOLUME}-{key.name}"))
        volume = claim["metadata"]["uid"] if claim is not None else uid
        return self._volumes.setdefault(volume, Disk())

    def give(self, claim: str, disk: Disk) -> None:
        """Whoever mounts the claim of this uid from now on finds this volume."""
        self._volumes[claim] = disk

    def _pod(self, box: Sandbox) -> Object | None:
        pod = self.store.look(box.key)
        return pod if pod is not None and pod["metadata"]["uid"] == box.uid else None

    # -- power -----------------------------------------------------------------------------------------------------

    def power_off(self, host: str) -> None:
        """Everything on the host stops, and nobody is told."""
        self.dark.add(host)
        for box in self._on(host):
            if box.ip is not None:
                self.network.darken(box.ip)
            if box.startup is not None:
                box.startup.end(orderly=False)
            box.startup, box.ready = None, False

    def power_on(self, host: str) -> None:
        """Its pods are set up again, at other addresses, as after every boot of a machine."""
        self.dark.discard(host)
        now = self.clock.now() + self.ahead.get(host, 0.0)
        for box in self._on(host):
            if box.ip is not None:
                self.network.lighten(box.ip)
                self._free.insert(0, box.ip)
                box.ip = None
            if box.started_at is not None:
                finished = {"startedAt": rfc3339(box.started_at), "finishedAt": rfc3339(now)}
                box.ended = {"exitCode": 255, "reason": "Unknown", "message": "", **finished}
                box.restarts += 1
            self.clock.later(1.0 + 2.0 * self._chance.random(), self._set_up, box)

    def strand(self, host: str) -> None:
        """It is cut off from all other hosts, and runs on."""
        self.stranded.add(host)
        self.network.strand({box.ip for box in self._on(host) if box.ip is not None})

    def rejoin(self, host: str) -> None:
        """It is heard again."""
        self.stranded.discard(host)
        self.network.rejoin({box.ip for box in self._on(host) if box.ip is not None})
        for box in self._on(host):
            self._report(box)

    def set_clock(self, host: str, seconds: float) -> None:
        """Somebody sets the machine's clock: so much forward, or back."""
        self.ahead[host] = self.ahead.get(host, 0.0) + seconds
        for box in self._on(host):
            if box.ip is not None:
                self.network.ahead[box.ip] = self.ahead[host]
            if box.node is not None:
                box.node.set_clock(self.ahead[host])

    def _now(self, box: Sandbox) -> float:
        return self.clock.now() + self.ahead.get(box.host, 0.0)

    def _on(self, host: str) -> list[Sandbox]:
        return [box for box in self.sandboxes.values() if box.host == host]

    # -- containers ------------------------------------------------------------------------------------------------

    def _set_up(self, box: Sandbox) -> None:
        pod = self._pod(box)
        if pod is None or box.going or box.host in self.dark:
            return
        missing = self._missing_volume(box, pod)
        if missing is not None:
            self.clock.later(0.5, self._set_up, box)
            self._report(box)
            return
        box.ip = box.ip or self._free.pop()
        self.network.ahead[box.ip] = self.ahead.get(box.host, 0.0)
        self._mount(box, pod)
        box.resources = _engine(pod)["resources"]
        image = _engine(pod)["image"]
        if image in self.bad_images:
            box.waiting = "ImagePullBackOff"
            self._report(box)
            return
        self._run(box)
        self.clock.later(PROBE_SECONDS * self._chance.random(), self._probe, box)

    def _resize(self, box: Sandbox) -> None:
        """In place, where there is room, and not below what is in use."""
        pod = self._pod(box)
        if pod is None or box.going or box.host in self.dark or box.resources == (wanted := _engine(pod)["resources"]):
            return
        used = used_memory(box.node) if box.node is not None else 0
        box.resizing = self.no_room.get(box.key.name, "")
        if not box.resizing and to_bytes(wanted["limits"]["memory"]) <= used:
            box.resizing = "Error"
        if box.resizing:
            self._report(box)
            self.clock.later(5.0, self._resize, box)
            return
        box.resources = wanted
        self._report(box)

    def _mount(self, box: Sandbox, pod: Object) -> None:
        """Files of ConfigMaps and Secrets; they follow their objects, but late."""
        box.environment = Environment.of(self.store, box.key.namespace, pod, box.ip or "")
        box.mounted_at = self.clock.now()

    def _missing_volume(self, box: Sandbox, pod: Object) -> str | None:
        for volume in pod["spec"].get("volumes", ()):
            for kind, field_, name in (("ConfigMap", "configMap", "name"), ("Secret", "secret", "secretName")):
                source = volume.get(field_)
                if (
                    source
                    and not source.get("optional")
                    and not self.store.exists(Key(kind, box.key.namespace, source[name]))
                ):
                    return str(source[name])
        return None

    def _run(self, box: Sandbox) -> None:
        """Start the container: its command is the start script."""
        pod = self._pod(box)
        if pod is None or box.going or box.environment is None or box.host in self.dark:
            return
        if self.clock.now() - box.mounted_at > REFRESH_SECONDS and self._missing_volume(box, pod) is None:
            self._mount(box, pod)
        box.started_at, box.waiting = self._now(box), ""
        chance = self.clock.chance(f"node {box.uid} {box.restarts}")
        limit = to_bytes((box.resources or _engine(pod)["resources"])["limits"]["memory"])
        started = partial(self._started, box)
        box.startup = Startup(box.environment, box.disk, self.network, chance, started, memory_limit=limit)
        self._report(box)
        if _engine(pod)["image"] in self.crashing_images:
            self.clock.later(0.2, self.kill, box, 1)
        else:
            box.startup.begin(lambda code, why: self._exit(box, code, "Error", why))

    def _started(self, box: Sandbox, node: Node) -> None:
        for listener in self.on_node:
            listener(box, node)

    def kill(self, box: Sandbox, code: int = 137) -> None:
        """SIGKILL to the container's process."""
        self._exit(box, code, "Error", "")

    def _exit(self, box: Sandbox, code: int, reason: str, message: str) -> None:
        if box.startup is None or box.going:
            return
        box.startup.end(orderly=False)
        box.startup, box.ready = None, False
        now = self._now(box)
        box.ended = {
            "exitCode": code,
            "reason": reason,
            "message": message,
            "startedAt": rfc3339(box.started_at or now),
            "finishedAt": rfc3339(now),
        }
        box.restart_times = [*(t for t in box.restart_times if now - t < 600), now]
        box.restarts += 1
        pause = BACK_OFF[min(len(box.restart_times), len(BACK_OFF)) - 1]
        box.waiting = "CrashLoopBackOff" if pause > 1 else ""
        self.clock.later(self.report_delay + 0.3 * self._chance.random(), self._report, box)
        self.clock.later(pause + 0.5 * self._chance.random(), self._run, box)

    def _probe(self, box: Sandbox) -> None:
        if box.uid not in self.sandboxes or box.going or box.host in self.dark:
            return
        passed = box.node is not None and is_ready(box.node)
        box.failures = 0 if passed else box.failures + 1
        ready = passed or (box.ready and box.failures < FAILURE_THRESHOLD)
        if ready != box.ready:
            box.ready = ready
            self._report(box)
        self.clock.later(PROBE_SECONDS, self._probe, box)

    # -- the end of a pod ------------------------------------------------------------------------------------------

    def _tear_down(self, box: Sandbox) -> None:
        """preStop, then SIGTERM, once there is power and the host hears of it."""
        if box.host in self.dark | self.stranded:
            self.clock.later(1.0, self._tear_down, box)
        elif box.node is not None and box.node.frozen:
            pod = self._pod(box)
            metadata = pod["metadata"] if pod is not None else {}
            self.clock.later(1.0 + metadata.get("deletionGracePeriodSeconds", 30), self._kill, box)
        elif box.node is not None:
            HandOver(box.node, lambda: self._terminate(box))
        else:
            self._terminate(box)

    def _kill(self, box: Sandbox) -> None:
        """Its grace is over."""
        if box.startup is not None:
            box.startup.end(orderly=False)
        self._terminate(box)

    def _terminate(self, box: Sandbox) -> None:
        if box.startup is not None:
            box.startup.end(orderly=True)
        self.clock.later(0.05 + 0.3 * self._chance.random(), self._remove, box)

    def _remove(self, box: Sandbox) -> None:
        self.sandboxes.pop(box.uid, None)
        if box.ip is not None and self.reuse_addresses:
            self._free.append(box.ip)
        if self._pod(box) is not None:
            self.store.remove(box.key)

    # -- status ----------------------------------------------------------------------------------------------------

    def _report(self, box: Sandbox) -> None:
        pod = self._pod(box)
        if pod is None or box.uid not in self.sandboxes or box.host in self.dark | self.stranded:
            return
        running = box.startup is not None
        state: Object
        if running:
            state = {"running": {"startedAt": rfc3339(box.started_at or 0.0)}}
        elif box.ended is not None and not box.waiting:
            state = {"terminated": box.ended}
        else:
            state = {"waiting": {"reason": box.waiting, "message": f"back-off: {box.waiting}"}}
        container: Object = {"name": names.CONTAINER, "state": state, "restartCount": box.restarts, "ready": box.ready}
        if box.ended is not None and "terminated" not in state:
            container["lastState"] = {"terminated": box.ended}
        conditions = [c for c in pod["status"].get("conditions", ()) if c["type"] == "PodScheduled"]
        conditions.append({"type": "Ready", "status": "True" if box.ready else "False"})
        if box.resources is not None:
            container["resources"] = box.resources
        if box.resizing:
            kind = "PodResizeInProgress" if box.resizing == "Error" else "PodResizePending"
            conditions.append({"type": kind, "status": "True", "reason": box.resizing, "message": "no room"})
        status = {
            "phase": "Running" if box.started_at is not None else "Pending",
            "conditions": conditions,
            "containerStatuses": [container],
        }
        if box.ip is not None:
            status["podIP"] = box.ip
        self.store.update({**pod, "status": status})


def _engine(pod: Object) -> Object:
    found: Object = next(c for c in pod["spec"]["containers"] if c["name"] == names.CONTAINER)
    return found
