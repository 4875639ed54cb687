"""Parameters that need no restart: noted, set on every running node, then written down for nodes that start later.

In that order, so that at any interruption the ConfigMap names all that a node may have been told (a parameter that the
user takes back is then set back), and never holds a value that a running node has refused (design §2, ADR 0011).
"""

from collections.abc import Iterator, Sequence
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain import durability, fence
from cachecluster.domain.actions import Apply, Configure
from cachecluster.domain.drift import desired_object, difference, key_of
from cachecluster.domain.listing import listed
from cachecluster.domain.live_parameters import FILE, noted, outstanding, same_family, values_in, wanted
from cachecluster.domain.memory import PARAMETER, maxmemory, overfull, shrinks
from cachecluster.domain.plan import Block, Do, Verdict, Wait
from cachecluster.domain.policies.infrastructure import owner_uid
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.snapshot import ContainerState, Manifest, ObjectKey, Parameters
from cachecluster.domain.topology import Member

REFUSED_ADVICE: Final = "Correct spec.parameters, or set them back; until then the nodes keep the values that they have"
_SLOW: Final = frozenset({PARAMETER, *durability.NAMES})
"""What some nodes get much later than others."""


def configure_nodes(now: Situation) -> Iterator[Verdict]:
    """Nodes that do not answer are waited for; the others are set all the same (S1)."""
    key = ObjectKey("ConfigMap", names.live_config_map(now.snap.ref.name, now.spec.version))
    desired = desired_object(now.snap, key)
    live = now.snap.children.get(key)
    if (
        desired is None
        or live is None
        or owner_uid(live) != now.snap.ref.uid
        or "deletionTimestamp" in live["metadata"]
    ):
        return  # created, or explained, as any other object
    desired = _as_confirmed(now, desired, live)
    unset, alone = _unset(now, live)
    full = overfull(now.spec, now.topology)
    if full:
        yield _does_not_fit(now, full)
    if alone:
        message = f"durability.mode takes effect on {_listed(alone)} as soon as a replica is in step"
        yield Wait(Reason.CONFIGURING, message, 1.0)
    where = difference(desired, live)
    unnoted = {name for parameters in unset for name, _ in parameters} - noted(live)
    if unnoted:
        message = f"{key} notes that {', '.join(sorted(unnoted))} will be set on running nodes"
        yield Do(_replacing({**desired, "data": live.get("data", {})}, live), Reason.CONFIGURING, message)
        return
    for parameters, members in unset.items():
        yield _set(now, parameters, members, drifted=where is None)
    if where is not None and not unset:
        yield _write_down(now, desired, live, where)


def _unset(now: Situation, live: Manifest) -> tuple[dict[Parameters, list[Member]], list[Member]]:
    """What is not in force, with the nodes that lack exactly this; and primaries that must not ask for a replica yet:
    an edit of the spec never makes a shard refuse writes that it has accepted so far.
    """
    found: dict[Parameters, list[Member]] = {}
    alone: list[Member] = []
    full = overfull(now.spec, now.topology)
    usable = (m for m in now.topology.members if m.usable)
    behind = [m for s in now.topology.shards for m in s.members if fence.is_behind_its_time(s, m)]
    for member, missing in outstanding(now.spec, noted(live), usable):
        if full and shrinks(now.spec, member):
            missing.pop(PARAMETER, None)
        lonely = missing.keys() & durability.parameters(now.spec).keys() and durability.is_alone(now.topology, member)
        if lonely:
            alone.append(member)
        if lonely or member in behind:
            for name in durability.NAMES:
                missing.pop(name, None)
        if missing:
            found.setdefault(tuple(missing.items()), []).append(member)
    return found, alone


def _as_confirmed(now: Situation, desired: Manifest, live: Manifest) -> Manifest:
    """The file keeps its value of what some nodes get much later than others: maxmemory may take the resizes of all
    pods, durability.mode the first replicas. Until every node has it, it must not keep other parameters back.
    """
    values = wanted(now.spec, noted(live))
    nodes = [m.node for m in now.topology.members if m.node is not None and same_family(m.node, now.spec.version)]
    late = [n for n in _SLOW if n in values and any(node.parameters.get(n) != values[n] for node in nodes)]
    if not late:
        return desired
    before = [line for line in _lines(live) if _name(line) in late]
    others = [line for line in _lines(desired) if _name(line) not in late]
    return {**desired, "data": {FILE: "".join(f"{line}\n" for line in sorted(before + others, key=_name))}}


def _lines(manifest: Manifest) -> list[str]:
    return [line for line in manifest.get("data", {}).get(FILE, "").splitlines() if line]


def _name(line: str) -> str:
    return line.partition(" ")[0]


def _does_not_fit(now: Situation, full: Sequence[Member]) -> Verdict:
    most = max(m.node.used_memory for m in full if m.node is not None)
    message = (
        f"{_listed(full)} use up to {most // 2**20} MiB, and with resources.limits.memory "
        f"{now.spec.resources.limits.memory} a node may hold {maxmemory(now.spec) // 2**20} MiB: writes would be "
        "refused, so nothing is changed. Set the limit back, add shards, remove keys, or let the engine evict some "
        "(parameters.maxmemory-policy: allkeys-lru)"
    )
    return Block(Reason.INSUFFICIENT_MEMORY, message)


def _set(now: Situation, parameters: Parameters, members: Sequence[Member], *, drifted: bool) -> Verdict:
    pods = _listed(members)
    refusal = now.snap.refusals.get(parameters)
    if refusal is not None:
        message = f"{', '.join(name for name, _ in parameters)} cannot be set on {pods}: {refusal}. {REFUSED_ADVICE}"
        return Block(Reason.PARAMETER_REFUSED, message)
    action = Configure(tuple(m.target for m in members), parameters)
    what = ", ".join(f"{name} to {value or 'nothing'}" for name, value in parameters)
    if drifted:
        return Do(action, Reason.REPAIRING_DRIFT, f"{pods} differs from the spec: setting {what}")
    return Do(action, Reason.CONFIGURING, f"setting {what} on {pods}")


def _write_down(now: Situation, desired: Manifest, live: Manifest, where: str) -> Verdict:
    """Only when every process that may run has confirmed it; one that does not run has nothing to confirm."""
    key = key_of(live)
    changed = sorted(dict(values_in(desired).items() ^ values_in(live).items()))
    if not changed:
        return Do(_replacing(desired, live), Reason.REPAIRING_DRIFT, f"{key} differs at {where}")
    silent = [m for m in now.topology.members if not m.serving and not m.pod.deleting and _may_run(m)]
    if silent:
        message = f"parameters are set; {key} is written once {_listed(silent)} has confirmed them"
        return Wait(Reason.CONFIGURING, message, 1.0)
    message = f"{key} is brought up to date ({', '.join(changed)}), for nodes that start from now on"
    return Do(_replacing(desired, live), Reason.CONFIGURING, message)


def _may_run(member: Member) -> bool:
    container = member.pod.container
    return container is not None and container.state is ContainerState.RUNNING


def _replacing(manifest: Manifest, live: Manifest) -> Apply:
    """Only over the very version that was read: what another one has noted must not be forgotten."""
    return Apply(manifest, live["metadata"]["uid"], live["metadata"].get("resourceVersion"))


def _listed(members: Sequence[Member]) -> str:
    return listed([m.pod.name for m in members])


POLICIES: Final = (configure_nodes,)
