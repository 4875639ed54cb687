"""Conditions of a CacheCluster: their types, and how one looks in ``status.conditions``."""

from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from cachecluster.api.rules import Model

ConditionStatus = Literal["True", "False", "Unknown"]


class ConditionType(StrEnum):
    """Every condition type; docs/conditions.md lists their reasons and what to do."""

    READY = "Ready"
    """Clients can read and write every key."""
    RECONCILING = "Reconciling"
    """Abnormal-true (kstatus): the operator is on its way to what the spec asks for."""
    STALLED = "Stalled"
    """Abnormal-true (kstatus): no progress without a person; the message says what to do."""
    DEGRADED = "Degraded"
    """Abnormal-true: serving, but with less redundancy than the spec asks for."""
    SLOTS_COVERED = "SlotsCovered"
    """Each of the 16384 hash slots has a primary."""
    ZONES_SPREAD = "ZonesSpread"
    """No shard has all its members in one zone, and no zone leads half of them or more that could lead fewer."""
    ROLLED_OUT = "RolledOut"
    """Every node runs the image, resources and parameters of the spec."""
    DATA_LOSS = "DataLoss"
    """Abnormal-true: slots lost their data; stays for a day after it was last noticed (S2)."""

    @property
    def wanted(self) -> ConditionStatus:
        """The status that it has while all is well."""
        return "False" if self in _ABNORMAL_TRUE else "True"


_ABNORMAL_TRUE: Final = frozenset(
    {ConditionType.RECONCILING, ConditionType.STALLED, ConditionType.DEGRADED, ConditionType.DATA_LOSS}
)


class Condition(Model):
    """One aspect of the cluster's state, as of ``observedGeneration``."""

    type: ConditionType = Field(description="What the condition is about; docs/conditions.md describes each.")
    status: ConditionStatus = Field(description="True, False or Unknown.")
    reason: Annotated[str, Field(max_length=1024, pattern=r"^[A-Za-z][A-Za-z0-9]*$")] = Field(
        description="Why the status is what it is, in one CamelCase word."
    )
    message: Annotated[str, Field(max_length=32768)] = Field(
        description="The same for people, with what they can do where something is needed of them."
    )
    last_transition_time: Annotated[str, Field(json_schema_extra={"format": "date-time"})] = Field(
        description="When status last changed."
    )
    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = Field(
        description="metadata.generation of the spec that the condition was derived from."
    )
