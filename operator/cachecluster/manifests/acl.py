"""The engine's users (valkey.io "ACL"), as the lines of an ACL file. Holds hashes only, never a password.

Four users, each with the least that works: the application (``default``), the operator, replication between the
nodes, and the pods' own scripts. None but the application's and replication's can read or write a key; the operator's
can make one node hand its keys to another.
"""

from hashlib import sha256
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import AuthMode, CacheClusterSpec, EngineVersion
from cachecluster.manifests.facts import Passwords

_CLUSTER_READS: Final = (
    "countkeysinslot",
    "getkeysinslot",
    "help",
    "info",
    "keyslot",
    "links",
    "myid",
    "myshardid",
    "nodes",
    "replicas",
    "shards",
    "slot-stats",
    "slots",
)
"""What cluster clients and their users ask for."""

_APPLICATION: Final = (
    "~*",
    "&*",
    "+@all",
    "-@admin",  # CONFIG, ACL, REPLICAOF, SHUTDOWN, DEBUG, MODULE, SAVE, MONITOR, CLIENT KILL, SYNC, ...
    "-cluster",
    *(f"+cluster|{name}" for name in _CLUSTER_READS),
    "-migrate",
    "-restore-asking",
    "+role",  # clients look for the primary with it
)
_OPERATOR: Final = (
    "resetchannels",
    f"&{names.DETECTOR}",
    "-@all",
    "+@connection",
    "+acl",
    "+cluster",
    "+config",
    "+dbsize",
    "+failover",
    "+info",
    "+role",
    "+subscribe",  # nothing is published there: a subscriber's connection may be idle for as long as it likes
    "+wait",
    "~*",
    "+migrate",  # takes a key away, hence reads and writes it; nothing else here touches a key
)
_REPLICATION: Final = (
    "resetchannels",
    "-@all",
    "+psync",
    "+replconf",
    "+ping",
    # A slot's keys come in as this user, too: the nodes have its password already, it may read everything as it is
    # (PSYNC), and it can put a key into a node, but neither read nor delete one. The operator's user would bring all
    # its rights to wherever it is told to connect; a user of its own would need a fifth password, which the immutable
    # Secrets of living clusters have not.
    "%W~*",
    "+restore-asking",
    "+select",
)
_ATOMIC_MIGRATION: Final = ("~*", "+cluster|syncslots", "+@write")
"""Atomic slot migration runs as the replication user (engine-facts §1.5)."""
_NODE: Final = (
    "resetchannels",
    "-@all",
    "+acl|getuser",  # readiness: is this node quarantined?
    "+auth",
    "+cluster|failover",  # hand-over
    "+cluster|info",
    "+cluster|myid",
    "+cluster|nodes",
    "+hello",
    "+info",
    "+ping",
    "+role",
)


def users(spec: CacheClusterSpec, passwords: Passwords) -> str:
    """``users.acl``: everybody is on."""
    return _file(spec, passwords, quarantined=False)


def quarantined_users(spec: CacheClusterSpec, passwords: Passwords) -> str:
    """``users-quarantine.acl``: the same with the application and replication off, until the operator has compared
    the node's data with its replicas' (S5); it ends the quarantine with ``ACL SETUSER ... on``.
    """
    return _file(spec, passwords, quarantined=True)


def _file(spec: CacheClusterSpec, passwords: Passwords, *, quarantined: bool) -> str:
    switch = "off" if quarantined else "on"
    application = "nopass" if spec.auth_mode is AuthMode.DISABLED else _hash(passwords.application)
    replication = _REPLICATION + (_ATOMIC_MIGRATION if _migrates_atomically(spec.version) else ())
    lines = (
        (names.USER_APPLICATION, switch, application, *_APPLICATION),
        (names.USER_OPERATOR, "on", _hash(passwords.operator), *_OPERATOR),
        (names.USER_REPLICATION, switch, _hash(passwords.replication), *replication),
        (names.USER_NODE, "on", _hash(passwords.node), *_NODE),
    )
    return "".join(f"user {' '.join(line)}\n" for line in lines)


def _hash(password: str) -> str:
    return f"#{sha256(password.encode()).hexdigest()}"


def _migrates_atomically(version: EngineVersion) -> bool:
    return int(version.split(".")[0]) >= 9
