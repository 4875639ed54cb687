"""What a node reads when it starts: the user's parameters first, the operator's own last, so that these win.

``valkey.conf`` is immutable and includes ``live.conf``, which changes while the node runs.
"""

import re
from collections.abc import Mapping
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, EngineVersion, PersistenceMode
from cachecluster.domain.live_parameters import FILE, is_live
from cachecluster.domain.parameter_types import normal
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.domain.topology import NODE_TIMEOUT_SECONDS

DATA_DIRECTORY: Final = "/data"
CONFIG_DIRECTORY: Final = "/etc/cachecluster/config"
ACL_DIRECTORY: Final = "/etc/cachecluster/acl"
LIVE_DIRECTORY: Final = "/etc/cachecluster/live"

_PLAIN_WORDS: Final = re.compile(r"[A-Za-z0-9_.,:/@%+*|~-]+(?: +[A-Za-z0-9_.,:/@%+*|~-]+)*")

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
    lines = [f"include {LIVE_DIRECTORY}/{FILE}"]
    given = sorted((spec.parameters or {}).items())
    lines += [_directive(name, normal(name, str(value))) for name, value in given if not is_live(name, spec)]
    lines += [f"{key} {value}" for key, value in sorted(_operator_settings(spec, ref).items())]
    lines.append(f"include {ACL_DIRECTORY}/replication.conf")
    return "".join(f"{line}\n" for line in lines)


def live_conf(values: Mapping[str, str]) -> str:
    """The file of parameters that change without a restart."""
    return "".join(f"{_directive(name, value)}\n" for name, value in values.items())


def _directive(name: str, value: str) -> str:
    return f"{name} {directive_value(value)}"


def _operator_settings(spec: CacheClusterSpec, ref: ClusterRef) -> dict[str, str]:
    """Settings that the operator relies on (engine-facts §7, §9); parameters never override them."""
    bus_port = str(names.bus_port(ref.namespace, ref.name))
    settings = {
        "aclfile": f"{DATA_DIRECTORY}/users.acl",  # by the start script, which knows the shard
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
