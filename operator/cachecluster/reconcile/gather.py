"""Read everything about one cluster into a Snapshot. Writes nothing; what fails to answer becomes Unreachable."""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, EngineVersion, PersistenceMode
from cachecluster.domain import fence
from cachecluster.domain.access import Rights
from cachecluster.domain.drift import key_of
from cachecluster.domain.layout import members_by_shard, present_members
from cachecluster.domain.live_parameters import remembered, wanted
from cachecluster.domain.nodes import Ending, LostConnection, NodeId, NodeView, Unreachable
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.records import is_record
from cachecluster.domain.requests import restarts
from cachecluster.domain.slots import NO_SLOTS, SlotSet, union
from cachecluster.domain.snapshot import (
    ClusterRef,
    ForeignId,
    InvalidSpec,
    Manifest,
    ObjectKey,
    Parameters,
    Pod,
    Snapshot,
)
from cachecluster.domain.topology import Topology, observe
from cachecluster.domain.validity import read_spec
from cachecluster.domain.volumes import present_sizes
from cachecluster.engines.client import NoAnswer, NobodyListens, NodeError
from cachecluster.kube.api import NotFound
from cachecluster.manifests import Facts, Passwords, acl, build
from cachecluster.reconcile.dependencies import Memory, Senses
from cachecluster.reconcile.detector import Detector
from cachecluster.reconcile.pods import parse_pod
from cachecluster.reconcile.refused_pods import refused_pods
from cachecluster.reconcile.resizes import with_resizes
from cachecluster.reconcile.slot_sizes import slot_bytes
from cachecluster.reconcile.storage_classes import storage_classes

CHILD_KINDS: Final = (
    ("apps/v1", "StatefulSet"),
    ("v1", "Service"),
    ("v1", "Secret"),
    ("v1", "ConfigMap"),
    ("policy/v1", "PodDisruptionBudget"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    ("v1", "PersistentVolumeClaim"),
)
REFUSAL_SECONDS: Final = 300.0
"""So long is what an engine has refused not tried again: its reason may lie outside of the spec."""
VIEW_SECONDS: Final = 4.0
"""Bound on asking one node; all are asked at once."""
NEWBORN_SECONDS: Final = 0.5
"""The same for a node whose container has only just started: what comes first must not wait for what comes later.
Packets to it are dropped, not refused, until its network policies are in place.
"""
NEWBORN_AGE_SECONDS: Final = 10.0
ALARMED_SECONDS: Final = 0.3
"""The same when a connection has only just been lost: a node that is silent must not hold a promotion up. The longer
ago that is, the more time there is again.
"""
SILENT_PASS_SECONDS: Final = 15.0
"""So long after a machine has fallen silent nobody waits for it any longer than that: by then a fence has expired."""


class Gone(Exception):
    """The CacheCluster does not exist any more, or another one has its name."""


class Reading:
    """A snapshot together with the passwords that the executor needs; the passwords never enter the snapshot."""

    __slots__ = ("passwords", "snapshot")

    def __init__(self, snapshot: Snapshot, passwords: Passwords | None) -> None:
        self.snapshot = snapshot
        self.passwords = passwords


async def gather(
    ref: ClusterRef,
    deps: Senses,
    memory: Memory,
    detector: Detector | None = None,
) -> Reading:
    """Read the cluster; raises Gone, or KubeError when the API server does not answer."""
    body, pods, *lists = await asyncio.gather(
        _cluster(ref, deps),
        deps.kube.list("v1", "Pod", ref.namespace, f"{names.LABEL_CLUSTER}={ref.name}"),
        *(deps.kube.list(v, k, ref.namespace, f"{names.LABEL_CLUSTER}={ref.name}") for v, k in CHILD_KINDS),
    )
    found = ((key_of(o), o) for objects in lists for o in objects)
    children = {key: o for key, o in found if not _stray_record(key, o, ref)}
    spec = read_spec(body["spec"], ref.name)
    if isinstance(spec, InvalidSpec):
        spec = replace(spec, paused=body["spec"].get("paused") is True)
    passwords = _passwords(ref, children)
    desired: tuple[Manifest, ...] = ()
    parsed = tuple(sorted((p for o in pods if (p := parse_pod(o)) is not None), key=lambda p: p.name))
    earlier = frozenset() if isinstance(spec, InvalidSpec) else _once_set(ref, spec, children, parsed)
    parameters = () if isinstance(spec, InvalidSpec) else wanted(spec, earlier)
    # before the nodes are asked: their answers tell what has become of it since
    lost, connected = (detector.lost(), detector.connected()) if detector is not None else ({}, {})
    asked = fence.ASKED | set(parameters)
    question = _Question(passwords.operator, asked, _patience(lost), _silent(lost)) if passwords is not None else None
    views = await _views(deps, memory, parsed, question)
    snapshot = Snapshot(
        ref=ref,
        generation=body["metadata"].get("generation", 0),
        now=deps.now(),
        spec=spec,
        finalizer_visible=names.FINALIZER in body["metadata"].get("finalizers", ()),
        annotations=body["metadata"].get("annotations", {}),
        status=body.get("status", {}),
        system_secret_exists=passwords is not None,
        desired=desired,
        children=children,
        pods=parsed,
        hosts=deps.hosts(),
        views=views,
        foreign=_foreign(parsed, views, memory, deps.now()),
        users={} if isinstance(spec, InvalidSpec) or passwords is None else _users(spec, passwords, views),
        refusals=_refusals(memory, deps.now()),
        lost=lost,
        connected=connected,
    )
    if not isinstance(spec, InvalidSpec):
        topology = observe(snapshot)
        present = present_members(ref.name, children, parsed)
        restarted = restarts(ref.name, members_by_shard(spec, present), snapshot.annotations, children)
        facts = Facts(
            ref,
            deps.operator_namespace,
            passwords,
            _formed(topology),
            _histories(topology, spec),
            present,
            restarted,
            earlier,
            present_sizes(ref, children),
        )
        desired = build(spec, facts)
        children |= await _unlabelled(ref, deps, desired, children)
        classes = await storage_classes(deps.kube, ref, spec, children)
        sizes = await slot_bytes(topology, deps, passwords.operator) if passwords is not None else {}
        refused = await refused_pods(ref, deps, memory, children, parsed)
        snapshot = replace(
            snapshot,
            desired=desired,
            children=children,
            storage_classes=classes,
            slot_bytes=sizes,
            refused_pods=refused,
        )
        snapshot = await with_resizes(snapshot, deps, memory)
    return Reading(snapshot, passwords)


async def _cluster(ref: ClusterRef, deps: Senses) -> dict[str, Any]:
    try:
        body = await deps.kube.get(names.API_VERSION, names.KIND, ref.namespace, ref.name)
    except NotFound as e:
        raise Gone(str(ref)) from e
    if body["metadata"]["uid"] != ref.uid or "deletionTimestamp" in body["metadata"]:
        raise Gone(str(ref))
    return body


def _stray_record(key: ObjectKey, body: Manifest, ref: ClusterRef) -> bool:
    """What is written down of a StatefulSet of another cluster, or by somebody else, says nothing about ours."""
    return is_record(key) and owner_uid(body) != ref.uid


def _passwords(ref: ClusterRef, children: Mapping[ObjectKey, Manifest]) -> Passwords | None:
    """From the system Secret, if it is there, ours and whole."""
    secret = children.get(ObjectKey("Secret", names.system_secret(ref.name)))
    if secret is None or owner_uid(secret) != ref.uid:
        return None
    try:
        return Passwords.from_secret(secret)
    except ValueError:
        return None


def _formed(topology: Topology) -> dict[int, SlotSet]:
    """Slots that each shard has served: as recorded and not moved elsewhere since, with those that it serves now. The
    first time only when it serves all that fell to it.
    """
    formed = {}
    for shard in topology.shards:
        ids = (m.node.node_id for m in shard.members if m.node is not None)
        serving = union(topology.owners.get(i, NO_SLOTS) for i in ids)
        if shard.formed | serving and (shard.formed or not shard.slots - serving):
            formed[shard.index] = shard.formed | serving
    return formed


def _histories(topology: Topology, spec: CacheClusterSpec) -> dict[int, str]:
    """The replication history that each primary serves, as far as its snapshots will tell that they belong to it."""
    if spec.persistence_mode is not PersistenceMode.SNAPSHOT:
        return {}
    heads = ((s, s.primary.node if s.primary is not None else None) for s in topology.shards)
    return {s.index: node.replication_id if node is not None else s.history for s, node in heads}


async def _unlabelled(
    ref: ClusterRef, deps: Senses, desired: Iterable[Manifest], children: Mapping[ObjectKey, Manifest]
) -> dict[ObjectKey, Manifest]:
    """Objects that bear our names without our labels: others', which must not be overwritten."""
    missing = [m for m in desired if key_of(m) not in children]
    return {k: o for k, o in await asyncio.gather(*(_lookup(ref, deps, m) for m in missing)) if o is not None}


async def _lookup(ref: ClusterRef, deps: Senses, wanted: Manifest) -> tuple[ObjectKey, Manifest | None]:
    key = key_of(wanted)
    try:
        return key, await deps.kube.get(wanted["apiVersion"], key.kind, ref.namespace, key.name)
    except NotFound:
        return key, None


def _once_set(
    ref: ClusterRef, spec: CacheClusterSpec, children: Mapping[ObjectKey, Manifest], pods: Iterable[Pod]
) -> frozenset[str]:
    """Live parameters that nodes of the spec's version may have been told."""
    name = names.live_config_map(ref.name, spec.version)
    live = children.get(ObjectKey("ConfigMap", name))
    return remembered(live if live and owner_uid(live) == ref.uid else None, pods, name, spec.version)


def _users(
    spec: CacheClusterSpec, passwords: Passwords, views: Mapping[str, NodeView | Unreachable]
) -> dict[str, dict[str, Rights]]:
    """What the users may do, for every family of which a node has answered; of an unknown one nothing is known."""
    families = {view.family for view in views.values() if isinstance(view, NodeView)}
    return {v: acl.rights(v, spec.auth_mode, passwords) for v in EngineVersion if v in families}


def _refusals(memory: Memory, now: float) -> dict[Parameters, str]:
    memory.refusals = {
        p: (text, since) for p, (text, since) in memory.refusals.items() if now - since < REFUSAL_SECONDS
    }
    return {parameters: text for parameters, (text, _) in memory.refusals.items()}


def _patience(lost: Mapping[NodeId, LostConnection]) -> float:
    """Seconds that one node may take to answer."""
    youngest = min((connection.seconds for connection in lost.values()), default=VIEW_SECONDS)
    return min(VIEW_SECONDS, max(ALARMED_SECONDS, youngest))


def _silent(lost: Mapping[NodeId, LostConnection]) -> frozenset[str]:
    """uids of the pods whose machines have only just fallen silent: their successors wait for a fence to expire."""
    ends = (c for c in lost.values() if c.ending is Ending.TIMED_OUT and c.seconds < SILENT_PASS_SECONDS)
    return frozenset(c.uid for c in ends)


@dataclass(frozen=True, slots=True)
class _Question:
    """What every node is asked."""

    password: str = field(repr=False)
    parameters: Collection[str]
    seconds: float
    """So long it may take to answer."""
    silent: Collection[str]
    """uids of pods of which nothing is expected: they may take no longer than the alarmed."""


async def _views(
    deps: Senses, memory: Memory, pods: Sequence[Pod], question: _Question | None
) -> dict[str, NodeView | Unreachable]:
    """Ask every node with an address, all at once, each within a bounded time."""
    asked = [p for p in pods if p.ip is not None and p.phase == "Running"]
    if question is None:
        return {}
    answers = await asyncio.gather(*(_view(deps, memory, p, question) for p in asked))
    views: dict[str, NodeView | Unreachable] = {}
    for pod, answer in zip(asked, answers, strict=True):
        if isinstance(answer, NodeView):
            memory.unreachable_since.pop(pod.uid, None)
            views[pod.name] = answer
        else:
            silence = deps.clock() - memory.unreachable_since.setdefault(pod.uid, deps.clock())
            since = deps.now() - silence
            refused, silent = isinstance(answer, NobodyListens), isinstance(answer, NoAnswer)
            views[pod.name] = Unreachable(str(answer), since, refused, silent)
    present = {p.uid for p in asked}
    memory.taken_over &= present
    for uid in memory.unreachable_since.keys() - present:
        del memory.unreachable_since[uid]
    return views


async def _view(deps: Senses, memory: Memory, pod: Pod, question: _Question) -> NodeView | NodeError:
    """The node's view, or why there is none. At first sight, whatever a frozen predecessor has open there is ended:
    when it thaws, it has no connection left on which to act (ADR 0007).
    """
    seconds = min(question.seconds, NEWBORN_SECONDS) if _newborn(pod, deps.now()) else question.seconds
    if pod.uid in question.silent:
        seconds = min(seconds, ALARMED_SECONDS)
    try:
        async with asyncio.timeout(seconds), deps.nodes.connect(pod.ip or "", question.password) as node:
            if pod.uid not in memory.taken_over and deps.leader():
                await node.end_other_sessions()
                memory.taken_over.add(pod.uid)
            return await node.view(question.parameters)
    except NodeError as e:
        return e
    except TimeoutError:
        return NoAnswer(f"no answer within {seconds:.3g} s")


def _newborn(pod: Pod, now: float) -> bool:
    started = pod.container.started_at if pod.container else None
    return not pod.ready and started is not None and abs(now - started) < NEWBORN_AGE_SECONDS


def _foreign(
    pods: Sequence[Pod], views: Mapping[str, NodeView | Unreachable], memory: Memory, now: float
) -> tuple[ForeignId, ...]:
    """Ids in our nodes' tables that belong to no pod that answers. A silent pod's own id is not foreign."""
    answered = [v for v in views.values() if isinstance(v, NodeView)]
    ours = {v.node_id for v in answered}
    silent = {p.ip for p in pods if p.ip and not isinstance(views.get(p.name), NodeView)}
    alive: dict[NodeId, bool] = {}
    address: dict[NodeId, str] = {}
    heard: dict[NodeId, float] = {}
    for view in answered:
        for peer in view.peers:
            if peer.node_id in ours or "handshake" in peer.flags or (peer.ip and peer.ip in silent):
                continue
            linked = peer.connected and not peer.suspected and "noaddr" not in peer.flags
            alive[peer.node_id] = alive.get(peer.node_id, False) or linked
            address[peer.node_id] = peer.ip or address.get(peer.node_id, "")
            if peer.pong_age is not None:
                heard[peer.node_id] = max(heard.get(peer.node_id, 0.0), now - peer.pong_age)
    for node_id in [i for i in memory.foreign_since if not alive.get(NodeId(i))]:
        del memory.foreign_since[node_id]
    return tuple(
        ForeignId(i, address[i], memory.foreign_since.setdefault(i, now) if linked else None, heard.get(i))
        for i, linked in sorted(alive.items())
    )
