"""Moving slots at one stroke: CLUSTER MIGRATESLOTS and its jobs (valkey src/cluster_migrateslots.c, from 9.0 on).

What the destination is sent stays out of everybody's sight until it takes the slots over, so here it is not kept at the
destination at all: it arrives with the order to take over. Until then the source's clients are served as ever, but for
the short pause at the end.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cachecluster.domain.nodes import NodeId
from cachecluster.domain.slots import SlotSet
from tests.simulation.engine import bus, election, replication
from tests.simulation.engine.commands import Refused

if TYPE_CHECKING:
    from tests.simulation.engine.node import Node

ATOMIC_SINCE: Final = (9, 0)
CONNECT_SECONDS: Final = 0.01
SNAPSHOT_SECONDS: Final = 0.2
"""On average; writes of the time follow."""
PAUSE_SECONDS: Final = 0.1
"""From the pause of the source's clients to the order to take over (engine-facts §1.2)."""

Tokens = Mapping[int, tuple[str, ...]]


@dataclass(eq=False)
class Job:
    """One entry of CLUSTER GETSLOTMIGRATIONS. Gone with its process."""

    name: str
    slots: SlotSet
    target: NodeId
    outgoing: bool
    state: str = "connecting"
    message: str = ""
    peer: "Node | None" = None
    """The process at the other end of the connection."""
    deadline: float = 0.0
    """When the source, which has let go, gives up waiting for news of the new owner."""

    @property
    def running(self) -> bool:
        """It has not come to its end yet."""
        return self.state not in {"success", "failed", "cancelled"}

    def end(self, state: str, message: str = "") -> None:
        """Once is final."""
        if self.running:
            self.state, self.message = state, message


def is_known(node: "Node") -> bool:
    """Whether the engine has the command."""
    return node.config.version >= ATOMIC_SINCE


def is_pausing(node: "Node") -> bool:
    """Whether the node makes its clients wait, for the whole node and not only for the slots."""
    return any(j.outgoing and j.state in {"failover-paused", "failover-granted"} for j in node.jobs)


def migrate_slots(node: "Node", slots: SlotSet, target: NodeId) -> None:
    """CLUSTER MIGRATESLOTS: OK means only that it has begun."""
    if not is_known(node):
        raise Refused("ERR unknown subcommand 'MIGRATESLOTS'. Try CLUSTER HELP.")
    if not node.me.primary:
        raise Refused("ERR Slot migration can only be used on primary nodes.")
    if node.migrating or node.importing:
        raise Refused("ERR Slots are being manually migrated")
    if slots - node.me.slots:
        raise Refused("ERR Slots are not served by this node.")
    row = node.rows.get(target)
    if row is None:
        raise Refused(f"ERR Unknown node {target}")
    if row is node.me:
        raise Refused("ERR Slots are already served by this node.")
    if any(job.running and job.slots & slots for job in node.jobs):
        raise Refused("ERR I am already migrating these slots")
    job = Job(node.new_id(), slots, target, outgoing=True)
    node.jobs.insert(0, job)
    node.network.clock.later(CONNECT_SECONDS, _connect, node, job)


def cancel(node: "Node") -> None:
    """CLUSTER CANCELSLOTMIGRATIONS: all that this node gives away."""
    for job in node.jobs:
        if job.outgoing:
            job.end("cancelled")


def _connect(node: "Node", job: Job) -> None:
    row = node.rows.get(job.target)
    if not node.alive or not job.running or row is None:
        return  # the cron ends it
    peer = node.network.listener(node.ip, row.address.ip)
    if peer is None or peer.node_id != job.target or not is_known(peer):
        job.end("failed", "Unable to connect to target node")
    elif peer.quarantined or not peer.lets(node, "+cluster|syncslots"):
        job.end("failed", "Failed to AUTH to target node")
    elif not peer.me.primary or any(slot in job.slots for slot in (*peer.migrating, *peer.importing)):
        job.end("failed", "Target node refused the slots")
    else:
        job.peer, job.state = peer, "snapshotting"
        peer.jobs.insert(0, Job(job.name, job.slots, job.target, outgoing=False, state="receiving", peer=node))
        node.network.clock.later(SNAPSHOT_SECONDS * (0.5 + node.chance.random()), _pause, node, job)


def _pause(node: "Node", job: Job) -> None:
    """The destination has nearly everything: no more writes until it is the owner."""
    if node.alive and job.running:
        job.state = "failover-paused"
        node.network.clock.later(PAUSE_SECONDS, _grant, node, job)


def _grant(node: "Node", job: Job) -> None:
    cron(node)
    if node.alive and job.running and job.peer is not None:
        sent = {slot: tokens for slot, tokens in node.tokens.items() if slot in job.slots}
        if sent and replication.refuses(job.peer):  # it takes what it is sent as it takes a client's writes
            for one in (job, *(j for j in job.peer.jobs if j.name == job.name)):
                one.end("failed", "Failed to process command during slot migration")
            return
        job.state, job.deadline = "failover-granted", node.now() + election.MANUAL_TIMEOUT
        node.network.send(node.ip, job.peer.ip, _take_over, job.peer, job.name, node.node_id, sent)


def _take_over(node: "Node", name: str, source: NodeId, sent: Tokens) -> None:
    """The destination makes itself the owner with a new epoch, as after a failover by order."""
    job = next((j for j in node.jobs if j.name == name and j.running), None)
    row = node.rows.get(source)
    if not node.alive or job is None:
        return
    if not node.me.primary or row is None or job.slots - row.slots:
        job.end("failed", "Slots are not owned by the source any more")
        return
    for slot, tokens in sent.items():
        for token in tokens:
            if token not in node.tokens.get(slot, ()):
                replication.append(node, slot, token)
    for other in node.rows.values():
        other.slots, other.unclaimed = other.slots - job.slots, other.unclaimed - job.slots
    node.me.slots |= job.slots
    node.current_epoch = max(node.current_epoch, *(r.config_epoch for r in node.rows.values())) + 1
    node.me.config_epoch = node.current_epoch
    job.end("success")
    node.update_state()
    bus.broadcast_pong(node)


def given_up(node: "Node", slots: SlotSet) -> None:
    """The node has heard that slots of its shard are another's: what a job was for, or the end of it."""
    for job in node.jobs:
        if job.outgoing and job.slots & slots:
            done = job.state == "failover-granted" and not job.slots - slots
            job.end(*(("success",) if done else ("failed", "Slots are no longer owned by myself")))


def cron(node: "Node") -> None:
    """Ten times a second: whatever a job relies on ends it when it ends."""
    for job in node.jobs:
        if not job.running:
            continue
        if not node.me.primary or job.target not in node.rows:
            job.end("failed", "A failover occurred during slot migration")
        elif job.state == "failover-granted" and node.now() > job.deadline:
            job.end("failed", "Timed out waiting for the new owner")
        elif job.state != "failover-granted" and job.peer is not None and not _connected(node, job, job.peer):
            job.end("failed", "Connection lost")


def _connected(node: "Node", job: Job, peer: "Node") -> bool:
    """The other process is there, can be reached, and is still at it."""
    theirs = next((j for j in peer.jobs if j.name == job.name), None)
    at_it = theirs is not None and theirs.state not in {"failed", "cancelled"}
    return at_it and peer.alive and node.network.open(node.ip, peer.ip)
