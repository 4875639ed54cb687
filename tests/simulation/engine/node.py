"""One engine process: its table, data and role. What it says and hears is in bus, election, replication, commands."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Final

from cachecluster.domain import durability, fence
from cachecluster.domain.nodes import NodeId
from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.domain.slots import NO_SLOTS, SlotSet
from tests.simulation.engine import atomic, bus, election, replication
from tests.simulation.engine.disk import Disk, Dump, NodesConf, SavedRow
from tests.simulation.engine.network import Network
from tests.simulation.engine.table import Address, Row


def used_memory(node: "Node") -> int:
    """INFO memory: used_memory in bytes."""
    return 1_000_000 + node.ballast + dataset(node)


def dataset(node: "Node") -> int:
    """INFO memory: used_memory_dataset in bytes."""
    return node.keys * KEY_BYTES


def own_values(version: tuple[int, int]) -> dict[str, str]:
    """Parameters that a process begins with unless its configuration says otherwise."""
    return {**DEFAULTS[".".join(map(str, version))], **durability.ENGINE_DEFAULTS, "maxmemory": "0"}


KEY_BYTES: Final = 8192
"""So large that a while of writing makes a difference to who gets which slots."""
CRON_SECONDS: Final = 0.1
SLOTS_LOST: Final = "slots lost to another shard"
"""Why a primary gives keys up that it still held when its slots went to another."""
WRITABLE_DELAY: Final = 2.0
"""A primary that has just started refuses writes for so long (CLUSTER_WRITABLE_DELAY)."""


@dataclass(frozen=True, slots=True)
class Config:
    """What of valkey.conf the model follows."""

    version: tuple[int, int] = (8, 1)
    node_timeout: float = 5.0
    append_only: bool = False
    snapshots: bool = False
    snapshot_every: float = 60.0
    sync_seconds: float = 0.1
    """How long a full sync takes here."""
    live: Mapping[str, str] = field(default_factory=dict)
    """What live.conf said when the process started."""


@dataclass(slots=True)
class Elections:
    """State of this node's own candidacy and of a manual failover (clusterState)."""

    at: float = 0.0
    sent: bool = False
    count: int = 0
    rank: int = 0
    epoch: int = 0
    manual_end: float = 0.0
    manual_can_start: bool = False
    manual_offset: int | None = None
    manual_replica: NodeId | None = None


@dataclass(eq=False)
class Node:
    """A running process. ``alive`` turns False when it has ended; nothing is delivered to it from then on."""

    network: Network
    address: Address
    disk: Disk
    config: Config
    chance: Random
    users: dict[str, str] = field(default_factory=dict)
    """Lines of ACL LIST by user; who is off is a matter of ``quarantined``. Empty: nobody is asked for a password."""
    quarantined: bool = False
    primary_user: str = ""
    """As whom it asks others for their data or hands them slots."""
    replication_password: str | None = None
    on_discard: Callable[["Node", dict[int, tuple[str, ...]], str], None] | None = None
    """Told which data this node gives up, and why."""
    on_meet_row: Callable[["Node", Row], None] | None = None
    """Told of every id that enters the table."""

    def __post_init__(self) -> None:
        self.ahead = self.network.ahead.get(self.address.ip, 0.0)
        """Seconds by which its machine's clock goes ahead of the true time."""
        now = self.now()
        self.alive = True
        self.started = now
        self.run_id = self.new_id()
        self.rows: dict[NodeId, Row] = {}
        self.blacklist: dict[NodeId, float] = {}
        self.current_epoch = 0
        self.last_vote_epoch = 0
        self.election = Elections()
        self.state_ok = False
        self.minority_since = now
        self.tokens: dict[int, tuple[str, ...]] = {}
        self.migrating: dict[int, NodeId] = {}
        self.importing: dict[int, NodeId] = {}
        self.jobs: list[atomic.Job] = []
        """Atomic migrations, newest first."""
        self.repl = replication.Stream(self.new_id())
        self.iteration = 0
        timeout = str(int(self.config.node_timeout * 1000))
        own = {**own_values(self.config.version), fence.TIMEOUT: timeout}
        self.parameters: dict[str, str] = {**own, **self.config.live}
        self.ballast = 0
        """Bytes that it uses beside what the writers write."""
        self.frozen = False
        """It hangs (SIGSTOP): its kernel answers in its place, as far as kernels do."""
        self.thawed = 0.0
        """When it last went on, by the true time."""
        self.set_back_until = 0.0
        """The true time until which it lives through seconds again, its clock having been set back."""
        self.clock_set = 0.0
        """The true time at which its clock was last set."""
        self.operator_sessions = 0
        """Connections of the operator's user that are older than this have been killed."""
        conf = self.disk.nodes_conf
        if conf is None:
            self.me = Row(NodeId(self.new_id()), self.address, now, self.new_id())
            self.rows[self.me.node_id] = self.me
        else:
            self._read(conf, now)
        self._load()
        self.network.listeners[self.ip] = self
        self.network.clock.later(CRON_SECONDS * self.chance.random(), self._cron)
        self.network.clock.later(self.chance.random() * 0.2, self._replication_cron)
        if self.config.snapshots:
            self.network.clock.later(self.config.snapshot_every * (0.5 + self.chance.random()), self._snapshot)

    @property
    def timeout(self) -> float:
        """cluster-node-timeout in seconds."""
        return int(self.parameters[fence.TIMEOUT]) / 1000

    @property
    def ip(self) -> str:
        """Address at which it listens."""
        return self.address.ip

    @property
    def node_id(self) -> NodeId:
        """CLUSTER MYID."""
        return self.me.node_id

    @property
    def keys(self) -> int:
        """Number of stored writes; each counts as a key."""
        return sum(len(t) for t in self.tokens.values())

    def password_of(self, user: str) -> str:
        """SHA-256 of the user's password; empty: none is asked for."""
        return next((word[1:] for word in self.users.get(user, "").split() if word.startswith("#")), "")

    def lets(self, other: "Node", right: str) -> bool:
        """Whether the other node, which logs in as its ``primary_user``, may do something here."""
        words = self.users.get(other.primary_user, "").split()
        return not self.users or {f"#{other.replication_password}", right} <= set(words)

    @property
    def epoch(self) -> int:
        """Configuration epoch that this node announces: its own, or its primary's."""
        return self.speaks_for.config_epoch

    @property
    def speaks_for(self) -> Row:
        """The row whose slots this node's headers carry."""
        if self.me.primary or self.me.primary_id is None:
            return self.me
        return self.rows.get(self.me.primary_id, self.me)

    def now(self) -> float:
        """Unix seconds, as the machine's clock has them: the engine measures by it what lies between nodes."""
        return self.network.clock.now() + self.ahead

    def new_id(self) -> str:
        """Forty random hexadecimal digits."""
        return f"{self.chance.getrandbits(160):040x}"

    # -- life ----------------------------------------------------------------------------------------------------

    def _read(self, conf: NodesConf, now: float) -> None:
        """Load nodes.conf; the own address is announced anew at every start."""
        for saved in conf.rows:
            row = Row(saved.node_id, saved.address, now, saved.shard_id, inbound_lost=now)
            row.primary, row.primary_id, row.config_epoch = saved.primary, saved.primary_id, saved.config_epoch
            row.slots, row.noaddr, row.fail = saved.slots, saved.noaddr, saved.fail
            row.fail_time = now if saved.fail else 0.0
            row.pong_received = now if saved.heard else 0.0
            self.rows[row.node_id] = row
        self.me = self.rows[conf.myself]
        self.me.address = self.address
        self.current_epoch, self.last_vote_epoch = conf.current_epoch, conf.last_vote_epoch

    def _load(self) -> None:
        """Load data; an RDB file continues its replication history, an append-only file starts a new one."""
        self.tokens = dict(self.disk.tokens)
        dump = self.disk.dump
        if self.config.append_only or dump is None:
            return
        if self.me.primary:
            self.repl.previous_id, self.repl.second_offset = dump.replication_id, dump.offset + 1
        else:
            self.repl.id = dump.replication_id
        self.repl.offset = self.repl.log_start = dump.offset

    def save(self) -> None:
        """Write nodes.conf. The engine does so at every change; here the last moment of a process is soon enough."""
        rows = tuple(
            SavedRow(
                *(r.node_id, r.address, r.shard_id, r.primary, r.primary_id, r.config_epoch, r.slots, r.noaddr, r.fail),
                heard=r.pong_received > 0,
            )
            for r in self.rows.values()
            if not r.handshake
        )
        self.disk.nodes_conf = NodesConf(self.node_id, self.current_epoch, self.last_vote_epoch, rows)

    def _snapshot(self) -> None:
        if self.alive:
            if not self.frozen:
                self.disk.dump = Dump(dict(self.tokens), self.repl.id, self.repl.offset)
            self.network.clock.later(self.config.snapshot_every, self._snapshot)

    def stop(self, *, orderly: bool) -> None:
        """End the process. SIGTERM saves a snapshot where snapshots are on; what the kernel has taken is delivered."""
        if not self.alive:
            return
        self.save()
        if self.config.append_only:
            self.disk.append_only = dict(self.tokens)
        elif orderly and self.config.snapshots:
            self.disk.dump = Dump(dict(self.tokens), self.repl.id, self.repl.offset)
        replication.flush(self)
        self.alive = False
        if self.network.listeners.get(self.ip) is self:
            del self.network.listeners[self.ip]
        self.network.close_all(self)
        replication.hang_up(self)
        self.discard(self.tokens, "process ended")
        self.tokens = {}

    def discard(self, tokens: dict[int, tuple[str, ...]], why: str) -> None:
        """Tell who watches that this node no longer has ``tokens`` in memory."""
        if tokens and self.on_discard is not None:
            self.on_discard(self, tokens, why)

    def freeze(self) -> None:
        """SIGSTOP."""
        self.frozen = True

    def thaw(self) -> None:
        """SIGCONT."""
        self.frozen, self.thawed = False, self.network.clock.now()

    def set_clock(self, ahead: float) -> None:
        """Somebody sets the machine's clock: so far ahead of the true time, or behind it."""
        now = self.network.clock.now()
        latest = max(now, self.set_back_until) + self.ahead
        self.ahead, self.clock_set = ahead, now
        self.set_back_until = latest - ahead if latest - ahead > now else 0.0

    def _cron(self) -> None:
        if self.alive:
            if not self.frozen:
                self.iteration += 1
                bus.cron(self)
                election.cron(self)
                atomic.cron(self)
            self.network.clock.later(CRON_SECONDS, self._cron)

    def _replication_cron(self) -> None:
        if self.alive:
            if not self.frozen:
                replication.cron(self)
            self.network.clock.later(1.0, self._replication_cron)

    # -- table ---------------------------------------------------------------------------------------------------

    def add_row(self, row: Row) -> None:
        """Put a node into the table."""
        self.rows[row.node_id] = row
        if self.on_meet_row is not None:
            self.on_meet_row(self, row)

    def drop_row(self, row: Row) -> None:
        """Take a node out of the table, with what it owned and reported, and the marks of slots on their way to it."""
        self.rows.pop(row.node_id, None)
        self.migrating = {s: to for s, to in self.migrating.items() if to != row.node_id}
        self.importing = {s: source for s, source in self.importing.items() if source != row.node_id}
        for other in self.rows.values():
            other.reports.pop(row.node_id, None)
            if other.primary_id == row.node_id:
                other.primary_id = None
        for link in (row.link, row.inbound):
            if link is not None:
                self.network.close(link)

    @property
    def size(self) -> int:
        """Number of primaries with slots."""
        return sum(1 for r in self.rows.values() if r.votes)

    def update_state(self) -> None:
        """cluster_state: lost among a minority, regained after a while (clusterUpdateState)."""
        now = self.now()
        if self.me.primary and not self.state_ok and now - self.started < WRITABLE_DELAY:
            return
        voters = [r for r in self.rows.values() if r.primary and r.slots]
        reachable = sum(1 for r in voters if not r.fail and not r.pfail)
        ok = reachable >= len(voters) // 2 + 1
        if not ok:
            self.minority_since = now
            self.state_ok = False
        elif not self.state_ok:
            delay = min(max(self.timeout, 0.5), 5.0)
            if self.me.primary and now - self.minority_since < delay and self.minority_since > self.started:
                return
            self.state_ok = True

    # -- data ----------------------------------------------------------------------------------------------------

    def write(self, slot: int, token: str, *, asking: bool = False) -> str | None:
        """A client's write of a new key: None if acknowledged, else the engine's error. ``asking``: after an ASK."""
        if self.quarantined:
            return "NOAUTH"
        if not self.state_ok:
            return "CLUSTERDOWN The cluster is down"
        taking = asking and self.me.primary and slot in self.importing
        if not taking and (not self.me.primary or slot not in self.me.slots):
            owner = next((r for r in self.rows.values() if slot in r.slots), None)
            return f"MOVED {slot} {owner.address.ip}" if owner is not None else "CLUSTERDOWN Hash slot not served"
        if (self.election.manual_end and self.election.manual_replica is not None) or atomic.is_pausing(self):
            return "paused"
        if slot in self.migrating and not taking:
            return f"ASK {slot} {self.rows[self.migrating[slot]].address.ip}"
        return replication.accept(self, slot, token)

    def become_primary(self) -> None:
        """Take the primary's slots over (clusterFailoverReplaceYourPrimary)."""
        old = self.rows.get(self.me.primary_id) if self.me.primary_id else None
        if self.me.primary or old is None:
            return
        self.me.primary, self.me.primary_id = True, None
        replication.promote(self)
        self.me.slots |= old.slots
        old.slots, old.unclaimed = NO_SLOTS, NO_SLOTS
        election.reset_manual(self)
        self.update_state()
        bus.broadcast_pong(self)

    def lose(self, slots: SlotSet) -> None:
        """Slots of our shard are another's now: what a primary holds of them goes (clusterUpdateSlotsConfigWith)."""
        if not slots:
            return
        for slot in slots:
            self.migrating.pop(slot, None)
        atomic.given_up(self, slots)
        if not self.me.primary:
            return
        gone = {s: t for s, t in self.tokens.items() if s in slots}
        for slot, tokens in gone.items():
            for token in tokens:
                replication.remove(self, slot, token)
        self.discard(gone, SLOTS_LOST)

    def reset(self) -> None:
        """Begin anew as an empty primary (clusterReset)."""
        if not self.me.primary:
            replication.promote(self)
            self.discard(self.tokens, "reset")
            self.tokens = {}
        election.reset_manual(self)
        for row in [r for r in self.rows.values() if r is not self.me]:
            self.drop_row(row)
        self.current_epoch = self.last_vote_epoch = 0
        self.me = Row(NodeId(self.new_id()), self.address, self.now(), self.new_id())
        self.rows = {self.me.node_id: self.me}
        self.update_state()

    def follow(self, primary: Row, *, full_sync: bool) -> None:
        """Become a replica (clusterSetPrimary)."""
        was_primary = self.me.primary
        self.me.primary, self.me.primary_id = False, primary.node_id
        self.me.slots = NO_SLOTS
        self.me.shard_id = primary.shard_id
        election.reset_manual(self)
        replication.start(self, primary.address.ip, was_primary=was_primary, full_sync=full_sync)
        self.update_state()
