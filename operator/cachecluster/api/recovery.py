"""What is done once every copy of some data is gone, and what the status tells of that."""

from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from cachecluster.api import names
from cachecluster.api.rules import Model

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC."""

INCIDENT_LENGTH: Final = 10
_BY_NAME: Final[dict[str, Any]] = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}


class OnDataLoss(StrEnum):
    """Who decides that slots whose data is gone start empty."""

    RECREATE = "Recreate"
    WAIT_FOR_APPROVAL = "WaitForApproval"


class Recovery(Model):
    """What is done after the worst has happened."""

    on_data_loss: OnDataLoss = Field(
        description="What becomes of slots of which no copy is left. Recreate: they start empty at once. "
        "WaitForApproval: they stay without an owner, while all others are served, until their data comes back or "
        "somebody gives it up by naming status.dataLoss.incident in the annotation "
        f"{names.ANNOTATION_APPROVE_LOSS}; that is good for this one incident. Omitted: Recreate with "
        "persistence.mode None, else WaitForApproval."
    )


class DataLossState(StrEnum):
    """How far an incident has come."""

    WAITING_FOR_APPROVAL = "WaitingForApproval"
    STARTING_EMPTY = "StartingEmpty"
    """The data is given up; the slots are about to be assigned."""
    STARTED_EMPTY = "StartedEmpty"
    RECOVERED = "Recovered"
    """The data has come back."""

    @property
    def is_open(self) -> bool:
        """Slots are still without an owner."""
        return self in {DataLossState.WAITING_FOR_APPROVAL, DataLossState.STARTING_EMPTY}


class ShardLoss(Model):
    """What a shard has lost."""

    name: str = Field(description="Name of the shard, for example cart-0.")
    slots: str = Field(description="Hash slots of which no copy is left, for example 0-5460.")
    successor: str | None = Field(
        default=None,
        description="Engine's id of the empty node that gets them, once the data is given up: it and no other.",
    )


class DataLoss(Model):
    """Every copy of some slots is gone."""

    incident: Annotated[str, Field(max_length=INCIDENT_LENGTH)] = Field(
        description="Name of this loss; what an approval repeats. A later loss, or one that takes in more slots, has "
        "another one."
    )
    state: DataLossState = Field(
        description="WaitingForApproval: the slots have no owner. StartingEmpty: their data is given up. StartedEmpty: "
        "they are served again, without it. Recovered: it has come back."
    )
    since: Moment = Field(description="When the operator found that nothing is left.")
    ended_at: Moment | None = Field(
        default=None, description="When the slots had an owner again; the incident is told for a day from then on."
    )
    shards: list[ShardLoss] = Field(description="The shards and slots that are lost.", json_schema_extra=_BY_NAME)
