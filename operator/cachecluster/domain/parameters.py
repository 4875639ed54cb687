"""Whether a user's engine parameter can be carried out: known to the version, not the operator's, a value it takes."""

from collections.abc import Sequence
from difflib import get_close_matches
from functools import cache
from typing import Final

from cachecluster.api.owned_parameters import owned_by_operator
from cachecluster.api.spec import CacheClusterSpec, EngineVersion, PersistenceMode
from cachecluster.domain.parameter_names import KNOWN
from cachecluster.domain.parameter_types import TYPES

_MODERN: Final = {
    "lua-time-limit": "busy-reply-threshold",
    "masterauth": "primaryauth",
    "masteruser": "primaryuser",
    "slaveof": "replicaof",
    "aof_rewrite_cpulist": "aof-rewrite-cpulist",
    "bgsave_cpulist": "bgsave-cpulist",
    "bio_cpulist": "bio-cpulist",
    "server_cpulist": "server-cpulist",
}
_RENAMED_PARTS: Final = (("slave", "replica"), ("ziplist", "listpack"))
TWINS: Final = {
    "slowlog-log-slower-than": "commandlog-execution-slower-than",
    "slowlog-max-len": "commandlog-slow-execution-max-len",
}
"""Two current names of one parameter (8.1 and later); both together would leave it to chance which one counts."""
_TEXT_LENGTH: Final = 40


def parameter_problem(name: str, value: int | str, spec: CacheClusterSpec) -> str | None:
    """What is wrong with ``name: value`` and what to write instead, None if it can be carried out."""
    return _name_problem(name, spec.version) or _combination_problem(name, spec) or _value_problem(name, str(value))


def _name_problem(name: str, version: EngineVersion) -> str | None:
    modern = modern_name(name)
    advice = owned_by_operator(name) or owned_by_operator(modern)
    if advice is not None:
        return f"it {advice}"
    if modern != name:
        return f"this is an old name; write {modern}"
    if name in KNOWN[version]:
        return None
    families = [family for family in KNOWN if name in KNOWN[family]]
    if not families:
        near = get_close_matches(name, settable(version), n=1)
        return f"Valkey {version} has no such parameter; {f'did you mean {near[0]}?' if near else 'remove it'}"
    if _order(families[0]) > _order(version):
        return f"it needs version {families[0]} or later, and this is {version}"
    return f"Valkey {version} has it no longer (the last was {families[-1]}); remove it"


def _combination_problem(name: str, spec: CacheClusterSpec) -> str | None:
    parameters = spec.parameters or {}
    if name == "save" and spec.persistence_mode is not PersistenceMode.SNAPSHOT:
        return "it has a meaning only with persistence.mode Snapshot; set that or remove it"
    if TWINS.get(name) in parameters:
        return f"it is the same parameter as {TWINS[name]}; remove one of them"
    return None


def _value_problem(name: str, value: str) -> str | None:
    kind = TYPES.get(name)
    problem = kind.problem(value) if kind is not None else None
    if problem is None:
        return None
    return f"{value} is not possible; {problem}" if 0 < len(value) <= _TEXT_LENGTH else problem


def modern_name(name: str) -> str:
    """The present name of a parameter that is known by an older one too."""
    if name in _MODERN:
        return _MODERN[name]
    for old, new in _RENAMED_PARTS:
        name = name.replace(old, new)
    return name


@cache
def settable(version: EngineVersion) -> Sequence[str]:
    """Every parameter that users may set with ``version``, sorted, without old names."""
    return tuple(sorted(n for n in KNOWN[version] if owned_by_operator(n) is None and modern_name(n) == n))


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
