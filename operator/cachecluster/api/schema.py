"""Pydantic's JSON schema turned into a structural schema as CustomResourceDefinitions demand it.

Optional means that the key may be absent; there are no nulls and no defaults. Anything that this cannot express
raises, so that no constraint of a model is lost silently.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

from cachecluster.api.rules import Model

Schema = dict[str, Any]

_DROPPED: Final = frozenset({"title", "default", "examples", "readOnly"})
_KEPT: Final = frozenset(
    {
        "description",
        "type",
        "format",
        "enum",
        "pattern",
        "minLength",
        "maxLength",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "required",
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-type",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-map-type",
        "x-kubernetes-validations",
    }
)
_ORDER: Final = ("description", "type", "format", "enum", "required", "properties", "items", "additionalProperties")


def structural(model: type[Model], mode: Literal["validation", "serialization"] = "validation") -> Schema:
    """The structural schema of ``model``; raises ValueError for what such a schema cannot say.

    Source: kubernetes.io, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural schema".
    """
    raw = model.model_json_schema(by_alias=True, mode=mode)
    return _convert(raw, raw.get("$defs", {}), ())


def _convert(node: Mapping[str, Any], definitions: Mapping[str, Any], seen: tuple[str, ...]) -> Schema:
    flat, seen = _flatten(node, definitions, seen)
    out: Schema = {}
    for key, value in flat.items():
        if key in _DROPPED or key == "$defs" or value == []:
            continue
        if key == "properties":
            out[key] = {name: _convert(child, definitions, seen) for name, child in value.items()}
        elif key == "items":
            out[key] = _convert(value, definitions, seen)
        elif key == "additionalProperties":
            if value is not False:  # unknown fields are pruned anyway
                out[key] = _convert(value, definitions, seen)
        elif key == "const":
            out["enum"] = [value]
        elif key in {"exclusiveMinimum", "exclusiveMaximum"}:
            out[key.replace("exclusiveM", "m")] = value
            out[key] = True
        elif key in _KEPT:
            out[key] = value
        else:
            raise ValueError(f"a structural schema cannot say {key}: {value}")
    return dict(sorted(out.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER)))


def _flatten(
    node: Mapping[str, Any], definitions: Mapping[str, Any], seen: tuple[str, ...]
) -> tuple[Schema, tuple[str, ...]]:
    """Replace references and "or null" by what they stand for; keys beside them win."""
    outer = dict(node)
    while True:
        if "$ref" in outer:
            name = str(outer.pop("$ref")).rpartition("/")[2]
            if name in seen:
                raise ValueError(f"a structural schema cannot be recursive: {name}")
            seen = (*seen, name)
            inner = definitions[name]
        elif "anyOf" in outer:
            choices = [c for c in outer.pop("anyOf") if c != {"type": "null"}]
            if len(choices) != 1:
                raise ValueError(f"a structural schema cannot say anyOf: {choices}")
            inner = choices[0]
        else:
            return outer, seen
        outer = {**inner, **outer}
