"""What to report, derived from what was seen, planned and done. Pure; times change only when a status does."""

from collections.abc import Sequence
from typing import Final

from cachecluster.api import names
from cachecluster.api.conditions import Condition, ConditionStatus, ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.api.status import (
    CacheClusterStatus,
    DataLoss,
    DataLossState,
    Effective,
    Endpoint,
    Endpoints,
    PrimaryStatus,
    ReplicaStatus,
    Resharding,
    ShardStatus,
)
from cachecluster.domain.actions import ExpandVolume, ResizePod, SetUsers
from cachecluster.domain.data_loss import Incident, data_loss_status, open_incident
from cachecluster.domain.drift import fingerprint
from cachecluster.domain.failovers import Chronicle, failovers, last_failover
from cachecluster.domain.listing import listed
from cachecluster.domain.live_parameters import wanted
from cachecluster.domain.loss_messages import demand, ending, news, outcome
from cachecluster.domain.pending import are_resized, outdated, pending_modifications, unset_parameters
from cachecluster.domain.plan import Block, Do, Outcome, Plan, Verdict, Wait
from cachecluster.domain.policies import access, storage
from cachecluster.domain.policies.configuration import REFUSED_ADVICE
from cachecluster.domain.progress import resharding_before, resharding_status
from cachecluster.domain.refused_writes import refusal, refusing
from cachecluster.domain.requests import handled_failover
from cachecluster.domain.served import slots_told
from cachecluster.domain.slots import NO_SLOTS, SlotSet, union
from cachecluster.domain.snapshot import InvalidSpec, Manifest, Snapshot
from cachecluster.domain.topology import Shard, Topology, crowded_zone, observe, weakness
from cachecluster.domain.unwritten import explanation, log_gaps, refuses, unwritten
from cachecluster.domain.volumes import growing, size_text

STALLING: Final = frozenset(
    {
        Reason.INVALID_SPEC,
        Reason.INVALID_REQUEST,
        Reason.OBJECT_NOT_OURS,
        Reason.OBJECT_REJECTED,
        Reason.SYSTEM_SECRET_MISSING,
        Reason.FOREIGN_NODE,
        Reason.FOREIGN_VOLUME,
        Reason.NODE_LOST,
        Reason.NODE_HANGS,
        Reason.NO_SYNCED_REPLICA,
        Reason.IMAGE_PULL_FAILED,
        Reason.POD_CRASHING,
        Reason.POD_UNSCHEDULABLE,
        Reason.ROLLOUT_STALLED,
        Reason.PARAMETER_REFUSED,
        Reason.RIGHTS_REFUSED,
        Reason.WOULD_LOSE_DATA,
        Reason.INSUFFICIENT_MEMORY,
        Reason.VOLUME_NOT_WRITABLE,
        Reason.VOLUME_NOT_EXPANDABLE,
        Reason.VOLUME_CANNOT_SHRINK,
        Reason.DATA_LOSS,
        Reason.UNOWNED_KEYS,
    }
)
"""Held back until a person, or the world outside, changes something."""
_HASH_LENGTH: Final = 10
NOTHING_SEEN: Final = Chronicle()

Judgement = tuple[ConditionType, ConditionStatus, Reason, str]


def derive(
    snap: Snapshot,
    plan: Plan,
    outcomes: Sequence[Outcome] = (),
    *,
    keys_moved: int = 0,
    chronicle: Chronicle = NOTHING_SEEN,
) -> CacheClusterStatus:
    """The status after a pass; ``keys_moved`` counts keys that changed shards since progress was last written, the
    ``chronicle`` includes this pass.
    """
    topology = observe(snap)
    told = failovers(snap, chronicle)
    incident = open_incident(snap, topology)
    lost = data_loss_status(snap, topology, incident)
    failures = [
        Block(_failure(o), f"{o.step.message}: {o.error}{_advice(o)}")
        for o in outcomes
        if o.error is not None and not o.doubt
    ]
    blocks = (*plan.blocks, *failures)
    rolled = _rolled_out(snap, topology)
    ready = _ready(snap, topology)
    judgements = [
        ready,
        _reconciling(plan, blocks, outcomes),
        _stalled(blocks),
        _degraded(snap, topology, lost),
        _covered(topology),
        _spread(topology),
        rolled,
        *_data_loss(snap, incident, lost),
    ]
    reason, message = _headline(plan, blocks, ready)
    resharding = resharding_status(snap, topology, keys_moved)
    return CacheClusterStatus(
        observed_generation=snap.generation,
        reason=reason,
        message=message,
        replicas=sum(s.primary is not None for s in topology.shards),
        selector=f"{names.LABEL_CLUSTER}={snap.ref.name},{names.LABEL_ROLE}={names.ROLE_PRIMARY}",
        nodes=sum(s.expected for s in topology.shards),
        ready_nodes=sum(m.pod.ready for m in topology.members),
        conditions=[_condition(snap, j) for j in judgements],
        endpoints=_endpoints(snap) if topology.ever_formed else None,
        shards=_shards(snap, topology, resharding),
        effective=_effective(snap, topology, rolled[1] == "True"),
        resharding=resharding,
        last_failover=last_failover(snap, told),
        failovers=told,
        last_handled_failover=handled_failover(snap, topology),
        data_loss=lost,
        log_gaps=log_gaps(snap, topology),
        pending_modifications=pending_modifications(snap, topology),
    )


def _advice(outcome: Outcome) -> str:
    if _failure(outcome) is Reason.VOLUME_NOT_EXPANDABLE:
        return f". {storage.REFUSED_ADVICE}"
    if _failure(outcome) is Reason.RESIZING_PODS:
        return ". The pod is replaced instead"
    if _failure(outcome) is Reason.RIGHTS_REFUSED:
        return f". {access.REFUSED_ADVICE}"
    return f". {REFUSED_ADVICE}" if outcome.refused else ""


def _failure(outcome: Outcome) -> Reason:
    if outcome.rejected:
        match outcome.step.action:
            case ExpandVolume():
                return Reason.VOLUME_NOT_EXPANDABLE
            case ResizePod():
                return Reason.RESIZING_PODS
            case _:
                return Reason.OBJECT_REJECTED
    if outcome.refused:
        return Reason.RIGHTS_REFUSED if isinstance(outcome.step.action, SetUsers) else Reason.PARAMETER_REFUSED
    return Reason.ACTION_FAILED


def _ready(snap: Snapshot, topology: Topology) -> Judgement:
    kind = ConditionType.READY
    if topology.uncovered or not topology.shards:
        silent = [m.pod.name for m in topology.members if m.node is None]
        if topology.ever_formed and len(silent) == len(topology.members) > 0:
            return kind, "Unknown", Reason.NODE_UNREACHABLE, "no node answers the operator"
        reason = Reason.SLOTS_UNCOVERED if topology.ever_formed else Reason.FORMING
        return kind, "False", reason, f"slots {topology.uncovered} have no primary that answers"
    primaries = [s.primary for s in topology.shards if s.primary is not None]
    closed = [m.pod.name for m in primaries if m.node is not None and m.node.quarantined]
    if closed:
        message = f"{', '.join(closed)} serves nobody until its data has been compared with the rest of its shard's"
        return kind, "False", Reason.RELEASING_QUARANTINE, message
    unsure = [s.primary.pod.name for s in topology.shards if s.primary and not _state_ok(s)]
    if unsure:
        reason = Reason.SLOTS_UNCOVERED if _has_been_ready(snap) else Reason.FORMING
        return kind, "False", reason, f"{', '.join(unsure)} does not see the whole cluster yet"
    held = _still_forms(snap, topology) or _refused_writes(snap, topology)
    if held is not None:
        return kind, "False", *held
    serving = sum(s.primary is not None for s in topology.shards)
    return kind, "True", Reason.CLUSTER_READY, f"{serving} shards serve all slots"


def _still_forms(snap: Snapshot, topology: Topology) -> tuple[Reason, str] | None:
    """What a new cluster lacks although every slot is served; None for one that has been ready before."""
    if _has_been_ready(snap):
        return None
    if not all(s.empty or s.healthy for s in topology.shards):
        return Reason.SYNCING_REPLICA, "every slot is served; replicas are still on their way"
    if not topology.informed:
        return Reason.FORMING, "not every node knows yet where all slots are"
    return None


def _refused_writes(snap: Snapshot, topology: Topology) -> tuple[Reason, str] | None:
    """Why some writes to slots that are served are refused."""
    if refusals := [refusal(s, snap.spec) for s in refusing(topology)]:
        return Reason.WRITES_REFUSED, _joined(refusals)
    if full := [explanation(m, snap.spec) for m in unwritten(snap, topology) if refuses(m, snap.spec)]:
        return Reason.VOLUME_NOT_WRITABLE, _joined(full)
    return None


def _has_been_ready(snap: Snapshot) -> bool:
    """A new cluster is ready with all its replicas; one that has lost some since is as soon as its slots are served."""
    before = _previous(snap, ConditionType.READY)
    return before is not None and before["reason"] not in {Reason.FORMING, Reason.SYNCING_REPLICA}


def _state_ok(shard: Shard) -> bool:
    return shard.primary is not None and shard.primary.node is not None and shard.primary.node.cluster_state_ok


def _reconciling(plan: Plan, blocks: Sequence[Block], outcomes: Sequence[Outcome]) -> Judgement:
    kind = ConditionType.RECONCILING
    paused = next((b for b in blocks if b.reason is Reason.PAUSED), None)
    if paused:
        return kind, "False", Reason.PAUSED, paused.message
    unfinished = [o.step for o in outcomes if o.error is not None]
    busy: list[Do | Wait] = [*unfinished, *plan.waits, *plan.steps]
    if busy:
        return kind, "True", busy[0].reason, busy[0].message
    failing = next((b for b in blocks if b.reason not in STALLING), None)
    if failing:
        return kind, "True", failing.reason, failing.message
    return kind, "False", Reason.UP_TO_DATE, "nothing is left to do"


def _stalled(blocks: Sequence[Block]) -> Judgement:
    stalled = next((b for b in blocks if b.reason in STALLING), None)
    if stalled:
        return ConditionType.STALLED, "True", stalled.reason, stalled.message
    return ConditionType.STALLED, "False", Reason.AS_EXPECTED, "nothing waits for a person"


def _degraded(snap: Snapshot, topology: Topology, lost: DataLoss | None) -> Judgement:
    kind = ConditionType.DEGRADED
    if not topology.ever_formed:
        return kind, "False", Reason.FORMING, "the cluster is not formed yet"
    refused = refusing(topology)
    weak = [s for s in topology.shards if s in refused or not (s.empty or s.healthy)]
    if not weak and lost is not None and lost.state.is_open:
        return kind, "True", Reason.DATA_LOSS, news(lost)
    if not weak and (failing := unwritten(snap, topology)):
        return kind, "True", Reason.VOLUME_NOT_WRITABLE, _joined([explanation(m, snap.spec) for m in failing])
    if not weak:
        return kind, "False", Reason.AS_EXPECTED, "every shard has all its copies"
    texts = [refusal(s, snap.spec) if s in refused else f"shard {s.index}: {weakness(s)}" for s in weak]
    reason = Reason.WRITES_REFUSED if refused else Reason.NO_SYNCED_REPLICA
    if any(s.primary is None for s in weak):
        reason = Reason.SLOTS_UNCOVERED
    return kind, "True", reason, _joined(texts)


def _joined(texts: Sequence[str]) -> str:
    return "; ".join(texts[:5]) + (f"; and {len(texts) - 5} more" if len(texts) > 5 else "")


def _covered(topology: Topology) -> Judgement:
    if topology.uncovered or not topology.shards:
        message = f"slots {topology.uncovered} have no primary that answers"
        return ConditionType.SLOTS_COVERED, "False", Reason.SLOTS_UNCOVERED, message
    return ConditionType.SLOTS_COVERED, "True", Reason.AS_EXPECTED, "each of the 16384 slots has a primary"


def _spread(topology: Topology) -> Judgement:
    kind = ConditionType.ZONES_SPREAD
    zones = {m.zone for m in topology.members if m.zone is not None}
    unknown = [m.pod.name for m in topology.members if m.zone is None]
    if unknown or not zones:
        return kind, "Unknown", Reason.WAITING_FOR_PODS, "the zones of some nodes are not known"
    together = [s.name for s in topology.shards if s.expected > 1 and len({m.zone for m in s.members}) < 2]
    if together:
        message = f"all members of {', '.join(together)} share a zone; a replica without a volume moves once it can"
        return kind, "False", Reason.RESTORING_ZONE_BALANCE, message
    crowded = crowded_zone(topology)
    if crowded is not None:
        message = (
            f"zone {crowded} leads half of the shards or more; one primary moves after ten calm minutes, if a replica "
            "of it is in a zone that leads fewer"
        )
        return kind, "False", Reason.RESTORING_ZONE_BALANCE, message
    return kind, "True", Reason.AS_EXPECTED, f"members are spread over {len(zones)} zones"


def _rolled_out(snap: Snapshot, topology: Topology) -> Judgement:
    kind = ConditionType.ROLLED_OUT
    if isinstance(snap.spec, InvalidSpec):
        return kind, "False", Reason.INVALID_SPEC, "the spec is not carried out"
    members = outdated(snap, topology)
    absent = [s.name for s in topology.shards if not s.members]
    old = [m.pod.name for m in members] + absent
    if old:
        if not absent and are_resized(snap, topology, members):
            return kind, "False", Reason.RESIZING_PODS, f"still to get new resources: {listed(old)}"
        return kind, "False", Reason.ROLLING_OUT, f"still to be replaced or created: {listed(old)}"
    unset = unset_parameters(snap, topology)
    if unset:
        return kind, "False", Reason.CONFIGURING, f"still to be set on running nodes: {', '.join(unset)}"
    small = growing(snap, topology)
    if small:
        return kind, "False", Reason.RESIZING_VOLUMES, f"volumes are still to grow: {listed(small)}"
    return kind, "True", Reason.UP_TO_DATE, "every node runs the wanted template and parameters"


def _data_loss(snap: Snapshot, incident: Incident | None, lost: DataLoss | None) -> list[Judgement]:
    """Shown from the moment on, and for a day after the slots were given out again."""
    kind = ConditionType.DATA_LOSS
    if incident is not None:
        message = outcome(snap, incident) if incident.given_up else demand(snap, incident)
        return [(kind, "True", Reason.DATA_LOSS, message)]
    if lost is not None and lost.state is DataLossState.STARTED_EMPTY:
        return [(kind, "True", Reason.DATA_LOSS, ending(lost))]
    if lost is not None:
        return [(kind, "False", Reason.AS_EXPECTED, ending(lost))]
    if _previous(snap, kind) is None:
        return []
    return [(kind, "False", Reason.AS_EXPECTED, "no slot has lost its data within the last day")]


def _headline(plan: Plan, blocks: Sequence[Block], ready: Judgement) -> tuple[Reason, str]:
    """One reason for the STATUS column: what needs a person, else what clients feel, else what is going on, else how it
    is.
    """
    stalled = next((b for b in blocks if b.reason in STALLING or b.reason is Reason.PAUSED), None)
    if stalled is None and ready[2] is Reason.WRITES_REFUSED:
        return ready[2], ready[3]
    others: list[Verdict] = [*blocks, *plan.steps, *plan.waits]
    first = stalled or next(iter(others), None)
    return (first.reason, first.message) if first else (ready[2], ready[3])


def _previous(snap: Snapshot, kind: ConditionType) -> Manifest | None:
    conditions = snap.status.get("conditions", ())
    return next((c for c in conditions if c.get("type") == kind), None)


def _condition(snap: Snapshot, judgement: Judgement) -> Condition:
    kind, status, reason, message = judgement
    before = _previous(snap, kind)
    return Condition(
        type=kind,
        status=status,
        reason=reason,
        message=message[:4000],
        last_transition_time=before["lastTransitionTime"] if before and before["status"] == status else snap.moment,
        observed_generation=snap.generation,
    )


def _endpoints(snap: Snapshot) -> Endpoints:
    host = f"{names.endpoint_service(snap.ref.name)}.{snap.ref.namespace}.svc"
    return Endpoints(configuration=Endpoint(host=host, port=names.CACHE_PORT))


def _shards(snap: Snapshot, topology: Topology, resharding: Resharding | None) -> list[ShardStatus]:
    """The shards. While slots move, theirs are written together with the progress, not for every few that arrive."""
    shards = [_shard(topology, s) for s in topology.shards]
    shards += _vanished(snap, shards)
    if resharding is None or resharding != resharding_before(snap):
        return shards
    written = {s["name"]: s.get("slots", "") for s in snap.status.get("shards", ())}
    return [s.model_copy(update={"slots": written.get(s.name, s.slots)}) for s in shards]


def _vanished(snap: Snapshot, shards: Sequence[ShardStatus]) -> list[ShardStatus]:
    """Shards that are gone, with slots that nobody else has: that there was data is not forgotten (S2)."""
    rows = {s.name: s.slots for s in shards}
    known = union(SlotSet.parse(slots) for slots in rows.values())
    left = {name: slots - known for name, slots in slots_told(snap).items() if name not in rows}
    return [ShardStatus(name=name, slots=str(slots)) for name, slots in left.items() if slots]


def _shard(topology: Topology, shard: Shard) -> ShardStatus:
    slots = shard.formed
    for member in shard.members:
        if member.node is not None:
            slots |= topology.owners.get(member.node.node_id, NO_SLOTS)
    primary = PrimaryStatus(pod=shard.primary.pod.name, zone=shard.primary.zone) if shard.primary else None
    replicas = [
        ReplicaStatus(pod=m.pod.name, zone=m.zone, synced=m.synced) for m in shard.members if m is not shard.primary
    ]
    return ShardStatus(name=shard.name, slots=str(slots), primary=primary, replicas=replicas)


def _effective(snap: Snapshot, topology: Topology, rolled: bool) -> Effective | None:
    """Changes only when a roll is complete."""
    template = next((m["spec"]["template"]["spec"] for m in snap.desired if m["kind"] == "StatefulSet"), None)
    if not rolled or isinstance(snap.spec, InvalidSpec) or template is None:
        return Effective.read(snap.status.get("effective"))
    versions = {m.node.version for m in topology.members if m.node is not None}
    image = next(c["image"] for c in template["containers"] if c["name"] == names.CONTAINER)
    volumes = template.get("volumes", ())
    config = next((v["configMap"]["name"] for v in volumes if v["name"] == names.CONFIG_VOLUME), "")
    parameters = fingerprint([config, wanted(snap.spec)])[:_HASH_LENGTH]
    version = versions.pop() if len(versions) == 1 else str(snap.spec.version)
    return Effective(version=version, image=image, parameters_hash=parameters, volume_size=_volume_size(snap))


def _volume_size(snap: Snapshot) -> str | None:
    """What the StatefulSets make; it differs between them only while volumes grow."""
    return next((text for m in snap.desired if m["kind"] == "StatefulSet" and (text := size_text(m))), None)
