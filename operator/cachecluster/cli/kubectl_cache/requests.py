"""``failover`` and ``restart``: write a request onto the CacheCluster, which the operator carries out."""

from collections.abc import Mapping
from typing import Any, Final

from cachecluster.api import names
from cachecluster.cli.kubectl_cache.body import annotations_of, headline_of, status_of
from cachecluster.cli.kubectl_cache.session import LOOK_SECONDS, Problem, Session
from cachecluster.domain.requests import failover_request, open_failover
from cachecluster.kube.api import Conflict, Throttled, Unavailable

_ATTEMPTS: Final = 5
"""To write onto a resource that the operator writes to as well."""


async def failover(session: Session, name: str, shard: str, seconds: float) -> int:
    """Ask the primary of ``shard`` to hand over, and wait for ``seconds`` at most; then the request is taken back."""
    body = await session.cluster(name)
    shard_name, source = _primary(body, shard)
    request = failover_request(source, session.stamp())
    began = session.now()
    await session.annotate(body, names.ANNOTATION_FAILOVER, request)
    while not _confirmed(body, request) and session.now() - began < seconds:
        await session.sleep(LOOK_SECONDS)
        try:
            body = await session.cluster(name)
        except (Unavailable, Throttled) as error:
            session.screen.progress(f"waiting for the API server: {error}")
            continue
        session.screen.progress(f"{shard_name}: waiting for {source} to hand over. {headline_of(body)}")
    if not _confirmed(body, request):
        body = await _withdraw(session, name, request)
    if not _confirmed(body, request):
        late = f"{source} has not handed over within {seconds:.0f} s, and the request is taken back"
        raise Problem(f"{late}. {headline_of(body)}")
    return _done(session, body, shard_name, source, request)


def _confirmed(body: Mapping[str, Any], request: str) -> bool:
    """The operator has carried it out."""
    return bool(status_of(body).get("lastHandledFailover") == request)


def _primary(body: Mapping[str, Any], shard: str) -> tuple[str, str]:
    """Name of the shard, and the pod that leads it; raises Problem if no failover is possible."""
    cluster, known = body["metadata"]["name"], {s["name"]: s for s in status_of(body).get("shards") or ()}
    if body["spec"].get("paused") is True:
        raise Problem(f"{cluster} is paused, so the operator does nothing: set spec.paused to false first")
    wanted = names.shard_name(cluster, int(shard)) if shard.isdecimal() else shard
    found = known.get(wanted)
    if found is None:
        choice = f"its shards are {', '.join(known)}" if known else "the operator has not reported any yet"
        raise Problem(f"{cluster} has no shard {shard}: {choice}")
    if not found.get("primary"):
        raise Problem(f"{wanted} has no primary that could hand over. {headline_of(body)}")
    if not found.get("replicas"):
        raise Problem(f"{wanted} has no replica that could take over: a failover takes spec.topology.replicasPerShard")
    return wanted, str(found["primary"]["pod"])


async def _withdraw(session: Session, name: str, request: str) -> dict[str, Any]:
    """Take the request back, unless it is carried out or replaced by now; returns the cluster as it was then."""
    for _ in range(_ATTEMPTS):
        body = await session.cluster(name)
        if open_failover(annotations_of(body), status_of(body)) != request:
            return body
        try:
            await session.annotate(body, names.ANNOTATION_FAILOVER, None, body["metadata"]["resourceVersion"])
        except Conflict:
            continue
        return body
    raise Problem(
        f"the failover has not come to pass, and the request could not be taken back: "
        f"kubectl annotate -n {session.namespace} cc {name} {names.ANNOTATION_FAILOVER}-"
    )


def _done(session: Session, body: Mapping[str, Any], shard: str, source: str, request: str) -> int:
    leader = next((s.get("primary") for s in status_of(body)["shards"] if s["name"] == shard), None)
    successor = leader["pod"] if leader else None
    document = {
        "namespace": session.namespace,
        "name": body["metadata"]["name"],
        "shard": shard,
        "request": request,
        "from": source,
        "to": successor,
    }
    session.screen.answer(document, [f"{shard}: {successor or 'another pod'} leads, {source} has handed over"])
    return 0


async def restart(session: Session, name: str) -> int:
    """Ask for every pod to be replaced, one at a time; does not wait."""
    body = await session.cluster(name)
    moment = session.stamp()
    await session.annotate(body, names.ANNOTATION_RESTARTED, moment)
    document = {"namespace": session.namespace, "name": name, "restartedAt": moment}
    lines = [
        f"{name}: every pod will be replaced, one at a time, primaries after handing over",
        f"Follow it with: kubectl cache watch -n {session.namespace} {name}",
    ]
    if body["spec"].get("paused") is True:
        lines.append("spec.paused is true: nothing happens until it is false")
    session.screen.answer(document, lines)
    return 0
