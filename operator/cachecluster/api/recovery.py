"""What is done once every copy of some data is gone."""

from enum import StrEnum

from pydantic import Field

from cachecluster.api import names
from cachecluster.api.rules import Model


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
