"""Kubernetes nodes that are lost: what shows it, and what shows that it may be the operator who is (S1).

ADR 0019 says why it takes so much.
"""

from collections.abc import Iterator
from typing import Final

from cachecluster.domain.nodes import Peer, Unreachable
from cachecluster.domain.snapshot import ForeignId, Pod, Snapshot
from cachecluster.domain.topology import Member, Shard, Topology

SILENT_SECONDS: Final = 10
"""For so long has an engine answered nobody (2 x node timeout)."""


def is_lost(snap: Snapshot, pod: Pod) -> bool:
    """Its Kubernetes node does not report, or somebody vouches for it that nothing runs there any more."""
    host = snap.hosts.get(pod.host) if pod.host else None
    return pod.host is not None and (host is None or host.out_of_service or not host.ready)


def word_on(snap: Snapshot, name: str) -> str | None:
    """Somebody's word that nothing runs on a Kubernetes node any more; None: there is none."""
    host = snap.hosts.get(name)
    if host is None:
        return "is gone"
    return "is out of service" if host.out_of_service else None


def is_silent(snap: Snapshot, topology: Topology, member: Member) -> bool:
    """Neither the operator nor any node that answers has heard of the engine in the pod for long."""
    view = member.view
    if member.node is not None or (isinstance(view, Unreachable) and (view.refused or _is_fresh(snap, view))):
        return False
    others = (m.node for m in topology.members if m.node is not None)
    return not any(hears(row) for other in others for row in other.peers if row.ip and row.ip == member.pod.ip)


def _is_fresh(snap: Snapshot, view: Unreachable) -> bool:
    return snap.now - view.since < SILENT_SECONDS


def hears(row: Peer) -> bool:
    """A node has had an answer from the other one lately, or has not waited for one in vain yet."""
    if row.suspected or "handshake" in row.flags:
        return row.pong_age is not None and row.pong_age < SILENT_SECONDS
    return True


def keeper_of(shard: Shard, topology: Topology, pod: Pod) -> Member | None:
    """Who serves, on another machine, all that the shard has, so that nothing is lost with the pod (S3)."""
    primary = shard.primary
    if primary is None or primary.node is None or not primary.usable or primary.pod.host == pod.host:
        return None
    serves = primary.node.leads and primary.node.cluster_state_ok
    owned = topology.owners.get(primary.node.node_id)
    return primary if serves and owned is not None and not shard.formed - owned else None


def holds_nothing(shard: Shard, topology: Topology, pod: Pod) -> bool:
    """The shard has no data that could be lost: it is new, or has given all its slots away; and nobody else believes
    that the pod's node owns any.
    """
    rows = (row for m in topology.members if m.node is not None for row in m.node.peers)
    return shard.empty and not any(topology.owners.get(row.node_id) for row in rows if row.ip and row.ip == pod.ip)


def is_cut_off(snap: Snapshot, topology: Topology) -> bool:
    """It may be the operator who is lost, together with the API server: of the machines that the cluster runs on fewer
    than half answer through any of its nodes, or no majority of all Kubernetes nodes reports. Who is vouched for to be
    off does not count.
    """
    heard = {m.pod.host for m in topology.members if m.node is not None}
    silent = {m.pod.host for m in topology.members if m.node is None and _should_answer(snap, m.pod)} - heard
    everywhere = [host for host in snap.hosts.values() if not host.out_of_service]
    return len(silent) > len(heard) or 2 * sum(host.ready for host in everywhere) <= len(everywhere)


def _should_answer(snap: Snapshot, pod: Pod) -> bool:
    """The silence of a pod that only starts, as its kubelet reports, says nothing about its machine."""
    if pod.host is None or word_on(snap, pod.host) is not None:
        return False
    return pod.ready or is_lost(snap, pod)


def is_succeeded(topology: Topology, foreign: ForeignId) -> bool:
    """Another node has its address by now."""
    return any(m.node is not None and m.pod.ip == foreign.ip for m in topology.members)


def hiding_places(snap: Snapshot, topology: Topology, foreign: ForeignId) -> Iterator[str]:
    """Kubernetes nodes on which the process of an id that no pod has any more may still run unseen: its pod was deleted
    by force, and no kubelet has confirmed that it has ended.
    """
    if is_succeeded(topology, foreign):
        return
    for name, host in sorted(snap.hosts.items()):
        since = host.not_ready_since
        if host.ready or host.out_of_service:
            continue
        if foreign.heard_at is None or since is None or foreign.heard_at <= since:
            yield name
