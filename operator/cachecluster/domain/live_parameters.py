"""Parameters that change on a running node: what the spec wants of them, and what a node still lacks.

Everything else that users may set takes effect at a start and stays in the immutable configuration (design §2). Which
names are remembered, and why, is ADR 0011.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec, EngineVersion, PersistenceMode
from cachecluster.domain import durability
from cachecluster.domain.memory import PARAMETER, maxmemory, maxmemory_of
from cachecluster.domain.nodes import NodeView
from cachecluster.domain.parameter_defaults import DEFAULTS
from cachecluster.domain.parameter_types import normal
from cachecluster.domain.parameters import TWINS
from cachecluster.domain.snapshot import Manifest, Pod
from cachecluster.domain.topology import Member

FILE: Final = "live.conf"
"""Key of the ConfigMap, and name of the file that valkey.conf includes."""

_PARTIAL: Final = "client-output-buffer-limit"
"""Its value may name some classes only; the others keep their own limits."""


def present_name(name: str, version: str) -> str:
    """The name under which an engine keeps the parameter: two names of one would be set against each other."""
    twin = TWINS.get(name, name)
    return twin if twin in DEFAULTS[version] else name


def is_live(name: str, spec: CacheClusterSpec) -> bool:
    """Whether an edit of the parameter needs no restart."""
    return present_name(name, spec.version) in DEFAULTS[spec.version]


def wanted(spec: CacheClusterSpec, remembered: Collection[str] = ()) -> dict[str, str]:
    """Every live parameter that matters, sorted, with the value it is to have.

    Those of the spec; maxmemory, which follows from the memory limit; what durability.mode asks for (where that is
    nothing, ``domain.fence`` decides); the save points of mode Snapshot, for which the spec need not ask; and those
    ``remembered`` from earlier specs, which get the engine's own default.
    """
    defaults = _defaults(spec.version)
    known = (set(remembered) - {"save"} - durability.NAMES) & defaults.keys()
    if spec.persistence_mode is PersistenceMode.SNAPSHOT:
        known.add("save")
    found = {name: defaults[name] for name in known} | {PARAMETER: str(maxmemory(spec))}
    found |= durability.parameters(spec)
    for given, value in (spec.parameters or {}).items():
        name = present_name(given, spec.version)
        if name in DEFAULTS[spec.version]:
            found[name] = f"{defaults[name]} {value}" if name == _PARTIAL else str(value)
    return {name: normal(name, value) for name, value in sorted(found.items())}


def _defaults(version: str) -> Mapping[str, str]:
    """The engine's own values: of what users may set, and of what durability.mode does."""
    return {**DEFAULTS[version], **durability.ENGINE_DEFAULTS}


def remembered(live: Manifest | None, pods: Iterable[Pod], name: str, version: str) -> frozenset[str]:
    """All that may ever have been set on a node, as the ConfigMap called ``name`` has noted it.

    Nothing before it first exists; everything if it is gone while ``pods`` run with it: somebody deleted it.
    """
    if live is not None:
        return noted(live)
    return frozenset(_defaults(version)) if is_mounted(pods, name) else frozenset()


def noted(live: Manifest) -> frozenset[str]:
    """Names that the ConfigMap of live parameters carries."""
    text = live["metadata"].get("annotations", {}).get(names.ANNOTATION_LIVE_NAMES, "")
    return frozenset(text.split()) | values_in(live).keys()


def is_mounted(pods: Iterable[Pod], name: str) -> bool:
    """Whether some pod starts its engine with the ConfigMap of live parameters called ``name``."""
    return any(pod.shape is not None and pod.shape.live == name for pod in pods)


def values_in(live: Manifest) -> dict[str, str]:
    """What the ConfigMap tells a starting node: names and values as they stand in the file."""
    return dict(_directives(live.get("data", {}).get(FILE, "")))


def _directives(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name:
            yield name, value


def lacking(values: Mapping[str, str], view: NodeView) -> dict[str, str]:
    """Those of ``values`` that are not in force on the node."""
    return {
        name: value
        for name, value in values.items()
        if name not in view.parameters or normal(name, view.parameters[name]) != value
    }


def outstanding(
    spec: CacheClusterSpec, remembered: Collection[str], members: Iterable[Member]
) -> Iterator[tuple[Member, dict[str, str]]]:
    """What each node of the spec's release family that answers has still to be told.

    Without those that only are remembered and that its build does not know: nobody can have set them there.
    """
    asked, everything = wanted(spec), wanted(spec, remembered)
    for member in members:
        view = member.node
        if view is not None and same_family(view, spec.version):
            missing = lacking(everything | {PARAMETER: str(maxmemory_of(spec, member.pod))}, view)
            yield member, {n: value for n, value in missing.items() if n in asked or n in view.parameters}


def same_family(view: NodeView, version: EngineVersion) -> bool:
    """Whether the node is of the spec's release family; one of another is about to be replaced and left as it is."""
    return view.family == version or view.family not in DEFAULTS
