"""start.sh as a model: whether, when and as whom the engine process begins (S5)."""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from cachecluster.api import names
from cachecluster.domain.memory import MAXMEMORY_PERCENT, PARAMETER
from cachecluster.domain.nodes import NodeId
from tests.simulation.engine import commands
from tests.simulation.engine.disk import Disk, Dump, NodesConf, SavedRow
from tests.simulation.engine.network import Network
from tests.simulation.engine.node import Node, own_values
from tests.simulation.kubernetes.container import FOREIGN_VOLUME_EXIT, NO_USERS_EXIT, Environment, digest

PEERS_AT_ONCE = 12
LARGEST_PAGE = 65536
ASKS_FOR_REPLICA = {"min-replicas-to-write": "1", "min-replicas-max-lag": "1"}


class Startup:
    """One run of the container's command."""

    def __init__(
        self,
        environment: Environment,
        disk: Disk,
        network: Network,
        chance: Random,
        started: Callable[[Node], None],
        *,
        memory_limit: int,
    ) -> None:
        self.environment, self.disk, self.network, self._chance = environment, disk, network, chance
        self._memory_limit = memory_limit
        self._started = started
        self.node: Node | None = None
        self._over = False
        self._began = 0.0
        self._limit = float(environment.settings.get("SILENT_HOLD_SECONDS", "10"))
        self._round = 0

    def begin(self, fail: Callable[[int, str], None]) -> None:
        """Run the script; ``fail`` hears its exit code and last words."""
        uid = self.environment.settings.get("CLUSTER_UID", "")
        if self.disk.cluster_uid not in (None, uid):
            message = f"the volume belongs to the CacheCluster with uid {self.disk.cluster_uid}"
            self.network.clock.later(0.05, fail, FOREIGN_VOLUME_EXIT, message)
            return
        if missing := {names.USER_APPLICATION, names.USER_NODE} - self.environment.users.keys():
            message = f"the mounted Secret lacks the users {sorted(missing)}"
            self.network.clock.later(0.05, fail, NO_USERS_EXIT, message)
            return
        config = self.environment.config
        bad = commands.unusable(own_values(config.version), config.live)
        if bad is not None:
            self.network.clock.later(0.05, fail, 1, f"FATAL CONFIG FILE ERROR: {bad}")
            return
        self.disk.cluster_uid = uid
        self.network.clock.later(0.03 + 0.1 * self._chance.random(), self._decide)

    def end(self, *, orderly: bool) -> None:
        """The container's processes end."""
        self._over = True
        if self.node is not None:
            self.node.stop(orderly=orderly)

    @property
    def _has_data(self) -> bool:
        match self.environment.settings.get("PERSISTENCE"):
            case "Snapshot":
                return self.disk.dump is not None
            case "AppendOnly":
                return self.disk.append_only is not None
        return False

    def _decide(self) -> None:
        if self._over:
            return
        if self.environment.settings.get("PERSISTENCE") == "None":
            self.disk.dump = None
        conf = self.disk.nodes_conf
        if conf is None:
            if self.environment.settings.get("PERSISTENCE") == "Snapshot" and self.disk.dump is None:
                self.disk.dump = Dump({}, "none", 0)  # of nothing, so that it differs from a lost one
            self._run(quarantined=True)
        elif not conf.mine.primary or not conf.mine.slots:
            self._run(quarantined=conf.mine.primary)
        elif not any(_in_shard(r, conf) for r in conf.rows):
            self._run(blank=not self._has_data)
        else:
            self._began = self.network.clock.now()
            self._hold(conf)

    def _hold(self, conf: NodesConf) -> None:
        """Stay away until it is clear what became of our slots."""
        if self._over:
            return
        verdict = self._judge(conf)
        waited = self.network.clock.now() - self._began
        if verdict == "answered":
            self._limit = float(self.environment.settings.get("HOLD_SECONDS", "30"))
        if verdict not in {"moved", "unsynced", "restarted"} and waited < self._limit:
            self._round += 1
            self.network.clock.later(1.05 + 0.1 * self._chance.random(), self._hold, conf)
            return
        if not self._has_data:
            self._run(blank=True)
        else:
            self._run(quarantined=verdict not in {"moved", "unsynced"}, replaced=verdict == "moved")

    def _judge(self, conf: NodesConf) -> str:
        replicas = [r for r in conf.rows if _in_shard(r, conf)]
        others = [r for r in conf.rows if not _in_shard(r, conf) and r.node_id != conf.myself and not r.noaddr]
        start = self._round * PEERS_AT_ONCE
        some = [others[(start + i) % len(others)] for i in range(min(PEERS_AT_ONCE, len(others)))]
        snapshots = self.environment.settings.get("PERSISTENCE") == "Snapshot"
        never: set[NodeId] = set()
        stored: set[NodeId] = set()
        answered = False
        for row in [*(r for r in replicas if not r.noaddr), *some]:
            peer = self.network.listener(self.environment.address.ip, row.address.ip)
            if peer is None or peer.node_id != row.node_id:
                continue
            answered = True
            if self._moved(conf, peer):
                return "moved"
            if not peer.me.primary and not peer.repl.up and peer.repl.down_since is None:
                (stored if peer.keys and snapshots else never).add(row.node_id)
        if all(r.node_id in never for r in replicas):
            return "unsynced"
        if all(r.node_id in never | stored for r in replicas):
            return "restarted"
        return "answered" if answered else "silent"

    def _moved(self, conf: NodesConf, peer: Node) -> bool:
        """All our slots belong to others by newer epochs than ours."""
        left = conf.mine.slots
        for row in peer.rows.values():
            if row.primary and row.node_id != conf.myself and row.config_epoch > conf.mine.config_epoch:
                left -= row.slots
        return not left

    def _run(self, *, blank: bool = False, quarantined: bool = False, replaced: bool = False) -> None:
        environment = self.environment
        if blank:
            if self.disk.nodes_conf is not None:
                self.disk.retired.append(self.disk.nodes_conf.myself)
            self.disk.nodes_conf = None
        live = environment.config.live
        live = {**live, PARAMETER: _bounded(live.get(PARAMETER, ""), self._memory_limit)}
        if replaced:
            live |= ASKS_FOR_REPLICA
        self.node = Node(
            self.network,
            environment.address,
            self.disk,
            replace(environment.config, live=live),
            self._chance,
            users=dict(environment.users),
            quarantined=quarantined or blank,
            primary_user=environment.replication_user,
            replication_password=digest(environment.replication_password),
        )
        self._started(self.node)


def _in_shard(row: SavedRow, conf: NodesConf) -> bool:
    """It follows us, or led our shard before us and had not told us yet that it follows."""
    return row.node_id != conf.myself and (row.primary_id == conf.myself or row.shard_id == conf.mine.shard_id)


def _bounded(asked: str, limit: int) -> str:
    """maxmemory as the file says it, but no more than the node's share of its container's limit."""
    most = (limit + LARGEST_PAGE) * MAXMEMORY_PERCENT // 100
    return asked if asked.isdecimal() and 0 < int(asked) <= most else str(most)
