"""Names of the engine's own parameters by release family, as its `CONFIG GET *` lists them.

Pure data: user parameters are checked against it. Source: live servers 8.0.1, 8.1.1 and 9.1.2, to which a test keeps
it equal; 9.0 is 9.1 without what the 9.1 release notes introduce.
"""

from collections.abc import Mapping
from typing import Final


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ALL = _names(
    """
    acl-pubsub-default aclfile acllog-max-len active-defrag-cycle-max active-defrag-cycle-min
    active-defrag-ignore-bytes active-defrag-max-scan-fields active-defrag-threshold-lower
    active-defrag-threshold-upper active-expire-effort activedefrag activerehashing always-show-logo
    aof-load-truncated aof-rewrite-cpulist aof-rewrite-incremental-fsync aof-timestamp-enabled aof-use-rdb-preamble
    aof_rewrite_cpulist appenddirname appendfilename appendfsync appendonly auto-aof-rewrite-min-size
    auto-aof-rewrite-percentage availability-zone bgsave-cpulist bgsave_cpulist bind bind-source-addr bio-cpulist
    bio_cpulist busy-reply-threshold client-output-buffer-limit client-query-buffer-limit
    cluster-allow-pubsubshard-when-down cluster-allow-reads-when-down cluster-allow-replica-migration
    cluster-announce-bus-port cluster-announce-client-ipv4 cluster-announce-client-ipv6 cluster-announce-hostname
    cluster-announce-human-nodename cluster-announce-ip cluster-announce-port cluster-announce-tls-port
    cluster-blacklist-ttl cluster-config-file cluster-enabled cluster-link-sendbuf-limit cluster-migration-barrier
    cluster-node-timeout cluster-port cluster-preferred-endpoint-type cluster-replica-no-failover
    cluster-replica-validity-factor cluster-require-full-coverage cluster-slave-no-failover
    cluster-slave-validity-factor cluster-slot-stats-enabled crash-log-enabled crash-memcheck-enabled daemonize
    databases dbfilename dir disable-thp dual-channel-replication-enabled enable-debug-command enable-module-command
    enable-protected-configs extended-redis-compatibility hash-max-listpack-entries hash-max-listpack-value
    hash-max-ziplist-entries hash-max-ziplist-value hide-user-data-from-log hll-sparse-max-bytes hz ignore-warnings
    io-threads jemalloc-bg-thread latency-monitor-threshold latency-tracking latency-tracking-info-percentiles
    lazyfree-lazy-eviction lazyfree-lazy-expire lazyfree-lazy-server-del lazyfree-lazy-user-del
    lazyfree-lazy-user-flush lfu-decay-time lfu-log-factor list-compress-depth list-max-listpack-size
    list-max-ziplist-size locale-collate logfile loglevel lua-time-limit masterauth masteruser
    max-new-connections-per-cycle max-new-tls-connections-per-cycle maxclients maxmemory maxmemory-clients
    maxmemory-eviction-tenacity maxmemory-policy maxmemory-samples min-replicas-max-lag min-replicas-to-write
    min-slaves-max-lag min-slaves-to-write no-appendfsync-on-rewrite notify-keyspace-events oom-score-adj
    oom-score-adj-values pidfile port prefetch-batch-max-size primaryauth primaryuser proc-title-template
    propagation-error-behavior protected-mode proto-max-bulk-len rdb-del-sync-files rdb-save-incremental-fsync
    rdbchecksum rdbcompression repl-backlog-size repl-backlog-ttl repl-disable-tcp-nodelay repl-diskless-load
    repl-diskless-sync repl-diskless-sync-delay repl-diskless-sync-max-replicas repl-ping-replica-period
    repl-ping-slave-period repl-timeout replica-announce-ip replica-announce-port replica-announced
    replica-ignore-disk-write-errors replica-ignore-maxmemory replica-lazy-flush replica-priority replica-read-only
    replica-serve-stale-data replicaof requirepass save server-cpulist server_cpulist set-max-intset-entries
    set-max-listpack-entries set-max-listpack-value set-proc-title shutdown-on-sigint shutdown-on-sigterm
    shutdown-timeout slave-announce-ip slave-announce-port slave-ignore-maxmemory slave-lazy-flush slave-priority
    slave-read-only slave-serve-stale-data slaveof slowlog-log-slower-than slowlog-max-len socket-mark-id
    stop-writes-on-bgsave-error stream-node-max-bytes stream-node-max-entries supervised syslog-enabled
    syslog-facility syslog-ident tcp-backlog tcp-keepalive timeout tls-auth-clients tls-ca-cert-dir tls-ca-cert-file
    tls-cert-file tls-ciphers tls-ciphersuites tls-client-cert-file tls-client-key-file tls-client-key-file-pass
    tls-cluster tls-dh-params-file tls-key-file tls-key-file-pass tls-port tls-prefer-server-ciphers tls-protocols
    tls-replication tls-session-cache-size tls-session-cache-timeout tls-session-caching tracking-table-max-keys
    unixsocket unixsocketgroup unixsocketperm zset-max-listpack-entries zset-max-listpack-value
    zset-max-ziplist-entries zset-max-ziplist-value
    """
)
_UNTIL_8_0 = frozenset({"dynamic-hz", "events-per-io-thread", "io-threads-do-reads"})
_UNTIL_8_1 = frozenset({"sanitize-dump-payload"})
_SINCE_8_1 = _names(
    """
    active-defrag-cycle-us cluster-manual-failover-timeout commandlog-execution-slower-than
    commandlog-large-reply-max-len commandlog-large-request-max-len commandlog-reply-larger-than
    commandlog-request-larger-than commandlog-slow-execution-max-len import-mode log-format log-timestamp-format
    rdb-version-check rdma-bind rdma-completion-vector rdma-port rdma-rx-size
    """
)
_SINCE_9_0 = _names(
    """
    cluster-announce-client-port cluster-announce-client-tls-port cluster-databases
    cluster-slot-migration-log-max-len mptcp repl-mptcp slot-migration-max-failover-repl-bytes tls-auth-clients-user
    """
)
_SINCE_9_1 = frozenset({"cluster-config-save-behavior", "hash-seed", "tls-auto-reload-interval"})

_9_0 = _ALL | _SINCE_8_1 | _SINCE_9_0

KNOWN: Final[Mapping[str, frozenset[str]]] = {
    "8.0": _ALL | _UNTIL_8_0 | _UNTIL_8_1,
    "8.1": _ALL | _UNTIL_8_1 | _SINCE_8_1,
    "9.0": _9_0,
    "9.1": _9_0 | _SINCE_9_1,
}
"""Every parameter that a family has, aliases included; hidden debugging parameters are not."""

_IMMUTABLE_IN_ALL = _names(
    """
    aclfile always-show-logo aof-rewrite-cpulist aof_rewrite_cpulist appenddirname appendfilename bgsave-cpulist
    bgsave_cpulist bio-cpulist bio_cpulist cluster-config-file cluster-enabled cluster-port daemonize databases
    disable-thp enable-debug-command enable-module-command enable-protected-configs logfile pidfile rdbchecksum
    replicaof server-cpulist server_cpulist set-proc-title slaveof socket-mark-id supervised syslog-enabled
    syslog-facility syslog-ident tcp-backlog unixsocket unixsocketgroup unixsocketperm
    """
)
_IMMUTABLE_SINCE_8_1 = frozenset({"rdma-completion-vector", "rdma-rx-size"})
_IMMUTABLE_SINCE_9_0 = frozenset({"cluster-databases", "mptcp", "repl-mptcp"})

IMMUTABLE: Final[Mapping[str, frozenset[str]]] = {
    "8.0": _IMMUTABLE_IN_ALL | frozenset({"io-threads", "io-threads-do-reads"}),
    "8.1": _IMMUTABLE_IN_ALL | _IMMUTABLE_SINCE_8_1 | frozenset({"io-threads"}),
    "9.0": _IMMUTABLE_IN_ALL | _IMMUTABLE_SINCE_8_1 | _IMMUTABLE_SINCE_9_0,
    "9.1": _IMMUTABLE_IN_ALL | _IMMUTABLE_SINCE_8_1 | _IMMUTABLE_SINCE_9_0 | frozenset({"hash-seed"}),
}
"""Those that only take effect at a start: CONFIG SET answers "can't set immutable config" whatever the value.

`dir` and `dbfilename` are refused too, as protected, unless `enable-protected-configs` says otherwise.
"""
