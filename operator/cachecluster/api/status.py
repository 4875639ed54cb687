"""What the operator reports under ``status``. Integers with units, no floats, no heartbeats."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Final, Self

from pydantic import ConfigDict, Field, ValidationError, computed_field

from cachecluster.api import names
from cachecluster.api.conditions import Condition
from cachecluster.api.reasons import FailoverCause, Promoter
from cachecluster.api.rules import Model

REQUEST_LENGTH: Final = 512
"""Characters of a request that the status can confirm; a pod's name takes at most 253 of them."""
FAILOVERS_KEPT: Final = 10
"""So many of the last ones are told."""
INCIDENT_LENGTH: Final = 10
"""Characters of the name of a data loss."""

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
"""RFC 3339, UTC."""


def _list_map(key: str) -> dict[str, Any]:
    """Schema keys of a list whose items are told apart by ``key``."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [key]}


class Report(Model):
    """A part of the status. An operator reads back what the one before it has written, which may have been a newer
    one: a field that it does not know does not keep it from its work.
    """

    model_config = ConfigDict(extra="ignore")

    @classmethod
    def read(cls, written: Any) -> Self | None:
        """What is there; None if it is nothing, or nothing that this operator understands."""
        try:
            return cls.model_validate(written)
        except ValidationError:
            return None


class Endpoint(Report):
    """A name and port to connect to."""

    host: str = Field(description="DNS name inside the Kubernetes cluster.")
    port: int = Field(ge=1, le=65535, description="TCP port.")


class Endpoints(Report):
    """Where clients connect."""

    configuration: Endpoint = Field(
        description="Any node of the cluster: what a cluster-aware client starts from to find the others."
    )


class PrimaryStatus(Report):
    """The node that takes a shard's writes."""

    pod: str = Field(description="Name of the pod.")
    zone: str | None = Field(default=None, description="Zone of the pod's node; absent while the node is not known.")


class ReplicaStatus(Report):
    """A node that follows a primary."""

    pod: str = Field(description="Name of the pod.")
    zone: str | None = Field(default=None, description="Zone of the pod's node; absent while the node is not known.")
    synced: bool = Field(description="Whether its link to the primary is up, with a completed synchronisation.")


class ShardStatus(Report):
    """One shard as last observed."""

    name: str = Field(description="Name of the shard and of its StatefulSet, for example cart-0.")
    slots: str = Field(
        description="Hash slots that the shard serves, or was the last to serve, for example 0-5460; empty: none."
    )
    primary: PrimaryStatus | None = Field(default=None, description="The shard's primary; absent while there is none.")
    replicas: list[ReplicaStatus] = Field(
        default_factory=list, description="The shard's replicas.", json_schema_extra=_list_map("pod")
    )


class Effective(Report):
    """What was last rolled out to every node; a roll that is under way does not show here until it is done."""

    version: Annotated[str, Field(max_length=32, pattern=r"^[0-9]{1,4}\.[0-9]{1,4}(\.[0-9]{1,6})?$")] = Field(
        description="Engine version, exact where it is known, for example 8.1.4."
    )
    image: str = Field(description="Image of the engine's container.")
    parameters_hash: str = Field(
        description="Hash of the configuration that is in force on every node: what it was started with and what was "
        "set since."
    )
    volume_size: Annotated[str, Field(max_length=20)] | None = Field(
        default=None, description="Size of each node's volume, for example 8Gi; absent without volumes."
    )


class Resharding(Report):
    """Slots that move from shard to shard."""

    from_: int = Field(ge=0, alias="from", description="Number of shards with slots when it began.")
    to: int = Field(ge=1, description="Number of shards that the spec asks for.")
    slots: int = Field(ge=0, description="Number of hash slots that are to move in all.")
    slots_moved: int = Field(ge=0, description="Number of slots that have moved.")
    keys_moved: int = Field(
        ge=0, description="Number of keys that have moved with them; a restart of the operator may miss some."
    )
    progress_percent: int = Field(ge=0, le=100, description="Slots that have moved, of all that are to.")
    started_at: Moment = Field(description="When it began.")
    elapsed_seconds: int = Field(default=0, ge=0, description="Seconds since then, as of these numbers.")
    eta_seconds: int | None = Field(
        default=None, ge=0, description="Seconds that it may still take at the pace so far; absent at first."
    )


_PROVEN: Final = tuple(c for c in FailoverCause if c is not FailoverCause.MARKED_FAILED)
"""What the operator acts on."""


class LastFailover(Report):
    """A primary was lost, and the operator has had a replica take its place."""

    time: Moment = Field(description="When that was.")
    shard: str = Field(description="Name of the shard, for example cart-0.")
    from_: str | None = Field(
        default=None, alias="from", description="Pod of the primary that was lost; absent if it is not known any more."
    )
    to: str = Field(description="Pod that leads since.")
    cause: str = Field(description=f"How the loss was known: {', '.join(_PROVEN)}.")
    write_unavailable_milliseconds: int | None = Field(
        default=None,
        ge=0,
        description="From the old primary's last sign of life until the new one took writes, as the operator saw it; "
        "absent if it was not connected to the old one, or until the new one takes writes.",
    )


class Failover(Report):
    """A primary was lost and a replica leads in its place. A time that the operator does not know is absent."""

    shard: str = Field(description="Name of the shard, for example cart-0.")
    from_: str | None = Field(
        default=None, alias="from", description="Pod of the primary that was lost; absent if it is not known."
    )
    to: str = Field(description="Pod that took its place.")
    cause: str = Field(description=f"How the loss was known: {', '.join(FailoverCause)}.")
    message: str = Field(description="The same in a sentence.")
    promoted_by: str | None = Field(
        default=None,
        description=f"{Promoter.OPERATOR}: it told the replica to take over. {Promoter.NODES}: they elected it by "
        "themselves. Absent: either is possible, since the operator had tried and was not told what came of it.",
    )
    time: Moment = Field(
        description="When the operator knew that another pod leads: that of promotedAt, else of the look at the nodes "
        "that found it. To the millisecond, as all these times."
    )
    seen_at: Moment | None = Field(
        default=None,
        description="When the operator's connection to the old primary ended; absent if it had none. That of a machine "
        "without power ends 2.5 s after its last sign of life.",
    )
    confirmed_at: Moment | None = Field(
        default=None,
        description="When the loss was confirmed and the operator set out to promote a replica; absent if it did not.",
    )
    promoted_at: Moment | None = Field(
        default=None,
        description="When the replica told the operator that it leads; absent if the operator only found that later.",
    )
    writable_at: Moment | None = Field(
        default=None,
        description="When the operator first saw that it takes writes; absent if the operator was not there to see.",
    )
    write_unavailable_milliseconds: int | None = Field(
        default=None,
        ge=0,
        description="From the old primary's last sign of life until writableAt; absent if either is not known.",
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


class ShardLoss(Report):
    """What a shard has lost."""

    name: str = Field(description="Name of the shard, for example cart-0.")
    slots: str = Field(description="Hash slots of which no copy is left, for example 0-5460.")
    successor: str | None = Field(
        default=None,
        description="Engine's id of the empty node that gets them, once the data is given up: it and no other.",
    )


class DataLoss(Report):
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
    shards: list[ShardLoss] = Field(
        description="The shards and slots that are lost.", json_schema_extra=_list_map("name")
    )


class LogGap(Report):
    """A write did not fit into a node's append-only log, whose file may have a gap there."""

    pod: str = Field(description="Name of the pod.")
    process: str = Field(description="Engine's id of the process (run_id): another one has read the log as it started.")
    rewrites: int = Field(ge=0, description="How often the process had begun to rewrite its log by then.")


class CacheClusterStatus(Report):
    """The observed state of the cache cluster, written by the operator."""

    SCHEMA: ClassVar[Mapping[str, Any]] = {"required": []}  # parts of a status may be written by themselves

    observed_generation: Annotated[int, Field(ge=0, json_schema_extra={"format": "int64"})] = Field(
        description="metadata.generation of the spec that this status was derived from."
    )
    reason: str = Field(description="The state in one CamelCase word, for people; programs read the conditions.")
    message: str = Field(description="The state in one sentence.")
    replicas: int = Field(
        default=0, ge=0, description="Number of shards that own slots: what the scale subresource reports."
    )
    selector: str = Field(
        default="", description="Labels of the primaries, one for each shard: what an autoscaler measures."
    )
    nodes: int = Field(ge=0, description="Number of nodes that the spec asks for.")
    ready_nodes: int = Field(ge=0, description="Number of nodes that are ready.")
    conditions: list[Condition] = Field(
        description="State by aspect; Ready, Reconciling and Stalled are what kstatus and Argo CD read.",
        json_schema_extra=_list_map("type"),
    )
    endpoints: Endpoints | None = Field(
        default=None, description="Where clients connect, once there is something there."
    )
    shards: list[ShardStatus] = Field(
        default_factory=list, description="The shards as last observed.", json_schema_extra=_list_map("name")
    )
    effective: Effective | None = Field(
        default=None, description="What was last rolled out to every node; absent until the cluster is first complete."
    )
    last_handled_failover: Annotated[str, Field(max_length=REQUEST_LENGTH)] | None = Field(
        default=None,
        description=f"Value of the annotation {names.ANNOTATION_FAILOVER} that was last carried out; it is not again.",
    )

    last_failover: LastFailover | None = Field(
        default=None,
        description="The last time that a primary was lost and the operator had it replaced; switches that were asked "
        "for, and replicas that the nodes elected without it, do not show here. failovers tells more.",
    )

    failovers: Annotated[list[Failover], Field(max_length=FAILOVERS_KEPT)] = Field(
        default_factory=list,
        description=f"The last {FAILOVERS_KEPT} times that a primary was lost and another pod took its place, newest "
        "first: by the operator, or by the nodes themselves as far as the operator was there to see it. Switches with "
        "the old primary's consent do not show here.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    data_loss: DataLoss | None = Field(
        default=None,
        description="Slots of which every copy is gone, or was within the last day; absent: none. The condition "
        "DataLoss says what to do.",
    )

    resharding: Resharding | None = Field(default=None, description="Slots that are on the move; absent: none.")

    log_gaps: list[LogGap] = Field(
        default_factory=list,
        description="Append-only logs that may have a gap, since the node's volume did not take a write. The operator "
        "has each rewritten once the volume takes writes again.",
        json_schema_extra={"x-kubernetes-list-type": "atomic"},
    )

    pending_modifications: list[str] = Field(
        default_factory=list,
        description="Fields of the spec that are not in force on every node yet, for example parameters.hz or "
        "resources: being set, waiting for their node's turn to restart, or refused. Empty: all are in force.",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )

    @computed_field(description="Ready nodes of all nodes, for people: 5/6.")
    def ready(self) -> str:
        """The READY column."""
        return f"{self.ready_nodes}/{self.nodes}"

    def to_json(self) -> dict[str, Any]:
        """The object as it is written to the API server."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)


def says_the_same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two statuses differ in nothing but empty lists: applying one to the API server may leave none at all
    (Kubernetes server-side apply, lists of type set and map).
    """
    return bool(_without_empty_lists(one) == _without_empty_lists(other))


def _without_empty_lists(status: Any) -> Any:
    match status:
        case Mapping():
            return {k: _without_empty_lists(v) for k, v in status.items() if v != []}
        case list():
            return [_without_empty_lists(item) for item in status]
        case _:
            return status
