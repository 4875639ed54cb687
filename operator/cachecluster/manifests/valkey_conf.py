"""``valkey.conf`` of a node: the user's parameters first, the operator's own last, so that these win."""

import re
from collections.abc import Mapping
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, EngineVersion, PersistenceMode
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.domain.topology import NODE_TIMEOUT_SECONDS
from cachecluster.manifests.amounts import maxmemory

DATA_DIRECTORY: Final = "/data"
CONFIG_DIRECTORY: Final = "/etc/cachecluster/config"
ACL_DIRECTORY: Final = "/etc/cachecluster/acl"

_PLAIN_WORDS: Final = re.compile(r"[A-Za-z0-9_.,:/@%+*|~-]+(?: +[A-Za-z0-9_.,:/@%+*|~-]+)*")

_DEFAULTS: Final[Mapping[PersistenceMode, dict[str, str]]] = {
    PersistenceMode.NONE: {},
    PersistenceMode.SNAPSHOT: {"save": "3600 1 300 100 60 10000"},
    PersistenceMode.APPEND_ONLY: {"appendfsync": "everysec"},
}
"""What a user may set otherwise."""

_PERSISTENCE: Final[Mapping[PersistenceMode, dict[str, str]]] = {
    # A replica without persistence would keep the file that its sync came in, and load it, stale, at the next start.
    PersistenceMode.NONE: {"save": '""', "appendonly": "no", "rdb-del-sync-files": "yes"},
    # With save points SIGTERM writes a last snapshot, which carries the replication id: partial sync after a restart.
    PersistenceMode.SNAPSHOT: {"appendonly": "no"},
    # The append-only file is the only one that is loaded, and it carries no replication id: a snapshot beside it would
    # cost disk and time at every stop and never be read.
    PersistenceMode.APPEND_ONLY: {"save": '""', "appendonly": "yes", "aof-use-rdb-preamble": "yes"},
}


def valkey_conf(spec: CacheClusterSpec, ref: ClusterRef) -> str:
    """The whole file, one directive a line; the same spec always gives the same bytes."""
    user = {key: directive_value(str(value)) for key, value in sorted((spec.parameters or {}).items())}
    ours = _operator_settings(spec, ref)
    first = _DEFAULTS[spec.persistence_mode] | user
    lines = [f"{key} {value}" for key, value in first.items() if key not in ours]
    lines += [f"{key} {value}" for key, value in sorted(ours.items())]
    lines.append(f"include {ACL_DIRECTORY}/replication.conf")
    return "".join(f"{line}\n" for line in lines)


def _operator_settings(spec: CacheClusterSpec, ref: ClusterRef) -> dict[str, str]:
    """Settings that the operator relies on (engine-facts §7, §9); parameters never override them."""
    bus_port = str(names.bus_port(ref.namespace, ref.name))
    settings = {
        "aclfile": f"{ACL_DIRECTORY}/users.acl",
        "appenddirname": "appendonlydir",
        "cluster-allow-replica-migration": "no",
        "cluster-announce-bus-port": bus_port,
        "cluster-config-file": "nodes.conf",
        "cluster-enabled": "yes",
        "cluster-node-timeout": str(int(NODE_TIMEOUT_SECONDS * 1000)),
        "cluster-port": bus_port,
        "cluster-replica-validity-factor": "10",
        "cluster-require-full-coverage": "no",
        "daemonize": "no",
        "dbfilename": "dump.rdb",
        "dir": DATA_DIRECTORY,
        "maxmemory": str(maxmemory(spec)),
        "port": str(names.CACHE_PORT),
        "protected-mode": "no",
        "repl-diskless-sync": "yes",
        "repl-diskless-sync-delay": "0",
        "repl-ping-replica-period": "1",
    }
    if _fails_over_on_sigterm(spec.version):
        settings["shutdown-on-sigterm"] = "failover"  # where the hand-over before it found no time
    return settings | _PERSISTENCE[spec.persistence_mode]


def directive_value(value: str) -> str:
    """A value as it stands in the file: plain words stay as they are (several make several arguments), anything else
    becomes one quoted argument, so that no value can begin another directive.
    """
    return value if _PLAIN_WORDS.fullmatch(value) else quoted(value)


def quoted(value: str) -> str:
    """One double-quoted argument (valkey ``sdssplitargs``: backslash escapes, ``\\xHH`` for anything unprintable)."""
    out = []
    for byte in value.encode():
        char = chr(byte)
        if char in '"\\':
            out.append(f"\\{char}")
        elif 0x20 <= byte < 0x7F:
            out.append(char)
        else:
            out.append(f"\\x{byte:02x}")
    return f'"{"".join(out)}"'


def _fails_over_on_sigterm(version: EngineVersion) -> bool:
    return int(version.split(".")[0]) >= 9
