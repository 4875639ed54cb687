"""Where the nodes of a cache cluster may run: the ``placement`` part of a spec."""

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Literal

from pydantic import Field

from cachecluster.api.fields import LabelKey, LabelMap, LabelValue, Whole, ZoneName
from cachecluster.api.network import ATOMIC_LIST, ATOMIC_MAP
from cachecluster.api.rules import Model, Rule

NODE_LOSS_GRACE_SECONDS: Final = 60
"""Where the spec does not say. Kubernetes itself takes about 50 s before that to see that a machine is silent."""


class Spread(StrEnum):
    """How firmly the members of a shard are kept in different zones."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"


class Toleration(Model):
    """As in a pod's spec."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
            lambda self: self.key is not None or self.operator == "Exists",
            "without a key, operator must be Exists: it then tolerates every taint",
            at="operator",
        ),
        Rule(
            "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
            lambda self: not self.value or self.operator in {None, "Equal"},
            "operator Exists has no value; remove it or write operator: Equal",
            at="value",
            kind="FieldValueForbidden",
        ),
        Rule(
            "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
            lambda self: self.toleration_seconds is None or self.effect == "NoExecute",
            "goes with effect: NoExecute only; write that or remove it",
            at="tolerationSeconds",
            kind="FieldValueForbidden",
        ),
    )

    key: LabelKey | None = Field(
        default=None, description="Key of the taint; omitted with operator Exists: every taint."
    )
    operator: Literal["Exists", "Equal"] | None = Field(
        default=None, description="Equal (when omitted): the taint has this value. Exists: whatever its value."
    )
    value: LabelValue | None = Field(default=None, description="Value of the taint, with operator Equal.")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        default=None, description="Effect of the taint; omitted: every effect."
    )
    toleration_seconds: Annotated[Whole, Field(ge=0, le=2**31 - 1)] | None = Field(
        default=None, description="With NoExecute: seconds until the pod is evicted all the same; omitted: never."
    )


class Placement(Model):
    """Where nodes may run."""

    RULES: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "",  # x-kubernetes-list-type: set
            lambda self: len(set(self.zones or ())) == len(self.zones or ()),
            "a zone is listed twice; list each once",
            at="zones",
        ),
    )

    zones: Annotated[list[ZoneName], Field(min_length=1, max_length=32)] | None = Field(
        default=None,
        description="Zones to use, each once, by the value of topologyKey; omitted: every zone.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )
    spread: Spread | None = Field(
        default=None,
        description="Required (when omitted): members of a shard never share a zone while another has none of them; "
        "they wait if it has no room. Preferred: they do share one then.",
    )
    topology_key: LabelKey | None = Field(
        default=None,
        description="Label of Kubernetes nodes that names their zone; omitted: topology.kubernetes.io/zone.",
    )
    node_selector: LabelMap | None = Field(
        default=None, description="Labels that a Kubernetes node must have.", json_schema_extra=ATOMIC_MAP
    )
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = Field(
        default=None,
        description="Taints of Kubernetes nodes that do not keep the pods away.",
        json_schema_extra=ATOMIC_LIST,
    )
    node_loss_grace_seconds: Annotated[Whole, Field(ge=10, le=86400)] | None = Field(
        default=None,
        description="Seconds that a Kubernetes node has to be not ready before pods that hang on it are given up; "
        f"omitted: {NODE_LOSS_GRACE_SECONDS}. One without a volume is then deleted by force, and made anew elsewhere, "
        "once another pod serves its shard's data. One with a volume waits until the Node is deleted or tainted "
        "node.kubernetes.io/out-of-service. Can be changed at any time.",
    )
