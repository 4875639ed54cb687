"""The engine's users (valkey.io "ACL"), as the lines of an ACL file. Holds hashes only, never a password.

Four users, each with the least that works: the application (``default``), the operator, replication between the
nodes, and the pods' own scripts. None but the application's and replication's can read or write a key; the operator's
can make one node hand its keys to another.

Replication's is another one in each shard, known to the nodes of that shard alone: a replica that finds a stranger at
its primary's address is turned away there, and keeps what it has (S3, ADR 0022). The files that are mounted are all
shards': the start script puts the shard's index into its name.

A new version of the operator may change the rules: running nodes get them by ``policies.access``. What reads a node's
state must get along with the rights that an older version gave, or that policy never comes to its turn.
"""

from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import AuthMode, EngineVersion
from cachecluster.domain.access import Rights, read_users
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
    "+bgrewriteaof",
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
"""Atomic slot migration runs as the source's replication user (engine-facts §1.5)."""
_MIGRATION_GUEST: Final = ("resetchannels", "-@all", "+select", *_ATOMIC_MIGRATION)
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


def users_file(version: EngineVersion, auth: AuthMode, passwords: Passwords) -> str:
    """Everybody is on."""
    return _file(rules(version, auth, passwords), off=())


def quarantine_file(version: EngineVersion, auth: AuthMode, passwords: Passwords) -> str:
    """The same with the application and replication off, until the operator has compared the node's data with its
    replicas' (S5); it ends the quarantine with ``ACL SETUSER ... on``.
    """
    return _file(rules(version, auth, passwords), off=(names.USER_APPLICATION, names.USER_REPLICATION))


def migration_guest(passwords: Passwords) -> tuple[str, ...]:
    """Rules of another shard's replication user where slots of that shard come in atomically: it copies nothing."""
    return ("on", _hash(passwords.replication), *_MIGRATION_GUEST)


def rights(version: EngineVersion, auth: AuthMode, passwords: Passwords) -> dict[str, Rights]:
    """What the users of a node of that family may do, as the node itself would list it; named as in its file."""
    return read_users(users_file(version, auth, passwords).splitlines())


def rules(version: EngineVersion, auth: AuthMode, passwords: Passwords) -> dict[str, tuple[str, ...]]:
    """By user, named as in the file, all that makes up its rights; none of them switches it on or off.

    A family has rules of its own: a node does not start with a file that names a command which it does not know.
    """
    application = "nopass" if auth is AuthMode.DISABLED else _hash(passwords.application)
    replication = _REPLICATION + (_ATOMIC_MIGRATION if _migrates_atomically(version) else ())
    return {
        names.USER_APPLICATION: (application, *_APPLICATION),
        names.USER_OPERATOR: (_hash(passwords.operator), *_OPERATOR),
        names.USER_REPLICATION: (_hash(passwords.replication), *replication),
        names.USER_NODE: (_hash(passwords.node), *_NODE),
    }


def _file(users: Mapping[str, Sequence[str]], off: Collection[str]) -> str:
    lines = (("user", user, "off" if user in off else "on", *words) for user, words in users.items())
    return "".join(f"{' '.join(line)}\n" for line in lines)


def _hash(password: str) -> str:
    return f"#{sha256(password.encode()).hexdigest()}"


def _migrates_atomically(version: EngineVersion) -> bool:
    return int(version.split(".")[0]) >= 9
