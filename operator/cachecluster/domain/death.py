"""What proves that a primary's process is dead, and what merely looks like it (S1, S10)."""

from collections.abc import Sequence
from typing import Final

from cachecluster.api.durability import MAX_LAG_SECONDS
from cachecluster.api.reasons import FailoverCause
from cachecluster.domain.fence import Record, takes_itself_for_primary
from cachecluster.domain.loss import EXPIRY_SECONDS, Lost, ended_together, has_expired, has_fallen_silent, newest
from cachecluster.domain.lost_hosts import word_on
from cachecluster.domain.nodes import Ending, LostConnection, NodeId, NodeView, Peer, ReplicaLink, Unreachable
from cachecluster.domain.snapshot import Container, ContainerState, Pod, Snapshot
from cachecluster.domain.topology import Member, Shard, Topology

SILENCE_SECONDS: Final = 10
"""For so long must every replica have lost a primary whose pod has vanished (2 x node timeout)."""
HEARD_SECONDS: Final = 1.5
"""A node that has heard of the primary less long before our connection timed out has heard it later than our kernel,
which waits 2.5 s. The difference allows for clocks, of which gossip compares two.
"""


def loss_of(snap: Snapshot, topology: Topology, shard: Shard, owner: NodeId) -> Lost | None:
    """How the primary ``owner`` was lost: its process has ended, or its machine is lost to everybody. None while it is
    merely out of our reach.
    """
    replicas = [m.node for m in shard.replicas if m.node is not None and m.node.myself.primary_id == owner]
    if not replicas or any(r.link is None for r in replicas):
        return None
    return (
        _proof(snap, topology, owner, replicas)
        or _host_gone(snap, topology, owner, replicas)
        or _fence(snap, topology, shard, owner, replicas)
        or _silence(snap, topology, owner, replicas)
    )


def _host_gone(snap: Snapshot, topology: Topology, owner: NodeId, replicas: Sequence[NodeView]) -> Lost | None:
    """Its Kubernetes node was deleted, or tainted as out of service: that is somebody's word for it that nothing runs
    there any more (S10 c).
    """
    addresses = _addresses(topology, owner)
    lost = snap.lost.get(owner)
    pods = [m.pod for m in topology.members if m.node is None and m.pod.ip in addresses]
    name = lost.host if lost is not None else next((p.host for p in pods), None)
    if name is None or not all(has_fallen_silent(link) for link in _linked(replicas)):
        return None
    word = word_on(snap, name)
    if word is None:
        return None
    why = f"Kubernetes node {name}, on which its primary ran, {word}"
    pod, address = (lost.pod, lost.ip) if lost is not None else (pods[0].name, pods[0].ip)
    return Lost(owner, FailoverCause.NODE_OUT_OF_SERVICE, why, pod, address, lost, unheard=True, host=name)


def _fence(
    snap: Snapshot, topology: Topology, shard: Shard, owner: NodeId, replicas: Sequence[NodeView]
) -> Lost | None:
    """It has been silent for so long that it accepts no writes any more, wherever it is (S10 d): its fence was up, and
    nobody has lowered it; and whoever may report to it says that he has not heard of it for longer than it waits.
    """
    pod, lost = _whereabouts(snap, topology, owner), snap.lost.get(owner)
    record = Record.parse(pod.fence) if pod is not None else None
    if pod is None or record is None or record.max_lag > MAX_LAG_SECONDS or not _is_silent(snap, pod, lost):
        return None
    if _cut_off(topology) or not _all_answer(topology, shard, owner, pod):
        return None
    if any(r.replication_id != record.history for r in newest(replicas)):
        return None  # of another process
    if not all(_reports_no_more(r, owner) for r in replicas):
        return None
    why = f"the machine of {pod.name} has fallen silent, and it accepts no writes since no replica reports to it"
    return Lost(owner, FailoverCause.FENCE_EXPIRED, why, pod.name, pod.ip, lost, unheard=True, fence=pod.fence)


def _reports_no_more(replica: NodeView, owner: NodeId) -> bool:
    """It has not heard of its primary for longer than that waits. One that has never been in step has never reported,
    and begins as soon as it is: unless it does not reach the primary, as its bus shows, which takes everybody in
    nodes.conf for heard at the start of the process (Valkey, clusterLoadConfig).
    """
    link, row = replica.link, replica.peer(owner)
    if link is None:
        return False
    if link.ever_synced:
        return has_expired(link)
    heard = row.pong_age if row is not None else None
    return not link.sync_in_progress and heard is not None and heard >= EXPIRY_SECONDS


def _whereabouts(snap: Snapshot, topology: Topology, owner: NodeId) -> Pod | None:
    """The pod in which it ran."""
    lost = snap.lost.get(owner)
    if lost is not None:
        return next((p for p in snap.pods if p.uid == lost.uid), None)
    addresses = _addresses(topology, owner)
    return next((m.pod for m in topology.members if m.node is None and m.pod.ip in addresses), None)


def _is_silent(snap: Snapshot, pod: Pod, lost: LostConnection | None) -> bool:
    """Not even its machine's kernel answers: a process that hangs or is busy would not know of the time that passes.
    An operator whose connection that kernel has not left without an answer has that from the API server.
    """
    view = snap.views.get(pod.name)
    if isinstance(view, NodeView) or (isinstance(view, Unreachable) and view.refused):
        return False
    if lost is not None and lost.ending is Ending.TIMED_OUT:
        return True
    host = snap.hosts.get(pod.host) if pod.host else None
    return isinstance(view, Unreachable) and view.silent and host is not None and not host.ready


def _all_answer(topology: Topology, shard: Shard, owner: NodeId, pod: Pod) -> bool:
    """Whoever follows it as far as anybody knows, or may do so unknown to others, answers the operator: who does not
    may still report to it. So may one that it has replaced, as soon as that has heard so from it.
    """
    rows = (row for v in _views(topology) for row in v.peers)
    if not all(row.node_id in topology.by_id for row in rows if row.primary_id == owner):
        return False
    if any(takes_itself_for_primary(m) for m in shard.members):
        return False
    return all(m.node is not None or m.pod is pod or m.runs_nothing for m in shard.members)


def _silence(snap: Snapshot, topology: Topology, owner: NodeId, replicas: Sequence[NodeView]) -> Lost | None:
    """Its machine has left the operator's kernel without an answer, its replicas without the stream and its pings, and
    no other node has heard of it since. Who has lost most of a cluster is cut off himself.
    """
    lost = snap.lost.get(owner)
    if lost is None or lost.ending is not Ending.TIMED_OUT or _cut_off(topology):
        return None
    view = snap.views.get(lost.pod)
    if isinstance(view, Unreachable) and view.refused:  # the machine is back, and without it
        return None
    if not all(has_fallen_silent(link) for link in _linked(replicas)):
        return None
    rows = [row for v in _views(topology) if (row := v.peer(owner)) is not None]
    if not all(_unheard(row, lost.seconds) for row in rows):
        return None
    why = f"the machine of {lost.pod} has fallen silent (towards the operator, its replicas and every other node)"
    return Lost(owner, FailoverCause.MACHINE_SILENT, why, lost.pod, lost.ip, lost, unheard=True, proven=False)


def _unheard(row: Peer, seconds: float) -> bool:
    """A node has had no pong since our kernel had its last answer, and waits for one: who has not asked cannot tell. A
    primary whose address it does not know cannot be asked.
    """
    late = row.pong_age is None or row.pong_age >= seconds + HEARD_SECONDS
    return late and (row.asked or "noaddr" in row.flags)


def _cut_off(topology: Topology) -> bool:
    """More than half of the nodes do not answer, and nobody says in their place that they do not run."""
    silent = sum(isinstance(m.view, Unreachable) and not m.view.refused for m in topology.members)
    return 2 * silent > len(topology.members)


def _proof(snap: Snapshot, topology: Topology, owner: NodeId, replicas: Sequence[NodeView]) -> Lost | None:
    """A replica that still hears the primary knows better than anybody."""
    if any(r.link is None or r.link.up for r in replicas):
        return None
    hung_up = _hung_up(snap, owner, replicas)
    if hung_up is not None:
        return hung_up
    addresses = _addresses(topology, owner)
    for member in topology.members:
        if member.pod.ip not in addresses:
            continue
        if member.node is not None:
            why = f"{member.pod.name} has restarted as another, empty node"
            return Lost(owner, FailoverCause.RESTARTED_EMPTY, why, member.pod.name, member.pod.ip)
        return _terminated(snap, owner, member, replicas)
    return _vanished(snap, topology, owner, replicas)


def _hung_up(snap: Snapshot, owner: NodeId, replicas: Sequence[NodeView]) -> Lost | None:
    """Established connections from two sides were closed at the same time, and nobody listens there any more (S10 b).

    Who was only hung up on (CLIENT KILL, another ACL) would be let in again; who is only kept out by a network policy
    keeps the connections that he has.
    """
    lost = snap.lost.get(owner)
    if lost is None or lost.ending is not Ending.CLOSED:
        return None
    if not any(r.link is not None and ended_together(r.link, lost) for r in replicas):
        return None
    view = snap.views.get(lost.pod)
    refused = isinstance(view, Unreachable) and view.refused
    if any(p.uid == lost.uid for p in snap.pods) and not refused:
        return None
    now = "nobody listens there any more" if refused else "its pod is gone"
    why = f"the process in {lost.pod} has ended (it closed its connections to the operator and to a replica; {now})"
    return Lost(owner, FailoverCause.PROCESS_ENDED, why, lost.pod, lost.ip, lost)


def _terminated(snap: Snapshot, owner: NodeId, member: Member, replicas: Sequence[NodeView]) -> Lost | None:
    """The kubelet reports that the container that ran the primary has terminated, and its successor never linked up
    (S10 a). Whether it has may be asked of two clocks, which may differ: so nobody must listen in the pod besides.
    """
    container, pod = member.pod.container, member.pod.name
    if container is None or not container.last_termination:
        return None
    why = f"the kubelet reports that the container of {pod} terminated ({container.last_termination})"
    connection = snap.lost.get(owner)
    closed = connection if connection is not None and connection.ending is Ending.CLOSED else None
    lost = Lost(owner, FailoverCause.CONTAINER_TERMINATED, why, pod, member.pod.ip, closed)
    if container.state is ContainerState.TERMINATED:
        return lost
    if not member.runs_nothing:  # started again and not reported, perhaps
        return None
    return lost if container.state is ContainerState.WAITING or _never_linked_up(snap, container, replicas) else None


def _never_linked_up(snap: Snapshot, container: Container, replicas: Sequence[NodeView]) -> bool:
    """Whole seconds on both sides: one second of rounding each. A link that outlived the start proves nothing."""
    if container.started_at is None or not container.restarts:
        return False
    links_down = min((link.down_seconds or 0 for link in _linked(replicas)), default=0)
    return links_down >= max(snap.now - container.started_at - 2, 1)


def _vanished(snap: Snapshot, topology: Topology, owner: NodeId, replicas: Sequence[NodeView]) -> Lost | None:
    """No pod has the primary's address any more; every kubelet reports, so none runs it unseen."""
    if not topology.all_known or not all(h.ready for h in snap.hosts.values()):
        return None
    if any((link.down_seconds or 0) < SILENCE_SECONDS for link in _linked(replicas)):
        return None
    if not all((p := v.peer(owner)) is None or p.suspected or not p.connected for v in _views(topology)):
        return None
    why = "the pod of its primary is gone, every Kubernetes node reports, and no member has heard of it"
    return Lost(owner, FailoverCause.POD_GONE, why)


def _linked(replicas: Sequence[NodeView]) -> list[ReplicaLink]:
    """Links that have been up, or come up now. One that never was tells nothing of when the primary fell silent."""
    return [r.link for r in replicas if r.link is not None and (r.link.ever_synced or r.link.sync_in_progress)]


def _addresses(topology: Topology, owner: NodeId) -> set[str]:
    """Where the others have it."""
    return {row.ip for v in _views(topology) if (row := v.peer(owner)) is not None and row.ip}


def _views(topology: Topology) -> list[NodeView]:
    return [m.node for m in topology.members if m.node is not None]
