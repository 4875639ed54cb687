"""Single values that appear in a spec: amounts, names, labels. Each says what to write instead of a wrong one."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from cachecluster.api.rules import RULE_ERROR, Check, Rule, keys_matching, matching

INT_OR_STRING: Final[dict[str, Any]] = {"x-kubernetes-int-or-string": True}

_LABEL_NAME: Final = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_LABEL_VALUE: Final = rf"(?:{_LABEL_NAME})?"
_DNS_LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_LABEL_KEY: Final = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_LABEL_NAME}"
_IPV4: Final = r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_CIDR: Final = rf"{_IPV4}/(?:3[0-2]|[12]?[0-9])|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*/(?:12[0-8]|1[01][0-9]|[1-9]?[0-9])"

RESERVED_KEYS: Final = (
    "cachecluster.dev/",
    "app.kubernetes.io/",
    "apps.kubernetes.io/",
    "statefulset.kubernetes.io/",
    "controller-revision-hash",
    "pod-template-hash",
)
"""What keys begin with that the operator and Kubernetes set on pods."""


def _text(value: object) -> object:
    """A whole number as text, as the API server takes it for an amount."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _int_or_string(value: object) -> object:
    if isinstance(value, bool) or not isinstance(value, int | str):
        message = "write a whole number or a text in quotes"
        raise PydanticCustomError(RULE_ERROR, "{message}", {"message": message, "at": ""})
    return value


def _amount(form: str, example: str) -> tuple[Rule, Rule]:
    return (
        matching(form, f"write an amount such as {example}", subject="string(self)"),
        Rule(
            "string(self).matches('[1-9]')",
            lambda value: any(c in "123456789" for c in value),
            f"must be more than 0; write an amount such as {example}",
        ),
    )


CpuAmount = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({**INT_OR_STRING, "maxLength": 16}),
    Check(*_amount(r"[0-9]{1,9}(?:\.[0-9]{1,3})?|[0-9]{1,12}m", "500m or 2")),
]
"""CPU cores as a Kubernetes quantity."""

MemoryAmount = Annotated[
    str,
    BeforeValidator(_text),
    WithJsonSchema({**INT_OR_STRING, "maxLength": 20}),
    Check(*_amount(r"[0-9]{1,16}|[0-9]{1,9}(?:\.[0-9]{1,3})?(?:k|M|G|T|Ki|Mi|Gi|Ti)", "512Mi or 2Gi")),
]
"""Bytes as a Kubernetes quantity."""

ParameterValue = Annotated[
    int | str,
    BeforeValidator(_int_or_string),
    WithJsonSchema({**INT_OR_STRING, "maxLength": 1024}),
    Check(
        Rule(
            r"!string(self).matches(r'[\x00-\x1f\x7f]')",
            lambda value: all(c >= " " and c != "\x7f" for c in str(value)),
            "a parameter's value is one line; remove line breaks and other control characters",
        ),
        Rule("", lambda value: len(str(value)) <= 1024, "write at most 1024 characters"),
    ),
]
"""Value of an engine parameter."""

Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Text = Annotated[str, Field(max_length=1024)]

ImageReference = Annotated[
    str,
    Field(max_length=512),
    Check(
        matching(
            r"[A-Za-z0-9][A-Za-z0-9._-]*(?::[0-9]{1,5})?(?:/[a-z0-9][a-z0-9._-]*)*"
            r"(?::[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(?:@[a-z0-9]+:[0-9a-f]{32,128})?",
            "write an image reference such as valkey/valkey:8.1 or registry.example.com/cache/valkey:8.1",
        )
    ),
]

ObjectName = Annotated[
    str,
    Field(max_length=253),
    Check(
        matching(
            r"[a-z0-9](?:[-a-z0-9.]*[a-z0-9])?",
            "write the name of a Kubernetes object: lower-case letters, digits, dots and dashes",
        )
    ),
]

LabelKey = Annotated[
    str,
    Field(max_length=317),
    Check(matching(_LABEL_KEY, "write a label key such as team or example.com/team")),
]

LabelValue = Annotated[
    str,
    Field(max_length=63),
    Check(
        matching(
            _LABEL_VALUE,
            "a label's value has at most 63 letters, digits, dashes, underscores and dots, with a letter or digit at "
            "both ends",
        )
    ),
]

ZoneName = Annotated[
    str,
    Field(max_length=63),
    Check(matching(_LABEL_NAME, "write the name of a zone as the label of the Kubernetes nodes has it")),
]

Cidr = Annotated[
    str,
    Field(max_length=64),
    Check(matching(_CIDR, "write an address block such as 10.0.0.0/8 or fd00::/8")),
]

_KEYS: Final = keys_matching(_LABEL_KEY, "is not a label key such as team or example.com/team")


def _reserved(keys: Mapping[str, Any]) -> list[str]:
    return sorted(key for key in keys if key.startswith(RESERVED_KEYS))


_NOT_RESERVED_CEL: Final = " || ".join(f"k.startsWith('{prefix}')" for prefix in RESERVED_KEYS)
_NOT_RESERVED: Final = Rule(
    f"!self.exists(k, {_NOT_RESERVED_CEL})",
    lambda keys: not _reserved(keys),
    "is set by Kubernetes or the operator; use keys of your own",
    kind="FieldValueForbidden",
    names=f"self.filter(k, {_NOT_RESERVED_CEL})",
    offending=_reserved,
)

LabelMap = Annotated[dict[str, LabelValue], Field(max_length=32), Check(_KEYS)]
OverlayLabels = Annotated[dict[str, LabelValue], Field(max_length=32), Check(_KEYS, _NOT_RESERVED)]
OverlayAnnotations = Annotated[
    dict[str, Annotated[str, Field(max_length=4096)]], Field(max_length=32), Check(_KEYS, _NOT_RESERVED)
]
