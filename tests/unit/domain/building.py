"""Snapshots for planner tests, built like the clusters they describe: a few words, sensible everything else."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, PersistenceMode
from cachecluster.domain.access import Rights
from cachecluster.domain.drift import key_of, stamped, with_partition
from cachecluster.domain.layout import members_by_shard
from cachecluster.domain.memory import PARAMETER, maxmemory
from cachecluster.domain.nodes import Ending, LostConnection, NodeId, NodeView, Peer, ReplicaLink, Role, Unreachable
from cachecluster.domain.slots import NO_SLOTS, SlotSet, share
from cachecluster.domain.snapshot import ClusterRef, Container, ContainerState, ForeignId, Host, Manifest, Pod, Snapshot

NOW = 1_000_000.0
CLOCK = 500.0
"""The same moment by the clock of the failure detector."""
REF = ClusterRef("shop", "cart", "uid-cart")


def spec_of(shards: int = 3, replicas: int = 1, **more: Any) -> CacheClusterSpec:
    """A valid spec."""
    return CacheClusterSpec.model_validate(
        {
            "engine": "Valkey",
            "version": "8.1",
            "topology": {"mode": "Cluster", "shards": shards, "replicasPerShard": replicas},
            "resources": {"limits": {"memory": "256Mi"}},
            **more,
        }
    )


def statefulset(
    shard: int, members: int, *, template: str = "t1", formed: SlotSet = NO_SLOTS, history: str = ""
) -> Manifest:
    """The smallest StatefulSet that the policies understand."""
    annotations = {names.ANNOTATION_TEMPLATE: template}
    if formed:
        annotations[names.ANNOTATION_FORMED] = str(formed)
    if history:
        annotations[names.ANNOTATION_HISTORY] = history
    container = {"name": names.CONTAINER, "image": f"image-{template}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": {
            "name": names.shard_name(REF.name, shard),
            "namespace": REF.namespace,
            "annotations": annotations,
            "ownerReferences": [{"kind": names.KIND, "name": REF.name, "uid": REF.uid, "controller": True}],
        },
        "spec": {
            "replicas": members,
            "template": {"spec": {"containers": [container]}},
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": members}},
        },
    }


def as_live(manifest: Manifest, *, update: str = "rev-t1", current: str = "rev-t1") -> Manifest:
    """The object as the API server would hold it."""
    stamp = stamped(manifest)
    metadata = {**stamp["metadata"], "uid": f"uid-{stamp['metadata']['name']}", "resourceVersion": "1", "generation": 1}
    status = {"observedGeneration": 1, "updateRevision": update, "currentRevision": current}
    return {**stamp, "metadata": metadata, "status": status}


@dataclass(frozen=True)
class Node:
    """One pod and the engine node in it."""

    shard: int
    ordinal: int
    role: Role = Role.PRIMARY
    slots: SlotSet = NO_SLOTS
    follows: str | None = None
    zone: str = "a"
    host: str = ""
    keys: int = 0
    offset: int = 100
    epoch: int = 0
    up: bool = True
    down_seconds: int | None = None
    last_io: int | None = 0
    syncing: bool = False
    pong_age: float = 0.1
    """Since the others have heard of it."""
    suspected: bool = False
    """They have waited in vain for its answer."""
    answers: bool = True
    hidden: bool = False
    """The others do not list it, but for a ghost of it."""
    refuses: bool = False
    """If it does not answer: its machine says that nobody listens."""
    ready: bool = True
    deleting: bool = False
    age: float = 100
    revision: str = "rev-t1"
    label: str | None = ""
    quarantined: bool = False
    history: str = "h1"
    """Replication history; histories of different shards differ, unless ``strayed_to`` names another shard."""
    previous_history: str = "0" * 40
    strayed_to: int | None = None
    container: Container | None = None
    version: str = "8.1.1"
    parameters: Mapping[str, str] = field(default_factory=dict)
    users: Mapping[str, Rights] = field(default_factory=dict)
    good_replicas: int | None = None
    replica_lag: int | None = None
    fence: str = ""
    """What is written down on its pod."""
    generation: int = 0
    """Counts the lives of the node: a blank restart has another id."""

    @property
    def name(self) -> str:
        return names.pod_name(REF.name, self.shard, self.ordinal)

    @property
    def node_id(self) -> NodeId:
        return NodeId(f"id-{self.shard}-{self.ordinal}-{self.generation}")

    @property
    def ip(self) -> str:
        return f"10.0.{self.shard}.{self.ordinal}"

    @property
    def host_name(self) -> str:
        return self.host or f"host-{self.zone}"


def row(node: Node) -> Peer:
    """The node as the others list it."""
    flags = {"master" if node.role is Role.PRIMARY else "slave", *(["fail?"] if node.suspected else [])}
    follows = NodeId(node.follows) if node.follows else None
    age, asked = node.pong_age, node.pong_age > 2  # every node asks the others every two seconds or so
    return Peer(node.node_id, node.ip, 6379, 26379, frozenset(flags), follows, node.epoch, True, age, node.slots, asked)


def gone(node_id: str, slots: SlotSet, *, epoch: int = 1, ip: str = "10.9.9.9", flags: str = "master,fail") -> Peer:
    """The row of a node that is not there any more."""
    return Peer(NodeId(node_id), ip, 6379, 26379, frozenset(flags.split(",")), None, epoch, False, 60.0, slots)


@dataclass(frozen=True)
class Cluster:
    """A cluster in words; ``snapshot()`` makes it what a pass would see."""

    nodes: tuple[Node, ...]
    spec: CacheClusterSpec = field(default_factory=spec_of)
    ghosts: tuple[Peer, ...] = ()
    strangers: bool = False
    """Nobody has met anybody."""
    formed: bool = True
    recorded: Mapping[int, SlotSet] = field(default_factory=dict)
    """Slots that shards have served, where it is not their usual share."""
    histories: Mapping[int, str] = field(default_factory=dict)
    """Replication histories that are written down, of shards that have such."""
    template: str = "t1"
    live_partition: int | None = None
    live_members: int | None = None
    present: Mapping[int, int] = field(default_factory=dict)
    """Members that shards have beyond the spec."""
    update: str = "rev-t1"
    current: str = "rev-t1"
    foreign_alive_since: float | None = None
    cordoned: frozenset[str] = frozenset()
    lost: Mapping[NodeId, LostConnection] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    def with_end(self, shard: int, ordinal: int, ending: Ending, seconds: float = 0.1) -> "Cluster":
        """The same cluster after the operator's connection to one node has ended."""
        node = next(n for n in self.nodes if (n.shard, n.ordinal) == (shard, ordinal))
        at = CLOCK - seconds
        connection = LostConnection(node.name, f"uid-{node.name}", node.ip, node.host_name, ending, at, seconds)
        return replace(self, lost={**self.lost, node.node_id: connection})

    def with_node(self, shard: int, ordinal: int, **changes: Any) -> "Cluster":
        """The same cluster with one node changed."""
        nodes = (replace(n, **changes) if (n.shard, n.ordinal) == (shard, ordinal) else n for n in self.nodes)
        return replace(self, nodes=tuple(nodes))

    def snapshot(self) -> Snapshot:
        members = members_by_shard(self.spec, self.present)
        planned = share(self.spec.topology.shards)
        usual = dict(enumerate(planned)) if self.formed else {}
        formed = {s: self.recorded.get(s, usual.get(s, NO_SLOTS)) for s in members}
        desired = [statefulset(s, n, template=self.template, formed=formed[s]) for s, n in members.items()]
        live = [self._live(s, self.live_members or n, formed[s]) for s, n in members.items()]
        foreign = tuple(ForeignId(g.node_id, g.ip, self.foreign_alive_since) for g in self.ghosts)
        hosts = {
            n.host_name: Host(n.host_name, {names.ZONE_LABEL: n.zone}, n.host_name not in self.cordoned, True)
            for n in self.nodes
        }
        snap = Snapshot(
            ref=REF,
            generation=3,
            now=NOW,
            spec=self.spec,
            finalizer_visible=True,
            annotations={},
            status={},
            system_secret_exists=True,
            desired=tuple(desired),
            children={key_of(o): o for o in live},
            pods=tuple(self._pod(n) for n in self.nodes),
            hosts=hosts,
            views={n.name: self._view(n) for n in self.nodes},
            foreign=foreign,
            lost=self.lost,
        )
        return replace(snap, **self.more)

    def _live(self, shard: int, members: int, formed: SlotSet) -> Manifest:
        template, history = self.update.removeprefix("rev-"), self.histories.get(shard, "")
        stored = statefulset(shard, members, template=template, formed=formed, history=history)
        partition = members if self.live_partition is None else self.live_partition
        return as_live(with_partition(stored, partition), update=self.update, current=self.current)

    def _pod(self, node: Node) -> Pod:
        label = node.label
        if label == "":
            label = node.role.value if self.formed and (node.slots or node.role is Role.REPLICA) else None
        running = Container(ContainerState.RUNNING, "", "", 0, NOW - 100, "", None)
        return Pod(
            name=node.name,
            uid=f"uid-{node.name}",
            shard=node.shard,
            ordinal=node.ordinal,
            ip=node.ip,
            host=node.host_name,
            phase="Running",
            ready=node.ready and node.answers,
            deleting=node.deleting,
            created_at=NOW - node.age,
            unschedulable=None,
            revision=node.revision,
            role_label=label,
            container=node.container or running,
            fence=node.fence,
            has_volume=self.spec.persistence_mode is not PersistenceMode.NONE,
        )

    def _view(self, node: Node) -> NodeView | Unreachable:
        if not node.answers:
            return Unreachable("no answer", NOW - 1, refused=node.refuses)
        others = () if self.strangers else tuple(row(n) for n in self.nodes if n.name != node.name and not n.hidden)
        me = row(node)
        myself = replace(me, flags=me.flags | {"myself"}, pong_age=None)
        link = (
            ReplicaLink(node.up, node.syncing, node.down_seconds, node.last_io, "")
            if node.role is Role.REPLICA
            else None
        )
        return NodeView(
            node_id=node.node_id,
            run_id=f"run-{node.name}-{node.generation}",
            version=node.version,
            role=node.role,
            loading=False,
            keys=node.keys,
            used_memory=1_000_000,
            replication_id=_history(node, node.history),
            previous_replication_id=_history(node, node.previous_history),
            offset=node.offset,
            link=link,
            cluster_state_ok=True,
            current_epoch=9,
            quarantined=node.quarantined,
            peers=(myself, *others, *self.ghosts),
            parameters={PARAMETER: str(maxmemory(self.spec)), **node.parameters},
            users=node.users,
            good_replicas=node.good_replicas,
            replica_lag=node.replica_lag,
            logs=self.spec.persistence_mode is PersistenceMode.APPEND_ONLY,
        )


def _history(node: Node, name: str) -> str:
    return f"{node.shard if node.strayed_to is None else node.strayed_to}-{name}"


ZONES = "abc"


def blank(shards: int = 3, replicas: int = 1, **more: Any) -> Cluster:
    """Pods that run and have never met."""
    nodes = tuple(Node(s, o, zone=ZONES[(s + o) % 3]) for s in range(shards) for o in range(replicas + 1))
    return Cluster(nodes, spec=spec_of(shards, replicas, **more), strangers=True, formed=False)


def formed(shards: int = 3, replicas: int = 1, **more: Any) -> Cluster:
    """A healthy cluster; ordinal 0 leads each shard."""
    planned = share(shards)
    nodes = []
    for s in range(shards):
        leader = Node(s, 0, slots=planned[s], zone=ZONES[s % 3], keys=10, epoch=s + 1)
        nodes.append(leader)
        nodes += [
            Node(s, o, Role.REPLICA, follows=leader.node_id, zone=ZONES[(s + o) % 3], keys=10, epoch=s + 1)
            for o in range(1, replicas + 1)
        ]
    return Cluster(tuple(nodes), spec=spec_of(shards, replicas, **more))
