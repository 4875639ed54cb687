"""Which values the engine's parameters take: bounds and words as in Valkey's ``src/config.c`` (8.0 to 9.1)."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
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

    def normal(self, value: str) -> str:
        """The one way to write it."""
        return value


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

    def normal(self, value: str) -> str:
        """The one way to write it: without leading zeros, which the engine does not read."""
        return str(int(value))


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, with one of the engine's own units (k is 1000, kb is 1024)."""

    least: int
    percent: bool = False
    """A percentage of maxmemory is possible too."""
    unlimited: bool = False
    """-1 is possible too."""

    def problem(self, value: str) -> str | None:
        """What to write instead of ``value``, None if it is fine."""
        if (self.percent and re.fullmatch(r"[0-9]{1,2}%|100%", value)) or (self.unlimited and value == "-1"):
            return None
        try:
            amount = bytes_of(value)
        except ValueError:
            return f"write an amount such as 64mb or 1gb{' or a percentage such as 5%' if self.percent else ''}"
        return (
            None if self.least <= amount <= _LONG_MAX else f"write at least {self.least} and at most {_LONG_MAX} bytes"
        )

    def normal(self, value: str) -> str:
        """The one way to write it: bytes, as a number; a percentage stays one, but for none at all."""
        if value.endswith("%"):
            return f"{int(value[:-1])}%" if int(value[:-1]) else "0"
        return value if value == "-1" else str(bytes_of(value))


@dataclass(frozen=True, slots=True)
class Form:
    """Text of a certain form."""

    pattern: str
    example: str
    rewrite: Callable[[str], str]
    """Gives the one way to write a value of this form."""

    def problem(self, value: str) -> str | None:
        """What to write instead of ``value``, None if it is fine."""
        return None if re.fullmatch(self.pattern, value) else f"write it like {self.example}"

    def normal(self, value: str) -> str:
        """The one way to write it."""
        return self.rewrite(value)


Type = Word | Whole | Memory | Form


def bytes_of(amount: str) -> int:
    """An amount in the engine's units; raises ValueError."""
    match = _MEMORY.fullmatch(amount.lower())
    if match is None or match["unit"] not in _UNITS:
        raise ValueError(amount)
    return int(match["number"]) * _UNITS[match["unit"]]


def _buffer_limits(value: str) -> str:
    """Every class once, the last mention counts; the engine itself still answers with the old name of replicas."""
    words = value.split()
    limits = {}
    for name, hard, soft, seconds in zip(words[::4], words[1::4], words[2::4], words[3::4], strict=True):
        of = "replica" if name == "slave" else name
        limits[of] = f"{of} {bytes_of(hard)} {bytes_of(soft)} {int(seconds)}"
    return " ".join(limits[name] for name in ("normal", "replica", "pubsub") if name in limits)


_ALL_EVENTS: Final = "g$lshzxetd"


def _events(value: str) -> str:
    """`A` for all the classes that it stands for. Beside `A` the engine does not tell whether `n` is on."""
    flags = set(value)
    if "A" in flags or flags >= set(_ALL_EVENTS):
        flags = flags - set(_ALL_EVENTS) - {"n"} | {"A"}
    return "".join(sorted(flags))


def _numbers(value: str) -> str:
    return " ".join(str(int(word)) for word in value.split())


def _percentiles(value: str) -> str:
    return " ".join(f"{float(word):.10g}" for word in value.split())


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
        rf"{_BUFFER_LIMIT}(?: +{_BUFFER_LIMIT})*",
        "replica 256mb 64mb 60, with further classes after it",
        _buffer_limits,
    ),
    "client-query-buffer-limit": Memory(2**20),
    "cluster-databases": Whole(1, _INT_MAX),
    "hz": Whole(1, 500),
    "io-threads": Whole(1, 128),
    "latency-tracking-info-percentiles": Form(
        r"(?:[0-9]{1,3}(?:\.[0-9]+)?(?: +[0-9]{1,3}(?:\.[0-9]+)?)*)?", "50 99 99.9", _percentiles
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
    "notify-keyspace-events": Form(
        r"(?!.*A.*n|.*n.*A)[AKEg$lshzxetdmn]*", "KEA; n for new keys only without A", _events
    ),
    "prefetch-batch-max-size": Whole(0, 128),
    "propagation-error-behavior": Word(("ignore", "panic", "panic-on-replicas")),
    "proto-max-bulk-len": Memory(2**20),
    "rdb-version-check": Word(("strict", "relaxed")),
    "repl-backlog-size": Memory(16 * 2**10),  # the engine takes less and makes it this
    "repl-timeout": Whole(10, _INT_MAX),
    "sanitize-dump-payload": Word(("no", "yes", "clients")),
    "save": Form(
        r"[1-9][0-9]{0,8} +[1-9][0-9]{0,8}(?: +[1-9][0-9]{0,8} +[1-9][0-9]{0,8})*", "3600 1 300 100", _numbers
    ),
    "slot-migration-max-failover-repl-bytes": Memory(0, unlimited=True),
}
"""Parameters with a checked value; the few others that users may set are free text."""


@lru_cache(maxsize=4096)
def normal(name: str, value: str) -> str:
    """The one way to write ``value``, for the engine and for comparing it with what the engine answers.

    What cannot be read stays as it is.
    """
    kind = TYPES.get(name)
    try:
        return value if kind is None else kind.normal(value)
    except ValueError:
        return value
