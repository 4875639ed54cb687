"""Specs at random: valid ones, and ones with a single change somewhere, for comparing judges."""

import copy
from typing import Any

from hypothesis import strategies as st

from tests.unit.api.cases import FULL, VALID

_word = st.from_regex(r"[a-z]([a-z0-9]{0,5})", fullmatch=True)
_labels = st.dictionaries(_word, _word, max_size=3)


def _some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


_requirement = st.one_of(
    st.fixed_dictionaries(
        {
            "key": _word,
            "operator": st.sampled_from(["In", "NotIn"]),
            "values": st.lists(_word, min_size=1, max_size=3),
        }
    ),
    st.fixed_dictionaries({"key": _word, "operator": st.sampled_from(["Exists", "DoesNotExist"])}),
)
_selector = _some(matchLabels=_labels, matchExpressions=st.lists(_requirement, max_size=2))
_peer = st.one_of(
    st.fixed_dictionaries({"podSelector": _selector}, optional={"namespaceSelector": _selector}),
    st.fixed_dictionaries({"namespaceSelector": _selector}),
    st.fixed_dictionaries({"ipBlock": st.sampled_from([{"cidr": "10.0.0.0/8"}, {"cidr": "fd00::/8"}])}),
)
_toleration = st.one_of(
    st.just({"operator": "Exists"}),
    st.fixed_dictionaries({"key": _word}, optional={"value": _word, "operator": st.just("Equal")}),
    st.fixed_dictionaries(
        {"key": _word, "effect": st.just("NoExecute")}, optional={"tolerationSeconds": st.integers(0, 9)}
    ),
)
_parameters = _some(
    **{
        "maxmemory-policy": st.sampled_from(["allkeys-lru", "noeviction"]),
        "hz": st.one_of(st.integers(1, 500), st.integers(1, 500).map(str)),
        "notify-keyspace-events": st.sampled_from(["", "KEA"]),
    }
)
_persistence = st.one_of(
    st.just({"mode": "None"}),
    st.fixed_dictionaries(
        {"mode": st.sampled_from(["Snapshot", "AppendOnly"]), "size": st.sampled_from(["8Gi", "10G", 2**33])},
        optional={"storageClassName": _word},
    ),
)

valid_specs = st.fixed_dictionaries(
    {
        "engine": st.just("Valkey"),
        "version": st.sampled_from(["8.0", "8.1", "9.0", "9.1"]),
        "topology": st.fixed_dictionaries(
            {"mode": st.just("Cluster"), "shards": st.integers(1, 160), "replicasPerShard": st.integers(0, 5)}
        ),
        "resources": st.fixed_dictionaries(
            {"limits": st.fixed_dictionaries({"memory": st.sampled_from(["64Mi", "1Gi", "1.5G", 2**30])})},
            optional={
                "requests": _some(cpu=st.sampled_from(["1", "500m", 2]), memory=st.sampled_from(["1Mi", "64Mi"]))
            },
        ),
    },
    optional={
        "image": st.sampled_from(["valkey", "valkey/valkey:8.1", "r.example.com:5000/valkey@sha256:" + "a" * 64]),
        "imagePullSecrets": st.lists(st.fixed_dictionaries({"name": _word}), max_size=2, unique_by=lambda s: s["name"]),
        "persistence": _persistence,
        "durability": st.just({"mode": "Default"}),
        "recovery": st.fixed_dictionaries({"onDataLoss": st.sampled_from(["Recreate", "WaitForApproval"])}),
        "placement": _some(
            zones=st.lists(_word, min_size=1, max_size=3, unique=True),
            spread=st.sampled_from(["Required", "Preferred"]),
            topologyKey=st.just("example.com/rack"),
            nodeSelector=_labels,
            tolerations=st.lists(_toleration, max_size=3),
            nodeLossGraceSeconds=st.integers(10, 86400),
        ),
        "parameters": _parameters,
        "auth": st.fixed_dictionaries({"mode": st.sampled_from(["Password", "Disabled"])}),
        "network": st.one_of(
            st.just({"policy": "Disabled"}),
            _some(policy=st.just("Enabled"), allowFrom=st.lists(_peer, max_size=3)),
        ),
        "pod": _some(labels=_labels, annotations=_labels, priorityClassName=_word),
        "deletionPolicy": st.just("Delete"),
        "paused": st.booleans(),
    },
)

_REMOVED = object()
_values = st.sampled_from(
    [
        *(_REMOVED, "", "x", "X_y", "a b", "1", "-", "64Mi", "None", "Disabled", "a" * 70, "a" * 600),
        *(0, -1, 1, 7, 10**9, 10**12, True, 1.5),
        *([], ["x"], ["x", "x"], [1], {}, {"x": "y"}, {"x y": "z"}, {"x": 1}, {"mode": "None"}),
    ]
)


def _places(node: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [place for key, child in inner for place in ((*at, key), *_places(child, (*at, key)))]


@st.composite
def changed_specs(draw: st.DrawFn) -> dict[str, Any]:
    """A valid spec with one value somewhere replaced or removed: valid still or not."""
    spec: dict[str, Any] = copy.deepcopy(draw(st.one_of(st.sampled_from([FULL, VALID]), valid_specs)))
    *above, last = draw(st.sampled_from(_places(spec)))
    parent: Any = spec
    for key in above:
        parent = parent[key]
    value = draw(_values)
    if value is _REMOVED:
        del parent[last]
    else:
        parent[last] = copy.deepcopy(value)
    return spec
