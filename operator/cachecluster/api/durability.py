"""Which writes are accepted while replicas are missing."""

from enum import StrEnum
from typing import Final

from pydantic import Field

from cachecluster.api.rules import Model

MIN_REPLICAS: Final = 2
"""With AtLeastOneReplica: while one restarts, as in every roll, writes are accepted for the other's sake."""
MAX_LAG_SECONDS: Final = 3
"""A replica reports once a second, and a primary counts once a second, in whole seconds: one in step is up to a second
behind. Three let a report be late and the next one be missed. A primary that nobody reports to refuses writes within
two seconds more (engine-facts §2), which is the node timeout: no later than its replicas begin to elect another.
"""


class DurabilityMode(StrEnum):
    """When a primary accepts writes."""

    DEFAULT = "Default"
    AT_LEAST_ONE_REPLICA = "AtLeastOneReplica"


class Durability(Model):
    """Which writes are accepted while replicas are missing."""

    mode: DurabilityMode = Field(
        description="Default: a primary accepts writes whether or not a replica keeps up with it. AtLeastOneReplica: "
        "it refuses them (NOREPLICAS), at the latest 5 s after a replica has last reported to it, until one is in step "
        "again; reads go on. It takes replicasPerShard 2 or more. No mode waits until a single write has been copied."
    )
