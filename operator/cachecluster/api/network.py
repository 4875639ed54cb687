"""Who may connect to a cache cluster: the ``network`` part of a spec."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from cachecluster.api.fields import Cidr, LabelKey, LabelMap, LabelValue
from cachecluster.api.rules import RULE_ERROR, Model, Rule

ATOMIC_MAP: Final[dict[str, Any]] = {"x-kubernetes-map-type": "atomic"}
ATOMIC_LIST: Final[dict[str, Any]] = {"x-kubernetes-list-type": "atomic"}


class NetworkPolicyMode(StrEnum):
    """Whether the operator writes NetworkPolicies."""

    ENABLED = "Enabled"
    DISABLED = "Disabled"


class LabelSelectorRequirement(Model):
    """As in Kubernetes."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)",
            lambda self: (self.operator in {"In", "NotIn"}) == bool(self.values),
            "In and NotIn need values, Exists and DoesNotExist have none; add or remove them",
            at="values",
        ),
    )

    key: LabelKey = Field(description="Label that the requirement is about.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How the label's value relates to values: In, NotIn, Exists or DoesNotExist."
    )
    values: Annotated[list[LabelValue], Field(max_length=16)] | None = Field(
        default=None, description="Values for In and NotIn.", json_schema_extra=ATOMIC_LIST
    )


class LabelSelector(Model):
    """As in Kubernetes: all of it has to match, and an empty selector matches everything."""

    SCHEMA: ClassVar[Mapping[str, Any]] = ATOMIC_MAP

    match_labels: LabelMap | None = Field(default=None, description="Labels with exactly these values.")
    match_expressions: Annotated[list[LabelSelectorRequirement], Field(max_length=8)] | None = Field(
        default=None, description="Further requirements on labels.", json_schema_extra=ATOMIC_LIST
    )


class IPBlock(Model):
    """As in a NetworkPolicy."""

    SCHEMA: ClassVar[Mapping[str, Any]] = ATOMIC_MAP

    cidr: Cidr = Field(description="Addresses that may connect, for example 10.0.0.0/8.")
    except_: Annotated[list[Cidr], Field(max_length=16)] | None = Field(
        default=None,
        alias="except",
        description="Parts of cidr that may not.",
        json_schema_extra=ATOMIC_LIST,
    )

    @model_validator(mode="after")
    def _except_lies_inside(self) -> Self:
        """What the API server would refuse in the NetworkPolicy, and CEL cannot tell."""
        problem = _block_problem(self.cidr, self.except_ or ())
        if problem is not None:
            raise PydanticCustomError(RULE_ERROR, "{message}", {"message": problem, "at": ""})
        return self


def _block_problem(cidr: str, excepted: Sequence[str]) -> str | None:
    try:
        block = ip_network(cidr, strict=False)
        for text in excepted:
            part = ip_network(text, strict=False)
            if not _inside(part, block):
                return f"except {text} is not a part of {cidr}; write smaller blocks inside it"
    except ValueError as e:
        return f"{e}; write an address block such as 10.0.0.0/8 or fd00::/8"
    return None


def _inside(part: IPv4Network | IPv6Network, block: IPv4Network | IPv6Network) -> bool:
    if isinstance(part, IPv4Network) and isinstance(block, IPv4Network):
        return part != block and part.subnet_of(block)
    if isinstance(part, IPv6Network) and isinstance(block, IPv6Network):
        return part != block and part.subnet_of(block)
    return False


class NetworkPeer(Model):
    """Who may reach the cache port, as a peer of a NetworkPolicy: by selectors or by addresses."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.namespaceSelector) || has(self.podSelector) || has(self.ipBlock)",
            lambda self: bool(self.namespace_selector or self.pod_selector or self.ip_block),
            "a peer needs namespaceSelector, podSelector or ipBlock; write podSelector: {} for all pods of the own "
            "namespace, namespaceSelector: {} for all pods of all namespaces",
            kind="FieldValueRequired",
        ),
        Rule(
            "!has(self.ipBlock) || !(has(self.namespaceSelector) || has(self.podSelector))",
            lambda self: not self.ip_block or not (self.namespace_selector or self.pod_selector),
            "ipBlock cannot stand beside selectors; write two peers",
            kind="FieldValueForbidden",
        ),
    )

    namespace_selector: LabelSelector | None = Field(
        default=None, description="Namespaces whose pods may connect; {} selects all of them."
    )
    pod_selector: LabelSelector | None = Field(
        default=None,
        description="Pods that may connect: in those namespaces, or in the own one without namespaceSelector.",
    )
    ip_block: IPBlock | None = Field(
        default=None, description="Addresses that may connect; not together with selectors."
    )


class Network(Model):
    """Who may connect."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!has(self.allowFrom) || !has(self.policy) || self.policy != 'Disabled'",
            lambda self: self.allow_from is None or self.policy is not NetworkPolicyMode.DISABLED,
            "without network policies anybody may connect; remove allowFrom or set policy: Enabled",
            at="allowFrom",
            kind="FieldValueForbidden",
        ),
    )

    policy: NetworkPolicyMode | None = Field(
        default=None,
        description="Enabled (when omitted): NetworkPolicies let only allowFrom reach the cache port, and only the "
        "cluster's own pods its bus. Disabled: none are written.",
    )
    allow_from: Annotated[list[NetworkPeer], Field(max_length=32)] | None = Field(
        default=None,
        description="Who may reach the cache port. Omitted: all pods of the own namespace. Empty: nobody but the "
        "operator.",
        json_schema_extra=ATOMIC_LIST,
    )
