"""Parameters that users may change on a running node, with the values that the engine itself begins with.

Pure data. Source: `CONFIG GET` of live servers 8.0.1, 8.1.1 and 9.1.2 that were given none of them, to which a test
keeps it equal; 9.0 is as 9.1. What is not here but may be set takes effect at a start only.
"""

from collections.abc import Mapping
from typing import Final

_ALL: Final = {
    "acllog-max-len": "128",
    "active-defrag-cycle-max": "25",
    "active-defrag-cycle-min": "1",
    "active-defrag-ignore-bytes": "104857600",
    "active-defrag-max-scan-fields": "1000",
    "active-defrag-threshold-lower": "10",
    "active-defrag-threshold-upper": "100",
    "active-expire-effort": "1",
    "activedefrag": "no",
    "activerehashing": "yes",
    "aof-load-truncated": "yes",
    "aof-rewrite-incremental-fsync": "yes",
    "aof-timestamp-enabled": "no",
    "appendfsync": "everysec",
    "auto-aof-rewrite-min-size": "67108864",
    "auto-aof-rewrite-percentage": "100",
    "busy-reply-threshold": "5000",
    "client-output-buffer-limit": "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
    "client-query-buffer-limit": "1073741824",
    "cluster-allow-pubsubshard-when-down": "yes",
    "cluster-allow-reads-when-down": "no",
    "cluster-link-sendbuf-limit": "0",
    "cluster-slot-stats-enabled": "no",
    "crash-log-enabled": "yes",
    "crash-memcheck-enabled": "yes",
    "dual-channel-replication-enabled": "no",
    "extended-redis-compatibility": "no",
    "hash-max-listpack-entries": "512",
    "hash-max-listpack-value": "64",
    "hide-user-data-from-log": "yes",
    "hll-sparse-max-bytes": "3000",
    "hz": "10",
    "jemalloc-bg-thread": "yes",
    "latency-monitor-threshold": "0",
    "latency-tracking": "yes",
    "latency-tracking-info-percentiles": "50 99 99.9",
    "lazyfree-lazy-eviction": "yes",
    "lazyfree-lazy-expire": "yes",
    "lazyfree-lazy-server-del": "yes",
    "lazyfree-lazy-user-del": "yes",
    "lazyfree-lazy-user-flush": "yes",
    "lfu-decay-time": "1",
    "lfu-log-factor": "10",
    "list-compress-depth": "0",
    "list-max-listpack-size": "-2",
    "locale-collate": "",
    "loglevel": "notice",
    "max-new-connections-per-cycle": "10",
    "maxclients": "10000",
    "maxmemory-clients": "0",
    "maxmemory-eviction-tenacity": "10",
    "maxmemory-policy": "noeviction",
    "maxmemory-samples": "5",
    "no-appendfsync-on-rewrite": "no",
    "notify-keyspace-events": "",
    "prefetch-batch-max-size": "16",
    "propagation-error-behavior": "ignore",
    "proto-max-bulk-len": "536870912",
    "rdb-save-incremental-fsync": "yes",
    "rdbcompression": "yes",
    "repl-backlog-size": "10485760",
    "repl-backlog-ttl": "3600",
    "repl-disable-tcp-nodelay": "no",
    "repl-timeout": "60",
    "replica-ignore-disk-write-errors": "no",
    "replica-lazy-flush": "yes",
    "replica-serve-stale-data": "yes",
    "set-max-intset-entries": "512",
    "set-max-listpack-entries": "128",
    "set-max-listpack-value": "64",
    "stop-writes-on-bgsave-error": "yes",
    "stream-node-max-bytes": "4096",
    "stream-node-max-entries": "100",
    "tcp-keepalive": "300",
    "timeout": "0",
    "tracking-table-max-keys": "1000000",
    "zset-max-listpack-entries": "128",
    "zset-max-listpack-value": "64",
    # A node of ours that keeps snapshots; elsewhere the operator sets it.
    "save": "3600 1 300 100 60 10000",
}
_UNTIL_8_0: Final = {
    "dynamic-hz": "yes",
    "events-per-io-thread": "2",
    # Later a second name of commandlog-*.
    "slowlog-log-slower-than": "10000",
    "slowlog-max-len": "128",
}
_UNTIL_8_1: Final = {"sanitize-dump-payload": "no"}
_SINCE_8_1: Final = {
    "active-defrag-cycle-us": "500",
    "commandlog-execution-slower-than": "10000",
    "commandlog-large-reply-max-len": "128",
    "commandlog-large-request-max-len": "128",
    "commandlog-reply-larger-than": "1048576",
    "commandlog-request-larger-than": "1048576",
    "commandlog-slow-execution-max-len": "128",
    "log-format": "legacy",
    "log-timestamp-format": "legacy",
    "rdb-version-check": "strict",
}
_SINCE_9_0: Final = {
    "cluster-slot-migration-log-max-len": "1000",
    "io-threads": "1",
    "slot-migration-max-failover-repl-bytes": "0",
}

_9: Final = _ALL | _SINCE_8_1 | _SINCE_9_0

DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "8.0": _ALL | _UNTIL_8_0 | _UNTIL_8_1,
    "8.1": _ALL | _UNTIL_8_1 | _SINCE_8_1,
    "9.0": _9,
    "9.1": _9,
}
"""By release family: everything that users may set and that CONFIG SET takes, by its present name."""
