"""The state of a cluster as people like to read it. Pure: objects in, lines out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.cli.kubectl_cache.body import condition_of, formed, headline_of, status_of, up_to_date
from cachecluster.cli.kubectl_cache.screen import Palette, span, table
from cachecluster.domain.listing import listed
from cachecluster.domain.policies.pods import pod_problem
from cachecluster.domain.snapshot import Pod

Body = Mapping[str, Any]

_KNOWN: Final = frozenset(kind.value for kind in ConditionType)
"""An operator of another version may report more."""


def picture(body: Body, pods: Mapping[str, Pod] | None, now: float, palette: Palette) -> list[str]:
    """One cluster. ``pods`` by name, None where they could not be read; ``now`` in Unix seconds."""
    nodes = list(_nodes(body, pods))
    concerns = [line for c in status_of(body).get("conditions") or () for line in _concern(body, c, now, palette)]
    sections = (
        list(_heading(body, palette)),
        table(nodes, ("SHARD", "SLOTS", "NODE", "ROLE", "ZONE", "STATE")) if nodes else [],
        ["Not as it should be:", *(f"  {line}" for line in concerns)] if concerns else [],
        [*_data_loss(body, now), *_last_failover(body, now), *_connection(body)],
    )
    return [line for section in sections if section for line in ("", *section)][1:]


def overview(bodies: Sequence[Body], palette: Palette) -> list[str]:
    """Several clusters, a line each."""
    head = ("NAME", "ENGINE", "VERSION", "SHARDS", "READY", "STATE")
    first, *lines = table([(*_row(body), headline_of(body)) for body in bodies], head)
    return [first, *(_mark(body, palette)(line) for body, line in zip(bodies, lines, strict=True))]


def summary(body: Body) -> dict[str, Any]:
    """The same for programs."""
    metadata = body["metadata"]
    return {
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "generation": metadata.get("generation"),
        "connectionSecret": names.connection_secret(metadata["name"]),
        "status": dict(status_of(body)),
    }


def _row(body: Body) -> tuple[str, str, str, str, str]:
    spec, status = body["spec"], status_of(body)
    version = (status.get("effective") or {}).get("version") or spec.get("version", "")
    shards = spec.get("topology", {}).get("shards", "")
    return (
        str(body["metadata"]["name"]),
        str(spec.get("engine", "")),
        str(version),
        str(shards),
        status.get("ready", ""),
    )


def _heading(body: Body, palette: Palette) -> Iterator[str]:
    name, engine, version, shards, ready = _row(body)
    replicas = body["spec"].get("topology", {}).get("replicasPerShard", 0)
    size = f"{_count(shards, 'shard')} of {_count(1 + replicas, 'node')}"
    nodes = f", {ready} ready" if ready else ""
    yield f"{palette.strong(name)} in {body['metadata']['namespace']}: {engine} {version}, {size}{nodes}"
    yield _mark(body, palette)(headline_of(body))
    if not status_of(body):
        yield "Is the operator running? kubectl get deployments -A -l app.kubernetes.io/name=cachecluster-operator"
    elif not up_to_date(body):
        yield palette.busy("The operator has not looked at the latest edit of the spec yet.")


def _count(number: int | str, noun: str) -> str:
    return f"{number} {noun}" + ("" if str(number) == "1" else "s")


def _mark(body: Body, palette: Palette) -> Callable[[str], str]:
    """How to mark what describes the cluster as a whole."""
    served = condition_of(body, ConditionType.READY) == "True"
    lost = not served and formed(body)  # one that is still being formed is just not there yet
    if lost or condition_of(body, ConditionType.STALLED) == "True":
        return palette.bad
    calm = all(condition_of(body, c) == c.wanted for c in (ConditionType.RECONCILING, ConditionType.DEGRADED))
    return palette.good if served and calm else palette.busy


def _nodes(body: Body, pods: Mapping[str, Pod] | None) -> Iterator[tuple[str, str, str, str, str, str]]:
    """A row for each node; the shard's name and slots stand at its first."""
    for shard in status_of(body).get("shards") or ():
        first = (shard["name"], shard.get("slots") or "none")
        primary = shard.get("primary")
        members = [(primary, "primary", "leads")] if primary else []
        for replica in shard.get("replicas") or ():
            step = "in step" if replica.get("synced") else "behind"
            members.append((replica, "replica", step) if primary else (replica, "member", "no primary"))
        for node, what, state in members or [({"pod": ""}, "", "no pods yet")]:
            words = [state, *_pod_words(pods, node["pod"])]
            yield (*first, node["pod"], what, node.get("zone") or "", ", ".join(words))
            first = ("", "")


def _pod_words(pods: Mapping[str, Pod] | None, name: str) -> Iterator[str]:
    """What is worth saying of a pod; nothing about one that runs as it should."""
    if pods is None or not name:
        return
    pod = pods.get(name)
    if pod is None:
        yield "pod is gone"
        return
    problem = pod_problem(pod)
    if pod.deleting:
        yield "pod is ending"
    elif problem is not None:
        yield problem.reason
    elif not pod.ready:
        yield "pod is not ready"
    if pod.container is not None and pod.container.restarts:
        yield f"restarted {pod.container.restarts} x"


def _concern(body: Body, condition: Mapping[str, Any], now: float, palette: Palette) -> Iterator[str]:
    """A condition that is not as it is when all is well."""
    kind, status = condition["type"], condition["status"]
    if kind not in _KNOWN or status == ConditionType(kind).wanted:
        return
    since = span(now - datetime.fromisoformat(condition["lastTransitionTime"]).timestamp())
    told = condition["message"] == status_of(body).get("message")
    text = "as said above" if told else condition["message"]
    mark = palette.busy if kind in {ConditionType.RECONCILING, ConditionType.ROLLED_OUT} else palette.bad
    yield f"{mark(kind)} is {status} for {since} ({condition['reason']}): {text}"


def _data_loss(body: Body, now: float) -> Iterator[str]:
    """That every copy of some slots is or was gone; what to do about it the condition says."""
    told = status_of(body).get("dataLoss")
    if told:
        ago = span(now - datetime.fromisoformat(told["since"]).timestamp())
        what = listed([f"{s['slots']} ({s['name']})" for s in told.get("shards") or ()])
        yield f"Data loss {told['incident']} found {ago} ago: slots {what}; {told['state']}"


def _last_failover(body: Body, now: float) -> Iterator[str]:
    """That a primary was lost and replaced, and what that meant."""
    told = status_of(body).get("lastFailover")
    if told:
        ago = span(now - datetime.fromisoformat(told["time"]).timestamp())
        lasted = told.get("writeUnavailableMilliseconds")
        gap = f", no writes for {lasted} ms" if lasted is not None else ""
        former = told.get("from") or "a lost primary"
        yield f"Last failover {ago} ago: {told['to']} took the place of {former} ({told['cause']}{gap})"


def _connection(body: Body) -> Iterator[str]:
    """Where clients connect, and the name of the Secret that they read; never what is in it."""
    endpoint = (status_of(body).get("endpoints") or {}).get("configuration")
    if endpoint:
        secret = names.connection_secret(body["metadata"]["name"])
        yield f"Connect: {endpoint['host']}:{endpoint['port']}, with the keys of Secret {secret}"
