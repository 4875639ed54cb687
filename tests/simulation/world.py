"""A whole world under virtual time: Kubernetes, engine nodes, clients, and operators that get killed."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import Any, Self

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.reconcile.wake import Wake
from tests.simulation.engine.disk import Disk
from tests.simulation.engine.network import QUIET
from tests.simulation.engine.node import Node
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.kubernetes.store import Key, Object
from tests.simulation.operating.clients import History, Writer
from tests.simulation.operating.convergence import converged, unconverged
from tests.simulation.operating.faults import NO_FAULTS, Faults, Killed
from tests.simulation.operating.invariants import Watch
from tests.simulation.operating.operator import Operator, Recorder
from tests.simulation.operating.person import heeds
from tests.simulation.site import EXIT_SECONDS, Site

NAMESPACE = "shop"


class _Lines(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage() + (f" {record.exc_info[1]}" if record.exc_info else ""))


class World(Site):
    """Everything that there is. A context manager: closing it ends all that still runs."""

    def __init__(self, seed: int | str, *, zones: int = 3, hosts: int = 2, faults: Faults = NO_FAULTS) -> None:
        super().__init__(seed, zones, hosts)
        self.faults = faults
        self.loop.set_exception_handler(self._failed)
        self.logged: list[str] = []
        self.violations: list[str] = []
        self.owner: dict[Node, str] = {}
        self.history = History()
        self.watch = Watch(self)
        self.recorder = Recorder()
        self.passwords: list[str] = []
        self.operator_namespace = "cachecluster-system"
        self.leader: dict[str, Operator] = {}
        self.fading: list[Operator] = []
        """Processes that take themselves for the leader although another one leads."""
        self.operator_ahead = 0.0
        """Seconds by which the clock of the operators' machines goes ahead of the true time."""
        self.api_down = False
        """The operators cannot reach the API server; nor do watch events reach them."""
        self.incarnations = 0
        self.crashes = 0
        self.crash_at: int | None = None
        """Kill the first operator around its n-th write: see ``Interference.die_at``."""
        self._seen: dict[Key, Object] = {}
        self.store.watchers.append(self._wake)
        self._handler = _Lines(self.logged)
        logging.getLogger("cachecluster").addHandler(self._handler)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        logging.getLogger("cachecluster").removeHandler(self._handler)
        for operator in (*self.leader.values(), *self.fading):
            operator.way.dead = True
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()

    def _failed(self, loop: Any, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, Killed):
            self.violations.append(f"unhandled in the loop: {context.get('message')}: {error!r}")

    def violate(self, rule: str, what: str) -> None:
        """A safety rule is broken."""
        self.note(f"VIOLATION {rule}: {what}")
        self.violations.append(f"{rule} at {self.loop.time():.3f}: {what}")

    def new_password(self) -> str:
        """What the operator uses to make passwords here."""
        self.passwords.append(f"pw{self.chance.getrandbits(96):024x}")
        return self.passwords[-1]

    # -- clusters ----------------------------------------------------------------------------------------------------

    def create(self, spec: dict[str, Any], name: str = "cart") -> ClusterRef:
        """A user applies a CacheCluster; the framework adds its finalizer a little later."""
        body = {
            "apiVersion": names.API_VERSION,
            "kind": names.KIND,
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        }
        made = self.store.insert(body)
        ref = ClusterRef(NAMESPACE, name, made["metadata"]["uid"])
        self.clock.later(0.05 + 0.2 * self.chance.random(), self._add_finalizer, ref)
        self.start_operator(ref)
        return ref

    def _add_finalizer(self, ref: ClusterRef) -> None:
        if self.exists(ref) and "deletionTimestamp" not in self.cluster(ref)["metadata"]:
            body = self.cluster(ref)
            self.store.update({**body, "metadata": {**body["metadata"], "finalizers": [names.FINALIZER]}})

    def cluster(self, ref: ClusterRef) -> Object:
        """The CacheCluster as it is now, only to be read."""
        return self.server.read(names.KIND, ref.namespace, ref.name)

    def edit(self, ref: ClusterRef, change: Callable[[dict[str, Any]], None]) -> None:
        """A user edits the spec."""
        body = self.cluster(ref)
        spec = deepcopy(body["spec"])
        change(spec)
        self.note(f"user edits the spec: {spec}")
        self.store.update({**body, "spec": spec})

    def annotate(self, ref: ClusterRef, key: str, value: str | None) -> None:
        """A user annotates the CacheCluster; None takes the annotation away."""
        body = self.cluster(ref)
        annotations = {k: v for k, v in body["metadata"].get("annotations", {}).items() if k != key}
        if value is not None:
            annotations[key] = value
        self.note(f"user annotates: {key}={value}")
        self.store.update({**body, "metadata": {**body["metadata"], "annotations": annotations}})

    def accept_loss(self, ref: ClusterRef) -> None:
        """The user allows that nodes restart whose data exists nowhere else, as the message asks for it."""
        metadata = self.cluster(ref)["metadata"]
        restart = metadata.get("annotations", {}).get(names.ANNOTATION_RESTARTED)
        self.watch.loss_accepted = True
        consent = str(metadata["generation"]) + (f"@{restart}" if restart else "")
        self.annotate(ref, names.ANNOTATION_ACCEPT_LOSS, consent)

    def condition(self, ref: ClusterRef, kind: str) -> str:
        """Status of a condition."""
        conditions = self.cluster(ref).get("status", {}).get("conditions", ())
        return next((str(c["status"]) for c in conditions if c["type"] == kind), "absent")

    def delete(self, ref: ClusterRef) -> None:
        """kubectl delete."""
        self.note("user deletes the CacheCluster")
        self.store.delete(Key(names.KIND, ref.namespace, ref.name))

    def exists(self, ref: ClusterRef) -> bool:
        """The CacheCluster itself, not one that came later under its name."""
        body = self.store.look(Key(names.KIND, ref.namespace, ref.name))
        return body is not None and body["metadata"]["uid"] == ref.uid

    def is_empty(self, cluster: str) -> bool:
        """No object of the cluster is left, but volumes that the user wants kept."""
        left = [k for k, _ in self.store.bodies() if k.name.split("-")[0] == cluster]
        return all(k.kind == "PersistentVolumeClaim" for k in left) and not self.boxes(cluster)

    def cluster_of(self, box: Sandbox) -> str:
        """Name of the cluster that a sandbox belongs to."""
        pod = self.store.look(box.key)
        return str(pod["metadata"]["labels"][names.LABEL_CLUSTER]) if pod is not None else box.key.name.split("-")[0]

    def boxes(self, cluster: str) -> list[Sandbox]:
        """The pods of a cluster as its hosts run them, without those that were given up and still hang there."""
        boxes = [b for b in self.kubelets.sandboxes.values() if b.key.name.rsplit("-", 2)[0] == cluster]
        return [b for b in boxes if self.kubelets.exists(b)]

    def box_of(self, node: Node) -> Sandbox | None:
        """The sandbox that a process runs in."""
        boxes = self.kubelets.sandboxes.values()
        return next((b for b in boxes if b.startup is not None and b.startup.node is node), None)

    def disks(self, cluster: str) -> list[Disk]:
        """Volumes of pods that exist."""
        return [b.disk for b in self.boxes(cluster)]

    def formed(self, cluster: str) -> bool:
        """Some node owns slots."""
        return any(n.me.slots for n in self.watch.living(cluster))

    def primary(self, shard: int, cluster: str = "cart") -> Sandbox:
        """The pod that leads a shard."""
        boxes = [b for b in self.boxes(cluster) if b.key.name.startswith(f"{cluster}-{shard}-")]
        return next(b for b in boxes if b.node is not None and b.node.me.primary and b.node.me.slots)

    # -- operators ---------------------------------------------------------------------------------------------------

    def start_operator(self, ref: ClusterRef) -> Operator:
        """A new incarnation takes the lead."""
        self.incarnations += 1
        faults = self.faults if self.crashes < 25 else replace(self.faults, crash=0.0)
        operator = Operator(self, ref, self.incarnations, faults)
        operator.way.before_command = self.watch.command
        operator.way.sending = partial(self.watch.leading.sending, operator)
        operator.way.api_down = self.api_down
        if self.crashes == 0:
            operator.way.die_at = self.crash_at
        self.leader[ref.name] = operator
        operator.task.add_done_callback(lambda _: self._ended(operator))
        return operator

    def _ended(self, operator: Operator) -> None:
        """A process that has died is started again by Kubernetes."""
        if self.leader.get(operator.ref.name) is operator and not operator.abandoned:
            self.crashes += 1
            self.clock.later(0.1 + 2.0 * self.chance.random(), self._restart, operator)

    def _restart(self, operator: Operator) -> None:
        if self.leader.get(operator.ref.name) is operator:
            self.start_operator(operator.ref)

    def replace_stuck_leader(self, ref: ClusterRef, seconds: float) -> None:
        """The leader's machine freezes, another takes over; later the old one wakes up and is told that it lost."""
        old = self.leader[ref.name]
        old.way.freeze(self.loop.time() + seconds)
        self.note(f"op{old.number} freezes for {seconds} s")
        self.clock.later(seconds + EXIT_SECONDS, old.end)
        self.start_operator(ref)

    def have_two_leaders(self, ref: ClusterRef, seconds: float) -> None:
        """Another one takes the lead, and the one before takes itself for the leader a while longer; then it exits."""
        old = self.leader[ref.name]
        old.leads_until = self.loop.time() + seconds
        self.note(f"op{old.number} acts for {seconds:.1f} s beside another")
        self.fading.append(old)
        self.clock.later(seconds, self._fade, old)
        self.start_operator(ref)

    def _fade(self, operator: Operator) -> None:
        if operator in self.fading:
            self.fading.remove(operator)
            operator.end()

    def reach_api(self, *, on: bool) -> None:
        """Whether the operators can reach the API server."""
        self.note(f"the API server {'answers again' if on else 'does not answer the operators'}")
        self.api_down = not on
        for operator in (*self.leader.values(), *self.fading):
            operator.way.api_down = not on

    def set_operators_clock(self, seconds: float) -> None:
        """Somebody sets the clock of the operators' machines forward or back."""
        self.note(f"the clock of the operator is set by {seconds:+.0f} s")
        self.operator_ahead += seconds

    def stop_operators(self) -> None:
        """No operator runs any more."""
        for operator in self.leader.values():
            operator.end()
            operator.abandoned = True

    def kill_operator(self, ref: ClusterRef) -> None:
        """SIGKILL, whatever it is doing."""
        operator = self.leader[ref.name]
        self.note(f"op{operator.number} is killed")
        operator.end()

    def _wake(self, key: Key, body: Object | None) -> None:
        """A watch event reaches who looks after the cluster; of the CacheCluster's status it tells who wrote that."""
        if key.kind in {"ControllerRevision", "PersistentVolumeClaim"}:
            return
        new_spec = False
        if key.kind == names.KIND and body is not None:
            known = {k: v for k, v in body["metadata"].items() if k != "resourceVersion"}
            before, self._seen[key] = self._seen.get(key, {}), known
            if before == known:
                self._tell(key, lambda wake: wake.status_changed(body.get("status", {})))
                return
            new_spec = before.get("generation") != known["generation"]
        self._tell(key, lambda wake: wake.set(new_spec=new_spec))

    def _tell(self, key: Key, news: Callable[[Wake], None]) -> None:
        for operator in (*self.leader.values(), *self.fading):
            if key.namespace == operator.ref.namespace and not operator.way.dead and not self.api_down:
                self.clock.later(0.005, news, operator.wake)

    # -- time --------------------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run_forever()
        self.check()

    def until(self, condition: Callable[[], bool], what: str, seconds: float = 300.0, *, step: float = 0.1) -> float:
        """Let time pass in steps until it is so; how long that took. Raises AssertionError after ``seconds``."""
        began = self.loop.time()
        while not condition():
            if self.loop.time() - began > seconds:
                raise AssertionError(self.report(f"not so after {seconds:.0f} s: {what}"))
            self.wait(step)
        return self.loop.time() - began

    def write(self, ref: ClusterRef) -> Writer:
        """Start an application that writes."""
        return Writer(self, ref.name, self.cluster(ref)["spec"]["topology"]["shards"])

    def disturb(self, faults: Faults) -> None:
        """From now on the operator's requests go wrong like this."""
        self.faults = faults
        for operator in (*self.leader.values(), *self.fading):
            operator.way.faults = faults

    def wake_all(self) -> None:
        """Something that every operator watches has changed."""
        for operator in self.leader.values():
            operator.wake.set()

    def calm(self) -> None:
        """No more faults from now on."""
        self.faults, self.api_down = NO_FAULTS, False
        self.network.heal()
        self.network.noise = QUIET
        for operator in list(self.fading):
            self._fade(operator)
        for operator in self.leader.values():
            operator.way.faults, operator.way.die_at, operator.way.api_down = NO_FAULTS, None, False
            operator.way.freeze_at = None

    def converge(self, ref: ClusterRef, seconds: float = 300.0) -> float:
        """Wait until the cluster is whole and the operator has nothing left to do; then make sure that it rests. What
        is left to people somebody does meanwhile.
        """
        took = self.until(lambda: not heeds(self, ref) and converged(self, ref), "converged", seconds)
        self.assert_rests(ref)
        if changed := self.store.changed_by_readers():
            raise AssertionError(self.report(f"the operator has changed what it had only read: {changed}"))
        return took

    def assert_rests(self, ref: ClusterRef) -> None:
        """Another pass over a converged cluster writes nothing."""
        operator = self.leader[ref.name]
        passes, writes = operator.passes, operator.way.writes
        operator.wake.set()
        self.until(lambda: operator.passes > passes, "another pass", 60)
        self.wait(1.0)
        if self.leader[ref.name] is operator and operator.way.writes != writes:
            raise AssertionError(self.report("the operator writes although everything has converged"))

    def assert_writes_kept(self, ref: ClusterRef) -> None:
        """Every acknowledged write that some copy survived is at its slot's owner, once."""
        nodes = [b.node for b in self.boxes(ref.name) if b.node is not None and b.node.me.primary]
        owned = ((slot, some) for n in nodes for slot, some in n.tokens.items() if slot in n.me.slots)
        stored = Counter((slot, token) for slot, some in owned for token in some)
        for token, slot in self.history.acked.items():
            times = stored[slot, token]
            if times != (0 if token in self.history.lost else 1):
                raise AssertionError(self.report(f"{token} of slot {slot} is stored {times} times"))

    def check(self) -> None:
        """Raise if a rule has been broken so far."""
        if self.violations:
            raise AssertionError(self.report("; ".join(self.violations)))

    def report(self, what: str) -> str:
        """A failure with what led to it."""
        tail = "\n".join(self.trace[-60:])
        there = [operator.ref for operator in self.leader.values() if self.exists(operator.ref)]
        state = [line for ref in there for line in unconverged(self, ref)]
        return f"seed {self.seed}: {what}\nstate: {state}\n{tail}"
