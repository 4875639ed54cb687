"""Which values the engine's parameters take: bounds and words as in Valkey's ``src/config.c`` (8.0 to 9.1)."""

import re
from dataclasses import dataclass
from typing import Final

_INT_MAX: Final = 2**31 - 1
_LONG_MAX: Final = 2**63 - 1
_MEMORY: Final = re.compile(r"(?P<number>[0-9]{1,18})(?P<unit>[a-z]{0,2})")
_UNITS: Final = {"": 1, "b": 1, "k": 10**3, "kb": 2**10, "m": 10**6, "mb": 2**20, "g": 10**9, "gb": 2**30}


@dataclass(frozen=True, slots=True)
class Word:
    """One of a few words."""

    words: tuple[str, ...]

    def problem(self, value: str) -> str | None:
        """What to write instead of ``value``, None if it is fine."""
        return None if value in self.words else f"write {_one_of(self.words)}"


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number, bounds included."""

    least: int
    most: int

    def problem(self, value: str) -> str | None:
        """What to write instead of ``value``, None if it is fine."""
        if re.fullmatch(r"-?[0-9]{1,19}", value) and self.least <= int(value) <= self.most:
            return None
        upper = "" if self.most in {_INT_MAX, _LONG_MAX} else f", at most {self.most}"
        return f"write a whole number of at least {self.least}{upper}"


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, with one of the engine's own units (k is 1000, kb is 1024)."""

    least: int
    percent: bool = False
    """A percentage of maxmemory is possible too."""

    def problem(self, value: str) -> str | None:
        """What to write instead of ``value``, None if it is fine."""
        if self.percent and re.fullmatch(r"[0-9]{1,2}%|100%", value):
            return None
        match = _MEMORY.fullmatch(value.lower())
        if match is None or match["unit"] not in _UNITS:
            return f"write an amount such as 64mb or 1gb{' or a percentage such as 5%' if self.percent else ''}"
        amount = int(match["number"]) * _UNITS[match["unit"]]
        return (
            None if self.least <= amount <= _LONG_MAX else f"write at least {self.least} and at most {_LONG_MAX} bytes"
        )


@dataclass(frozen=True, slots=True)
class Form:
    """Text of a certain form."""

    pattern: str
    example: str

    def problem(self, value: str) -> str | None:
        """What to write instead of ``value``, None if it is fine."""
        return None if re.fullmatch(self.pattern, value) else f"write it like {self.example}"


Type = Word | Whole | Memory | Form


def _one_of(words: tuple[str, ...]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


_YES_NO: Final = Word(("yes", "no"))
_COUNT: Final = Whole(0, _INT_MAX)
_LONG_COUNT: Final = Whole(0, _LONG_MAX)
_SIZE: Final = r"[0-9]{1,18}(?:[kmg]b?|b)?"
_BUFFER_LIMIT: Final = rf"(?:normal|replica|slave|pubsub) +{_SIZE} +{_SIZE} +[0-9]{{1,9}}"

MAXMEMORY_POLICIES: Final = (
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
)

MIN_CLIENTS: Final = 64
"""Probes, replicas and the operator connect too; the engine itself would take 1."""


def _each(names: str, kind: Type) -> dict[str, Type]:
    return dict.fromkeys(names.split(), kind)


TYPES: Final[dict[str, Type]] = {
    **_each(
        """
        activedefrag activerehashing aof-load-truncated aof-rewrite-incremental-fsync aof-timestamp-enabled
        always-show-logo cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down cluster-slot-stats-enabled
        crash-log-enabled crash-memcheck-enabled dual-channel-replication-enabled dynamic-hz
        extended-redis-compatibility hide-user-data-from-log io-threads-do-reads jemalloc-bg-thread latency-tracking
        lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del
        lazyfree-lazy-user-flush mptcp no-appendfsync-on-rewrite rdb-save-incremental-fsync rdbchecksum
        rdbcompression repl-disable-tcp-nodelay repl-mptcp replica-ignore-disk-write-errors replica-lazy-flush
        replica-serve-stale-data stop-writes-on-bgsave-error
        """,
        _YES_NO,
    ),
    **_each(
        """
        acllog-max-len busy-reply-threshold commandlog-large-reply-max-len
        commandlog-large-request-max-len commandlog-slow-execution-max-len hash-max-listpack-entries
        latency-monitor-threshold repl-backlog-ttl set-max-intset-entries set-max-listpack-entries
        set-max-listpack-value slowlog-max-len
        stream-node-max-entries tracking-table-max-keys zset-max-listpack-entries cluster-slot-migration-log-max-len
        """,
        _LONG_COUNT,
    ),
    **_each(
        """
        auto-aof-rewrite-percentage events-per-io-thread lfu-decay-time lfu-log-factor list-compress-depth
        tcp-keepalive timeout
        """,
        _COUNT,
    ),
    **_each("hash-max-listpack-value hll-sparse-max-bytes zset-max-listpack-value", Memory(0)),
    **_each("cluster-link-sendbuf-limit stream-node-max-bytes", Memory(0)),
    **_each(
        "commandlog-execution-slower-than commandlog-reply-larger-than "
        "commandlog-request-larger-than slowlog-log-slower-than",
        Whole(-1, _LONG_MAX),
    ),
    "active-defrag-cycle-max": Whole(1, 99),
    "active-defrag-cycle-min": Whole(1, 99),
    "active-defrag-cycle-us": Whole(0, 100_000),
    "active-defrag-ignore-bytes": Memory(1),
    "active-defrag-max-scan-fields": Whole(1, _LONG_MAX),
    "active-defrag-threshold-lower": Whole(0, 1000),
    "active-defrag-threshold-upper": Whole(0, 1000),
    "active-expire-effort": Whole(1, 10),
    "appendfsync": Word(("always", "everysec", "no")),
    "auto-aof-rewrite-min-size": Memory(0),
    "client-output-buffer-limit": Form(
        rf"{_BUFFER_LIMIT}(?: +{_BUFFER_LIMIT})*", "replica 256mb 64mb 60, with further classes after it"
    ),
    "client-query-buffer-limit": Memory(2**20),
    "cluster-databases": Whole(1, _INT_MAX),
    "hz": Whole(1, 500),
    "io-threads": Whole(1, 128),
    "latency-tracking-info-percentiles": Form(
        r"(?:[0-9]{1,3}(?:\.[0-9]+)?(?: +[0-9]{1,3}(?:\.[0-9]+)?)*)?", "50 99 99.9"
    ),
    "list-max-listpack-size": Whole(-(2**31), _INT_MAX),
    "log-format": Word(("legacy", "logfmt")),
    "log-timestamp-format": Word(("legacy", "iso8601", "milliseconds")),
    "loglevel": Word(("debug", "verbose", "notice", "warning", "nothing")),
    "max-new-connections-per-cycle": Whole(1, 1000),
    "maxclients": Whole(MIN_CLIENTS, 1_000_000),
    "maxmemory-clients": Memory(0, percent=True),
    "maxmemory-eviction-tenacity": Whole(0, 100),
    "maxmemory-policy": Word(MAXMEMORY_POLICIES),
    "maxmemory-samples": Whole(1, 64),
    "notify-keyspace-events": Form(r"[AKEg$lshzxetdmn]*", "KEA"),
    "prefetch-batch-max-size": Whole(0, 128),
    "propagation-error-behavior": Word(("ignore", "panic", "panic-on-replicas")),
    "proto-max-bulk-len": Memory(2**20),
    "rdb-version-check": Word(("strict", "relaxed")),
    "repl-backlog-size": Memory(1),
    "repl-timeout": Whole(10, _INT_MAX),
    "sanitize-dump-payload": Word(("no", "yes", "clients")),
    "save": Form(r"[1-9][0-9]{0,8} +[1-9][0-9]{0,8}(?: +[1-9][0-9]{0,8} +[1-9][0-9]{0,8})*", "3600 1 300 100"),
}
"""Parameters with a checked value; the few others that users may set are free text."""
