"""User parameters: known to the version, not the operator's own, with a value that the engine takes."""

from typing import Any

import pytest

from cachecluster.api.owned_parameters import OWNED, owned_by_operator
from cachecluster.api.spec import CacheClusterSpec, EngineVersion
from cachecluster.domain.parameter_names import KNOWN
from cachecluster.domain.parameter_types import TYPES
from cachecluster.domain.parameters import modern_name, parameter_problem, settable
from tests.unit.domain.building import spec_of

FREE_TEXT = {"locale-collate", "hash-seed", "slot-migration-max-failover-repl-bytes"}
"""Parameters that users may set and whose value only the engine can judge."""


def problem(name: str, value: int | str, version: str = "8.1", **more: Any) -> str | None:
    spec: CacheClusterSpec = spec_of(version=version, parameters={name: value}, **more)
    return parameter_problem(name, value, spec)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("maxmemory-policy", "allkeys-lru"),
        ("maxmemory-samples", 10),
        ("maxmemory-clients", "5%"),
        ("maxmemory-clients", "64mb"),
        ("hz", "100"),
        ("timeout", 0),
        ("notify-keyspace-events", ""),
        ("notify-keyspace-events", "KEA"),
        ("client-output-buffer-limit", "replica 512mb 128mb 60"),
        ("client-output-buffer-limit", "normal 0 0 0 pubsub 32mb 8mb 60"),
        ("repl-backlog-size", "64mb"),
        ("slowlog-log-slower-than", -1),
        ("list-max-listpack-size", -2),
        ("cluster-allow-reads-when-down", "yes"),
        ("latency-tracking-info-percentiles", "50 99 99.9"),
        ("appendfsync", "always"),
    ],
)
def test_common_parameters_are_taken(name: str, value: int | str) -> None:
    assert problem(name, value) is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("maxmemory-policy", "lru", "lru is not possible; write noeviction, allkeys-lru,"),
        ("lazyfree-lazy-expire", "true", "write yes or no"),
        ("lazyfree-lazy-expire", 1, "write yes or no"),
        ("hz", 0, "write a whole number of at least 1, at most 500"),
        ("hz", 501, "write a whole number of at least 1, at most 500"),
        ("hz", "ten", "write a whole number"),
        ("timeout", -1, "write a whole number of at least 0"),
        ("maxclients", 10, "write a whole number of at least 64"),
        ("repl-backlog-size", "64MiB", "write an amount such as 64mb or 1gb"),
        ("client-query-buffer-limit", "1kb", "write at least 1048576"),
        ("maxmemory-clients", "500%", "or a percentage such as 5%"),
        ("notify-keyspace-events", "all", "write it like KEA"),
        ("client-output-buffer-limit", "replica 512mb", "write it like replica 256mb 64mb 60"),
        ("maxmemory-polcy", "x", "Valkey 8.1 has no such parameter; did you mean maxmemory-policy?"),
        ("zzz", "x", "Valkey 8.1 has no such parameter; remove it"),
        ("slave-lazy-flush", "yes", "this is an old name; write replica-lazy-flush"),
        ("hash-max-ziplist-entries", 5, "this is an old name; write hash-max-listpack-entries"),
        ("lua-time-limit", 5, "this is an old name; write busy-reply-threshold"),
        ("cluster-databases", 16, "it needs version 9.0 or later, and this is 8.1"),
        ("dynamic-hz", "yes", "Valkey 8.1 has it no longer (the last was 8.0); remove it"),
    ],
)
def test_a_wrong_parameter_is_refused_with_what_to_write(name: str, value: int | str, message: str) -> None:
    found = problem(name, value)
    assert found is not None
    assert message in found


def test_the_version_decides_which_parameters_there_are() -> None:
    assert problem("cluster-databases", 16, version="9.0") is None
    assert problem("dynamic-hz", "yes", version="8.0") is None
    assert problem("hash-seed", "x", version="9.0") == "it needs version 9.1 or later, and this is 9.0"


def test_save_points_belong_to_snapshots() -> None:
    assert "persistence.mode Snapshot" in str(problem("save", "900 1"))
    snapshot = {"mode": "Snapshot", "size": "1Gi"}
    assert problem("save", "900 1", persistence=snapshot) is None
    for value in ("", "900", "0 1", "900 1 300"):
        assert "write it like 3600 1 300 100" in str(problem("save", value, persistence=snapshot))


def test_two_names_of_one_parameter_are_not_taken_together() -> None:
    both: dict[str, int | str] = {"slowlog-max-len": 1, "commandlog-slow-execution-max-len": 2}
    found = parameter_problem("slowlog-max-len", 1, spec_of(parameters=both))
    assert found == "it is the same parameter as commandlog-slow-execution-max-len; remove one of them"


@pytest.mark.parametrize("version", list(EngineVersion))
def test_every_parameter_of_the_engine_is_judged_on_purpose(version: EngineVersion) -> None:
    """Each is the operator's, an old name, of a checked type, or free text."""
    assert set(settable(version)) <= TYPES.keys() | FREE_TEXT


def test_every_checked_type_is_of_a_parameter_that_users_may_set() -> None:
    known = frozenset().union(*KNOWN.values())
    assert [name for name in TYPES if name not in known or owned_by_operator(name) is not None] == []


def test_the_operator_owns_only_what_exists() -> None:
    directives = {"include", "loadmodule", "rename-command", "user"}  # of valkey.conf, which CONFIG GET does not list
    known = frozenset().union(*KNOWN.values()) | directives
    names = {name for group in OWNED for name in (*group.names, *group.free)}
    assert names <= known


def test_each_old_name_has_a_present_one() -> None:
    for version, known in KNOWN.items():
        old = {name for name in known if modern_name(name) != name}
        assert {modern_name(name) for name in old} <= known, version
        assert len(old) > 15


def test_what_the_operator_writes_users_cannot() -> None:
    """What valkey.conf gets from the operator, and what would undo its users, addresses and identity."""
    ours = (
        "aclfile appenddirname appendonly bind cluster-announce-ip cluster-config-file cluster-enabled "
        "cluster-node-timeout cluster-port daemonize dbfilename dir enable-debug-command include loadmodule maxmemory "
        "port primaryauth protected-mode rename-command repl-diskless-sync replica-priority replicaof requirepass"
    )
    assert [name for name in ours.split() if owned_by_operator(name) is None] == []
