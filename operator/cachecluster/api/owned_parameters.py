"""Engine parameters that are the operator's own, by the reason why a user's value for them is refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class OwnedGroup:
    """Parameters that are refused for one reason."""

    advice: str
    """What to do instead, as the rest of a sentence that begins with the names."""
    names: tuple[str, ...]
    prefixes: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    """Names under ``prefixes`` that users may set."""

    def owns(self, name: str) -> bool:
        """Whether ``name`` is refused for this group's reason."""
        return name in self.names or (name.startswith(self.prefixes) and bool(self.prefixes) and name not in self.free)

    def refused(self, given: Iterable[str]) -> list[str]:
        """The names among ``given`` that are refused, sorted."""
        return sorted(name for name in given if self.owns(name))

    @property
    def cel(self) -> str:
        """CEL condition on a name ``k`` that is true for the group's names."""
        parts = [f"k in [{_quoted(self.names)}]"] if self.names else []
        for prefix in self.prefixes:
            free = f" && !(k in [{_quoted(self.free)}])" if self.free else ""
            parts.append(f"k.startsWith('{prefix}'){free}")
        return " || ".join(parts)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


OWNED: Final = (
    OwnedGroup(
        "follows from the memory limit; set resources.limits.memory instead",
        ("maxmemory", "replica-ignore-maxmemory"),
    ),
    OwnedGroup(
        "follows from persistence.mode; set that instead",
        (
            "appendonly",
            "appenddirname",
            "appendfilename",
            "aof-use-rdb-preamble",
            "dbfilename",
            "dir",
            "rdb-del-sync-files",
        ),
    ),
    OwnedGroup(
        "follows from durability.mode; set that instead",
        ("min-replicas-max-lag", "min-replicas-to-write"),
    ),
    OwnedGroup(
        "belongs to the users and passwords that the operator manages; set auth.mode instead",
        (
            "aclfile",
            "acl-pubsub-default",
            "masterauth",
            "masteruser",
            "primaryauth",
            "primaryuser",
            "requirepass",
            "user",
        ),
    ),
    OwnedGroup(
        "belongs to TLS, which this version does not offer; remove it",
        ("max-new-tls-connections-per-cycle",),
        prefixes=("tls-",),
    ),
    OwnedGroup(
        "decides where a node listens, which the operator sets; remove it",
        (
            "bind",
            "bind-source-addr",
            "port",
            "protected-mode",
            "socket-mark-id",
            "tcp-backlog",
            "unixsocket",
            "unixsocketgroup",
            "unixsocketperm",
        ),
        prefixes=("rdma-",),
    ),
    OwnedGroup(
        "decides how nodes form a cluster, which the operator sets; remove it",
        ("availability-zone", "databases"),
        prefixes=("cluster-",),
        free=(
            "cluster-allow-pubsubshard-when-down",
            "cluster-allow-reads-when-down",
            "cluster-databases",
            "cluster-link-sendbuf-limit",
            "cluster-slot-migration-log-max-len",
            "cluster-slot-stats-enabled",
        ),
    ),
    OwnedGroup(
        "decides how replicas follow their primary, which the operator sets; remove it",
        (
            "import-mode",
            "repl-diskless-load",
            "repl-diskless-sync",
            "repl-diskless-sync-delay",
            "repl-diskless-sync-max-replicas",
            "repl-ping-replica-period",
            "replica-announce-ip",
            "replica-announce-port",
            "replica-announced",
            "replica-priority",
            "replica-read-only",
            "replicaof",
            "slaveof",
        ),
    ),
    OwnedGroup(
        "decides how the process runs in its container, which the operator sets; remove it",
        (
            "aof-rewrite-cpulist",
            "bgsave-cpulist",
            "bio-cpulist",
            "daemonize",
            "disable-thp",
            "ignore-warnings",
            "logfile",
            "oom-score-adj",
            "oom-score-adj-values",
            "pidfile",
            "proc-title-template",
            "server-cpulist",
            "set-proc-title",
            "shutdown-on-sigint",
            "shutdown-on-sigterm",
            "shutdown-timeout",
            "supervised",
        ),
        prefixes=("syslog-",),
    ),
    OwnedGroup(
        "would let clients or files outside the resource change the node; remove it",
        (
            "enable-debug-command",
            "enable-module-command",
            "enable-protected-configs",
            "include",
            "loadmodule",
            "rename-command",
        ),
    ),
)


def owned_by_operator(name: str) -> str | None:
    """What to do instead of setting ``name``, or None if users may set it."""
    return next((group.advice for group in OWNED if group.owns(name)), None)
