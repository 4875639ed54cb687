"""What people are told of data that is lost: what it was, what is done, and what they can do."""

from collections.abc import Sequence
from typing import Final

from cachecluster.api import names
from cachecluster.api.spec import OnDataLoss, PersistenceMode
from cachecluster.api.status import DataLoss, DataLossState
from cachecluster.domain.data_loss import Incident
from cachecluster.domain.listing import listed
from cachecluster.domain.requests import approval_command, approved_loss
from cachecluster.domain.snapshot import InvalidSpec, Snapshot
from cachecluster.domain.topology import Member

_SLOTS_SHOWN: Final = 60
_REQUEST_SHOWN: Final = 40
"""Characters of what may be long."""


def news(told: DataLoss) -> str:
    """One sentence that stays the same for as long as the incident lasts, so that it is one Event."""
    return f"data loss {told.incident}: every copy of {what(told)} is gone"


def what(told: DataLoss) -> str:
    """Slots and shards: ``slots 0-5460 (cart-0), 5461-10922 (cart-1)``."""
    return f"slots {listed([f'{_shortened(s.slots, _SLOTS_SHOWN)} ({s.name})' for s in told.shards])}"


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def older_data(copies: Sequence[Member]) -> str:
    """What to do with pods whose data is older than what was acknowledged, and of which none may lead for that."""
    pods = listed([m.pod.name for m in copies])
    return (
        f"Take from {pods} what you need, then delete the pod, with its volume if it has one: with nothing left, the "
        "shard goes on as recovery.onDataLoss says"
    )


def demand(snap: Snapshot, incident: Incident) -> str:
    """That somebody has to decide: what is lost, how it may come back, and the command that gives it up."""
    return (
        f"{news(incident.told())} since {incident.since}. These slots stay without an owner, the others are not "
        f"affected. {_other_request(snap, incident)}{_way_back(snap)} To give the data up and start empty: "
        f"{approval_command(snap.ref, incident.id)}"
    )


def _way_back(snap: Snapshot) -> str:
    if not isinstance(snap.spec, InvalidSpec) and snap.spec.persistence_mode is PersistenceMode.NONE:
        return "With persistence.mode None there is nothing that it could come back from."
    return (
        "If its volumes can be brought back, put them in the place of the empty ones and delete the pods: it ends by "
        "itself then."
    )


def _other_request(snap: Snapshot, incident: Incident) -> str:
    """An approval of something else."""
    given = approved_loss(snap.annotations)
    if not given or given == incident.id:
        return ""
    shown = _shortened(given, _REQUEST_SHOWN)
    return f'The annotation {names.ANNOTATION_APPROVE_LOSS} is "{shown}", which does not approve this one. '


def outcome(snap: Snapshot, incident: Incident) -> str:
    """That it is given up, and by whose word."""
    approved = isinstance(snap.spec, InvalidSpec) or snap.spec.on_data_loss is not OnDataLoss.RECREATE
    why = "as approved" if approved else f"recovery.onDataLoss is {OnDataLoss.RECREATE}"
    return f"{news(incident.told())} since {incident.since}; the slots start empty, {why}"


def ending(told: DataLoss) -> str:
    """How it has ended."""
    if told.state is DataLossState.RECOVERED:
        return f"data loss {told.incident} is over: {what(told)} have an owner again, since {told.ended_at}"
    return f"{news(told)} since {told.since}; the slots were started empty at {told.ended_at}"
