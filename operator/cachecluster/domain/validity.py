"""Reads a spec as it comes from the API server: a valid one, or one clear sentence on what to write instead.

The API server has checked most of it already (schema and CEL rules of the CRD); this guards against what slipped by,
and checks what only the engine's own parameter list can tell.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cachecluster.api import network, placement, spec
from cachecluster.api.root import name_problem
from cachecluster.api.rules import RULE_ERROR, Model
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.parameters import parameter_problem
from cachecluster.domain.snapshot import InvalidSpec

_ECHO_LENGTH: Final = 40
"""Longest value that a message repeats."""
_FIELDS: Final = sorted(
    {
        str(field.alias)
        for module in (spec, network, placement)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, Model)
        for field in model.model_fields.values()
    }
)


def read_spec(raw: object, name: str | None = None) -> CacheClusterSpec | InvalidSpec:
    """The spec, of a CacheCluster called ``name``, if it can be carried out.

    Never raises; the message never repeats a whole object.
    """
    problem = name_problem(name) if name is not None else None
    if problem is not None:
        return InvalidSpec(problem)
    if not isinstance(raw, Mapping):
        return InvalidSpec("spec is missing: write at least engine, version, topology and resources")
    try:
        read = CacheClusterSpec.model_validate(dict(raw))
    except ValidationError as e:
        return InvalidSpec(_sentence(e.errors(include_url=False)))
    problem = spec_problem(read)
    return read if problem is None else InvalidSpec(problem)


def spec_problem(read: CacheClusterSpec) -> str | None:
    """What the models cannot tell: whether this engine version has these parameters and takes their values."""
    for name, value in sorted((read.parameters or {}).items()):
        problem = parameter_problem(name, value, read)
        if problem is not None:
            return f"spec.parameters.{name}: {problem}"
    return None


def _sentence(errors: Sequence[ErrorDetails]) -> str:
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    return _describe(errors[0]) + more


def _describe(error: ErrorDetails) -> str:
    context = error.get("ctx", {})
    match error["type"]:
        case "missing":
            return f"{_path(error['loc'])} is required"
        case "extra_forbidden":
            return f"{_path(error['loc'])} is not a field: {_instead(error['loc'])}"
        case "enum" | "literal_error":
            expected = str(context["expected"]).replace("'", "")
            return f"{_path(error['loc'])}: {_echo(error['input'])}is not supported; write {expected}"
        case kind if kind == RULE_ERROR:
            at = tuple(part for part in str(context["at"]).split(".") if part)
            return f"{_path((*error['loc'], *at))}: {context['message']}"
        case _:
            message = error["msg"]
            return f"{_path(error['loc'])}: {message[0].lower()}{message[1:]}"


def _path(loc: Sequence[int | str]) -> str:
    return "spec" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc)


def _instead(loc: Sequence[int | str]) -> str:
    near = get_close_matches(str(loc[-1]), _FIELDS, n=1)
    return f"did you mean {near[0]}?" if near else "remove it"


def _echo(value: object) -> str:
    return f"{value} " if isinstance(value, str | int | float) and 0 < len(str(value)) <= _ECHO_LENGTH else ""
