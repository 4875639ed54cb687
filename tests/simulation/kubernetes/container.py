"""The engine container: its mounted configuration, and what the probe and the preStop hook do."""

import hashlib
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from cachecluster.api import names
from cachecluster.domain.actions import FailoverKind
from tests.simulation.engine import commands
from tests.simulation.engine.node import Config, Node
from tests.simulation.engine.table import Address
from tests.simulation.kubernetes.store import Key, Object, Store

FOREIGN_VOLUME_EXIT: Final = 3
NO_USERS_EXIT: Final = 4


@dataclass(frozen=True)
class Environment:
    """What the container finds mounted when it starts."""

    address: Address
    config: Config
    users: dict[str, str] = field(repr=False)
    """Lines of the users' file, as the start script writes it for the shard."""
    replication_user: str
    """The shard's own."""
    replication_password: str = field(repr=False)
    settings: dict[str, str]
    """What the scripts are told: CLUSTER_UID, PERSISTENCE, USERS, HOLD_SECONDS, SILENT_HOLD_SECONDS."""

    @classmethod
    def of(cls, store: Store, namespace: str, pod: Object, ip: str) -> "Environment":
        """Read the ConfigMap and Secret that the pod mounts."""
        files: dict[str, str] = {}
        for volume in pod["spec"].get("volumes", ()):
            if "configMap" in volume:
                found = store.look(Key("ConfigMap", namespace, volume["configMap"]["name"]))
                files |= (found or {}).get("data", {})
            if "secret" in volume:
                found = store.look(Key("Secret", namespace, volume["secret"]["secretName"]))
                files |= {k: b64decode(v).decode() for k, v in ((found or {}).get("data") or {}).items()}
        settings = _settings(files.get("valkey.conf", ""))
        live = {name: value.strip('"') for name, value in _settings(files.get("live.conf", "")).items()}
        settings = live | settings  # valkey.conf includes it first
        config = Config(
            version=_version(pod),
            live=live,
            node_timeout=int(settings.get("cluster-node-timeout", "5000")) / 1000,
            append_only=settings.get("appendonly") == "yes",
            snapshots=settings.get("save", "").strip('"') != "",
        )
        bus = int(settings.get("cluster-port", settings.get("cluster-announce-bus-port", "16379")))
        replication = _settings(files.get("replication.conf", "")).get("primaryauth", "").strip('"')
        script = dict(line.split("=", 1) for line in files.get("settings.sh", "").splitlines() if "=" in line)
        address = Address(ip, names.CACHE_PORT, bus)
        general = script.get("REPLICATION_USER", "")
        own = f"{general}-{_shard(pod)}"
        lines = [line.split() for line in files.get(script.get("USERS", ""), "").splitlines()]
        named = ((own if name == general else name, words) for _, name, *words in lines)
        users = {name: " ".join(("user", name, *words)) for name, words in named}
        return cls(address, config, users, own, replication, script)


def _settings(text: str) -> dict[str, str]:
    pairs = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {p[0]: p[1].strip() if len(p) > 1 else "" for p in pairs}


def _shard(pod: Object) -> str:
    container = next(c for c in pod["spec"]["containers"] if c["name"] == names.CONTAINER)
    found: str = next(e["value"] for e in container["env"] if e["name"] == "SHARD")
    return found


def _version(pod: Object) -> tuple[int, int]:
    image: str = next(c for c in pod["spec"]["containers"] if c["name"] == names.CONTAINER)["image"]
    tag = image.rpartition(":")[2].split(".")
    try:
        return int(tag[0]), int(tag[1])
    except (ValueError, IndexError):
        return (8, 1)


def digest(password: str) -> str:
    """As an ACL file holds it."""
    return hashlib.sha256(password.encode()).hexdigest()


UNHEARD_SECONDS = 4.0
"""So long a replica has not heard of its primary before it is not ready."""


def is_ready(node: Node) -> bool:
    """ready.sh: answers, knows slots, lets the application in, and as a replica is in step and hears its primary."""
    if node.frozen:
        return False
    in_step = node.me.primary or (node.repl.up and node.now() - node.repl.last_io < UNHEARD_SECONDS)
    return any(r.slots for r in node.rows.values()) and in_step and not node.quarantined


class HandOver:
    """handover.sh: before it is stopped a primary asks the replica that is furthest along to take over."""

    ASK_SECONDS = 6.0
    """No further replica is asked after so long."""
    SWITCH_SECONDS = 6.0
    """One replica is given so long."""

    def __init__(self, node: Node, done: Callable[[], None]) -> None:
        self._node, self._done = node, done
        self._began = self._asked = node.now()
        self._waiting = False
        self._step()

    def _candidates(self) -> list[Node]:
        node = self._node
        online = [
            r
            for r in node.repl.replicas.values()
            if r.alive and not r.frozen and r.repl.up and node.network.open(node.ip, r.ip)
        ]
        return sorted(online, key=lambda r: -r.repl.offset)

    def _step(self) -> None:
        node, now = self._node, self._node.now()
        candidates = self._candidates()
        if not node.alive or not node.me.primary or not node.me.slots or not candidates:
            self._done()
            return
        if self._waiting and now - self._asked >= self.SWITCH_SECONDS:
            self._waiting = False
        if not self._waiting:
            if now - self._began >= self.ASK_SECONDS:
                self._done()
                return
            self._ask(candidates)
        node.network.clock.later(0.1, self._step)

    def _ask(self, candidates: list[Node]) -> None:
        for replica in candidates:
            try:
                commands.failover(replica, FailoverKind.GRACEFUL)
            except commands.Refused:
                continue
            self._asked, self._waiting = self._node.now(), True
            return
