"""Rules that the API server (CEL) and the operator (Python) both hold a resource to, with one message.

A rule that compares with the object before the edit (``Transition``) is the API server's alone.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

RULE_ERROR: Final = "rule"
"""Type of a pydantic error that a rule raised; its context has ``message`` and ``at``."""

_ECHO_LENGTH: Final = 64

VALIDATIONS: Final = "x-kubernetes-validations"

ErrorKind = Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Something that must hold for a value: in CEL for the API server, in Python for the operator."""

    cel: str
    """Empty where the schema itself says it."""
    holds: Callable[[Any], bool]
    message: str
    """What is wrong and what to write instead."""
    at: str = ""
    """Field that the message is about, relative to the value: ``limits.memory``."""
    kind: ErrorKind = "FieldValueInvalid"
    names: str = ""
    """CEL list of the offending names; the API server puts the first in front of the message."""
    offending: Callable[[Any], list[str]] | None = None
    """The same in Python, which puts all of them there."""

    def to_json(self) -> dict[str, Any]:
        """Entry of ``x-kubernetes-validations``."""
        return _entry(self.cel, self.message, self.at, self.kind, self.names)


@dataclass(frozen=True, slots=True)
class Transition:
    """Something that an edit must not change; CEL sees the object before it as ``oldSelf``."""

    cel: str
    message: str
    at: str = ""
    kind: ErrorKind = "FieldValueForbidden"

    def to_json(self) -> dict[str, Any]:
        """Entry of ``x-kubernetes-validations``."""
        return _entry(self.cel, self.message, self.at, self.kind, "")


def _entry(cel: str, message: str, at: str, kind: ErrorKind, names: str) -> dict[str, Any]:
    entry = {"rule": cel, "message": message}
    if names:
        entry["messageExpression"] = f"""{names}[0] + ': {message}'"""
    if at:
        entry["fieldPath"] = f".{at}"
    if kind != "FieldValueInvalid":
        entry["reason"] = kind
    return entry


def _enforce(rule: Rule, value: Any) -> None:
    if not rule.holds(value):
        names = f"{', '.join(rule.offending(value))}: " if rule.offending else ""
        raise PydanticCustomError(RULE_ERROR, "{message}", {"message": f"{names}{rule.message}", "at": rule.at})


def matching(pattern: str, message: str, subject: str = "self") -> Rule:
    """A rule on text: it has the form of ``pattern``, in the syntax that RE2 and Python share.

    ``subject`` is ``string(self)`` for an int-or-string; for plain text that would hide its bound from the cost
    estimate.
    """
    whole = re.compile(pattern)
    return Rule(f"{subject}.matches(r'^(?:{pattern})$')", lambda value: whole.fullmatch(value) is not None, message)


def keys_matching(pattern: str, message: str) -> Rule:
    """A rule on a map: all its keys have the form of ``pattern``."""
    whole = re.compile(pattern)

    def offending(value: Mapping[str, Any]) -> list[str]:
        return sorted(key[:_ECHO_LENGTH] for key in value if whole.fullmatch(key) is None)

    return Rule(
        f"self.all(k, k.matches(r'^(?:{pattern})$'))",
        lambda value: not offending(value),
        message,
        names=f"self.filter(k, !k.matches(r'^(?:{pattern})$'))",
        offending=offending,
    )


class Check:
    """Annotation that holds a single field to rules."""

    def __init__(self, *rules: Rule) -> None:
        """Hold the annotated type to all of ``rules``."""
        self._rules = rules

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Run the rules after the type's own validation."""
        return core_schema.no_info_after_validator_function(self._enforce, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules to the type's schema."""
        out = handler(schema)
        return {**out, VALIDATIONS: [*out.get(VALIDATIONS, []), *(rule.to_json() for rule in self._rules if rule.cel)]}

    def _enforce(self, value: Any) -> Any:
        for rule in self._rules:
            _enforce(rule, value)
        return value


class Model(BaseModel):
    """Strict about names, frozen, camelCase on the wire, and held to its rules."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True)

    RULES: ClassVar[tuple[Rule, ...]] = ()
    TRANSITIONS: ClassVar[tuple[Transition, ...]] = ()
    SCHEMA: ClassVar[Mapping[str, Any]] = {}
    """Further keys of the model's schema, such as ``x-kubernetes-map-type``."""

    @model_validator(mode="after")
    def _rules_hold(self) -> Self:
        for rule in self.RULES:
            _enforce(rule, self)
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Add the rules and the further keys to the model's schema."""
        out = handler.resolve_ref_schema(handler(schema))
        entries = [rule.to_json() for rule in cls.RULES if rule.cel] + [t.to_json() for t in cls.TRANSITIONS]
        out.update(cls.SCHEMA)
        if entries:
            out[VALIDATIONS] = entries
        return out
