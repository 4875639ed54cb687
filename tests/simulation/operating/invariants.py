"""The safety rules S1..S13 of the design as checks on the true state of the simulated world."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, OnDataLoss
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.records import FILE
from cachecluster.domain.slots import SlotSet, union
from cachecluster.engines.client import SlotState
from tests.simulation.engine import replication
from tests.simulation.engine.disk import writes
from tests.simulation.engine.node import SLOTS_LOST, Node
from tests.simulation.engine.table import Row
from tests.simulation.kubernetes.kubelet import Sandbox
from tests.simulation.kubernetes.store import Key, Object
from tests.simulation.operating.clients import JUST_NOW_SECONDS
from tests.simulation.operating.leading import Leading
from tests.simulation.operating.secrets import Secrets
from tests.simulation.operating.wishes import Wishes

if TYPE_CHECKING:
    from tests.simulation.operating.operator import Operator
    from tests.simulation.world import World

PASS_BOUND_SECONDS: Final = 40.0


@dataclass(frozen=True, slots=True)
class Loss:
    """An acknowledged write of which no copy is left."""

    token: str
    slot: int
    why: str
    at: float
    age: float
    """Seconds since it was acknowledged."""

    @property
    def settled(self) -> bool:
        """It had long been on its way to the replicas."""
        return self.age > JUST_NOW_SECONDS


class Watch:
    """Is told of everything that happens, and compares it with the rules."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.losses: list[Loss] = []
        self.replaced: set[str] = set()
        """uids of pods that a roll has deleted."""
        self._told: dict[str, tuple[object, frozenset[str]]] = {}
        """By StatefulSet: its partition, and the uids of pods that were down when it was set."""
        self.loss_accepted = False
        self.given_up: set[str] = set()
        """Lost writes whose slots have been given out again since."""
        self.superseded: set[str] = set()
        """What only a primary has that was replaced while it lived."""
        self.thrown_away: set[str] = set()
        """What somebody has deleted with a pod, as told."""
        self.approved: set[tuple[str, int]] = set()
        """Incident and slot: what approvals have been used for."""
        self.leading = Leading(world)
        self.secrets = Secrets(world)
        self.wishes = Wishes(world)
        world.kubelets.on_node.append(self._started)
        world.store.watchers.append(self._set_partition)
        world.statefulsets.on_replace.append(self._replacing)
        world.statefulsets.on_surplus.append(self._removing)
        world.server.on_delete.append(self.deleting)

    # -- engine processes ------------------------------------------------------------------------------------------

    def _started(self, box: Sandbox, node: Node) -> None:
        cluster = self.world.cluster_of(box)
        self.world.owner[node] = cluster
        node.on_discard = self._discarded
        node.on_meet_row = self._acquainted
        stored = node.disk.dump is not None or node.disk.append_only is not None
        if node.me.primary and node.me.slots and not node.tokens and not stored:
            written = [t for t, slot in self.world.history.acked.items() if slot in node.me.slots]
            if written:
                self.world.violate("S5", f"{box.key.name} came back empty under its old id {node.node_id[:6]}")

    def _acquainted(self, node: Node, row: Row) -> None:
        other = next((n for n in self.world.owner if n.node_id == row.node_id), None)
        if other is not None and self.world.owner[other] != self.world.owner[node]:
            self.world.violate("S4", f"{node.ip} of {self.world.owner[node]} lists a node of {self.world.owner[other]}")

    def living(self, cluster: str) -> list[Node]:
        """Running processes of a cluster."""
        return [n for n, c in self.world.owner.items() if c == cluster and n.alive]

    def _discarded(self, node: Node, tokens: dict[int, tuple[str, ...]], why: str) -> None:
        history, cluster = self.world.history, self.world.owner[node]
        kept: set[str] = set()
        for other in self.living(cluster):
            if other is not node or why != "process ended":
                kept |= writes(other.tokens)
                if other.repl.primary is not None and other.repl.primary.alive:
                    kept |= {w.token for w in other.repl.pending if not w.gone}
        for disk in self.world.disks(cluster):
            kept |= writes(disk.tokens)
        for slot, some in tokens.items():
            for token in some:
                if token in history.acked and token not in kept and token not in history.lost:
                    history.lost.add(token)
                    at = self.world.loop.time()
                    self.losses.append(Loss(token, slot, why, at, at - history.acked_at[token]))
                    self._judge_loss(node, self.losses[-1])

    def _judge_loss(self, node: Node, loss: Loss) -> None:
        token, slot, why = loss.token, loss.slot, loss.why
        box = self.world.box_of(node)
        if why == SLOTS_LOST and token not in self.superseded and not self.world.partitioned:
            self.world.violate("S2", f"{node.ip} dropped the last copy of {token} with its slot {slot}")
        elif why.startswith("full sync") and loss.settled and not self.world.partitioned:
            self.world.violate("S3", f"{node.ip}: {why} wiped the last copy of {token} in slot {slot}")
        elif box is not None and box.uid in self.replaced and not self.loss_accepted:
            self.world.violate("S7", f"the roll took the last copy of {token} with {box.key.name}")

    # -- the operator's commands -------------------------------------------------------------------------------------

    def command(self, node: Node, name: str, arguments: tuple[Any, ...]) -> None:
        """Before an engine carries out what the operator says."""
        match name:
            case "failover":
                self.leading.promoting(node, arguments[0])
            case "forget":
                self._forgetting(node, arguments[0])
            case "add_slots":
                self._assigning(node, arguments[0])
            case "replicate":
                self._replicating(node)
            case "release":
                self._releasing(node)
            case "set_slots":
                self._setting_slots(node, *arguments)
            case "reset":
                self._resetting(node)

    def _forgetting(self, node: Node, node_id: str) -> None:
        alive = next((n for n in self.living(self.world.owner[node]) if n.node_id == node_id), None)
        if alive is not None:
            self.world.violate("S1", f"{node.ip} is told to forget {alive.ip}, which is alive")

    def _assigning(self, node: Node, slots: Any) -> None:
        for other in self.living(self.world.owner[node]):
            if other is not node and other.me.slots & slots:
                self.world.violate("S2", f"{node.ip} gets slots {slots} that {other.ip} owns")
        lost = self.world.history.lost
        waiting = [t for t, slot in self.world.history.acked.items() if slot in slots and t not in lost]
        holders = [d for d in self.world.disks(self.world.owner[node]) if any(s in slots for s in d.tokens)]
        if waiting and holders:
            self.world.violate("S2", f"{node.ip} gets slots {slots} whose data a volume still holds")

        self._giving_up(node, slots)

    def _giving_up(self, node: Node, slots: SlotSet) -> None:
        """Slots whose data is gone are given out again as the spec says, and each loss takes an approval of its own."""
        history = self.world.history
        gone = {t for t in history.lost if history.acked[t] in slots} - self.given_up
        if not gone:
            return
        self.given_up |= gone
        body = self.world.cluster(self.world.leader[self.world.owner[node]].ref)
        told = body.get("status", {}).get("dataLoss", {})
        if SlotSet.of(history.acked[t] for t in gone) - union(
            SlotSet.parse(s["slots"]) for s in told.get("shards", ())
        ):
            self.world.violate("S2", f"{node.ip} gets slots {slots} that the status does not tell to be lost")
        if CacheClusterSpec.parse(body["spec"]).on_data_loss is OnDataLoss.RECREATE:
            return
        approval = body["metadata"].get("annotations", {}).get(names.ANNOTATION_APPROVE_LOSS)
        uses = {(str(approval), history.acked[t]) for t in gone}
        if approval is None or approval != told.get("incident") or uses & self.approved:
            self.world.violate("S2", f"{node.ip} gets slots {slots} whose loss nobody has approved ({approval})")
        self.approved |= uses

    def _setting_slots(self, node: Node, slots: SlotSet, state: SlotState, peer: NodeId | None = None) -> None:
        """A slot changes hands, or is closed, only while the keys of it are at one place (engine-facts §1.3, §1.4)."""
        primaries = [n for n in self.living(self.world.owner[node]) if n.me.primary and not n.quarantined]
        for other in primaries:
            held = slots & SlotSet.of(other.tokens)
            if state is SlotState.NODE and peer == node.node_id != other.node_id and held & other.me.slots:
                self.world.violate("S2", f"{node.ip} is given slots {held} of which {other.ip} still holds keys")
            if state is SlotState.STABLE and held - other.me.slots:
                self.world.violate("S2", f"{node.ip}: slots {held} are closed, and {other.ip} holds some of their keys")

    def _replicating(self, node: Node) -> None:
        """A replica is about to be given its primary's data, whatever it took while it led beyond a cut."""
        if self.world.partitioned and not node.me.primary:
            return
        mine = (writes(node.tokens) & self.world.history.acked.keys()) - self.given_up
        for other in self.living(self.world.owner[node]):
            if other is not node:
                mine -= writes(other.tokens)
        if mine:
            self.world.violate("S3", f"{node.ip} becomes a replica and holds {len(mine)} writes that nobody else has")

    def _resetting(self, node: Node) -> None:
        if node.me.slots or node.keys:
            self.world.violate("S3", f"{node.ip} is reset although it has slots {node.me.slots}, {node.keys} keys")

    def _releasing(self, node: Node) -> None:
        mine = writes(node.tokens)
        for other in self.living(self.world.owner[node]):
            serves = not other.quarantined and not replication.refuses(other)
            if other is not node and serves and other.me.slots & node.me.slots:
                self.world.violate("S10", f"{node.ip} is released although {other.ip} serves its slots")
            if other.me.primary_id == node.node_id:
                newer = {t for s, some in other.tokens.items() if s in node.me.slots for t in some} - mine
                newer -= self.superseded
                if newer and node.me.primary:
                    self.world.violate("S5", f"{node.ip} is released although {other.ip} has {len(newer)} newer writes")

    # -- the roll ----------------------------------------------------------------------------------------------------

    def _set_partition(self, key: Key, body: Object | None) -> None:
        """The operator decides upon a pod by what it sees then: who goes down afterwards has not been asked for."""
        if key.kind != "StatefulSet" or body is None:
            return
        partition = body["spec"].get("updateStrategy", {}).get("rollingUpdate", {}).get("partition")
        if self._told.get(key.name, (None,))[0] != partition:
            self._told[key.name] = partition, frozenset(b.uid for b in self._down(key.name))

    def _down(self, shard: str) -> list[Sandbox]:
        boxes = self.world.kubelets.sandboxes.values()
        return [b for b in boxes if b.key.name.rpartition("-")[0] == shard and b.node is None]

    def _replacing(self, sts: Object, pod: Object) -> None:
        """The StatefulSet controller takes a pod because the operator has lowered the partition."""
        self.replaced.add(pod["metadata"]["uid"])
        self.wishes.replacing(pod)
        box = self.world.kubelets.sandboxes.get(pod["metadata"]["uid"])
        node = box.node if box is not None else None
        cluster = pod["metadata"]["labels"][names.LABEL_CLUSTER]
        if not self.world.formed(cluster) or node is None:
            return
        name = pod["metadata"]["name"]
        if node.me.primary and node.tokens and not self.loss_accepted and not box_persists(box):
            self.world.violate("S8", f"{name} is replaced although it is a primary with data")
        _, known = self._told.get(sts["metadata"]["name"], (None, frozenset[str]()))
        down = [b for b in self._down(sts["metadata"]["name"]) if b is not box and b.uid in known]
        if down:
            self.world.violate("S7", f"{name} is replaced while {down[0].key.name} is down")

    def _removing(self, pod: Object) -> None:
        """The StatefulSet controller takes a pod because the operator has lowered the number of replicas."""
        box = self.world.kubelets.sandboxes.get(pod["metadata"]["uid"])
        node = box.node if box is not None else None
        if node is not None and node.me.primary and node.me.slots:
            self.world.violate("S6", f"{pod['metadata']['name']} is removed although it owns slots {node.me.slots}")

    def deleting(self, kind: str, name: str) -> None:
        """The operator deletes an object."""
        if kind == "StatefulSet":
            self._deleting_set(name)
        if kind == "Pod":
            self._deleting_pod(name)
        if kind != "ConfigMap":
            return
        for key, body in self.world.store.bodies("Pod", "ControllerRevision"):
            template = body.get("data", {}) if key.kind == "ControllerRevision" else body
            volumes = template.get("spec", {}).get("volumes", ())
            used = any(v.get("configMap", {}).get("name") == name for v in volumes)
            if used and (key.kind == "Pod" or self._is_current(key)):
                self.world.violate("S11", f"ConfigMap {name} goes although {key.kind} {key.name} needs it")

    def _deleting_pod(self, name: str) -> None:
        """One that works, of a cluster that stays: who hangs, or whose machine nobody hears of, is lost already."""
        kubelets = self.world.kubelets
        box = next((b for b in kubelets.sandboxes.values() if b.key.name == name and not b.going), None)
        if box is None or box.node is None or not box.ready or box.node.frozen:
            return
        owner = self.world.store.look(Key(names.KIND, box.key.namespace, self.world.cluster_of(box)))
        if owner is None or "deletionTimestamp" in owner["metadata"]:
            return
        if box.host in kubelets.dark | kubelets.stranded:
            return
        if box.node.me.primary and box.node.me.slots:
            self.world.violate("S8", f"{name} is deleted although it leads")
        shard = [b for b in kubelets.sandboxes.values() if b.key.name.rpartition("-")[0] == name.rpartition("-")[0]]
        down = [b.key.name for b in shard if b is not box and b.node is None]
        if down:
            self.world.violate("S7", f"{name} is deleted while {down[0]} is down")

    def _deleting_set(self, name: str) -> None:
        """What the shard has served must be written down elsewhere, unless the whole cluster goes."""
        found = {(k.kind, k.name): b for k, b in self.world.store.bodies("StatefulSet", "ConfigMap", names.KIND)}
        body, record = found["StatefulSet", name], found.get(("ConfigMap", f"{name}-record"), {})
        formed = body["metadata"].get("annotations", {}).get(names.ANNOTATION_FORMED, "")
        owner = found.get((names.KIND, name.rpartition("-")[0]), {"metadata": {"deletionTimestamp": "gone"}})
        if "deletionTimestamp" not in owner["metadata"] and formed not in record.get("data", {}).get(FILE, ""):
            self.world.violate("S2", f"StatefulSet {name} goes and nothing tells that it has served {formed}")

    def _is_current(self, revision: Key) -> bool:
        sets = self.world.store.select("StatefulSet", revision.namespace)
        return any(s.get("status", {}).get("currentRevision") == revision.name for s in sets)

    # -- after passes ------------------------------------------------------------------------------------------------

    def after_pass(self, operator: "Operator", seconds: float) -> None:
        """A pass has ended."""
        if seconds > PASS_BOUND_SECONDS:
            self.world.violate("S13", f"a pass took {seconds:.0f} s")
        self.secrets.look()


def box_persists(box: Sandbox | None) -> bool:
    """Its data outlive the pod."""
    if box is None or box.startup is None:
        return False
    config = box.startup.environment.config
    return config.append_only or config.snapshots
