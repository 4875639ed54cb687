"""Kopf's decorators, and nothing behind them: events wake clusters, and each cluster has one task.

No ``on.create/update/delete/field/resume``: they keep state in annotations and fire on edges.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import kopf

from cachecluster.api import names
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.handlers.news import ClusterNews, cluster_of, deleting, orphaned_system_secret, ref_of
from cachecluster.handlers.state import Shared
from cachecluster.kube.api import NotFound
from cachecluster.observability.logging import about
from cachecluster.reconcile import loop
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.wake import ClusterKey

CHILDREN: Final = (
    ("apps/v1", "statefulsets"),
    ("v1", "services"),
    ("v1", "configmaps"),
    ("policy/v1", "poddisruptionbudgets"),
    ("networking.k8s.io/v1", "networkpolicies"),
)
"""Kinds of which any news wake their cluster. Pods and Secrets tell more, and have handlers of their own."""
LABELLED: Final = (*CHILDREN, ("v1", "pods"), ("v1", "secrets"))
"""Kinds that are watched by our label alone."""


def register(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    """Add all handlers."""
    _credentials(registry, shared)
    _clusters(registry, shared)
    _children(registry, shared)
    _pods(registry, shared)
    _secrets(registry, shared)
    _nodes(registry, shared)


def _credentials(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    @kopf.on.login(id="credentials", backoff=5.0, registry=registry)
    async def credentials(**_: Any) -> kopf.ConnectionInfo:
        found = await shared.credentials.endpoint()
        return kopf.ConnectionInfo(
            server=found.server,
            ca_path=found.ca_path,
            insecure=found.insecure,
            token=found.token,
            certificate_path=found.certificate_path,
            private_key_path=found.private_key_path,
            proxy_url=found.proxy_url,
            trust_env=True,
        )


def _clusters(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    ends: dict[str, asyncio.Future[Any]] = {}
    news = ClusterNews()

    async def finish(ref: ClusterRef) -> None:
        """Returns once it has worked: Kopf lets the object go then."""
        if not await loop.finish(ref, shared.deps, leaving=shared.leaving, last_act=shared.last_act):
            await _until_cancelled()

    @kopf.on.event(names.API_VERSION, names.PLURAL, id="cluster-changed", registry=registry)
    async def cluster_changed(event: kopf.RawEvent, **_: Any) -> None:
        if shared.leaving.is_set():
            await _until_cancelled()  # Kopf would start the task of a cluster anew that it has just ended
        body: Mapping[str, Any] = event["object"]
        ref = ref_of(body)
        if event["type"] == "DELETED":
            news.forget(ref)
            shared.metrics.cluster_gone(ref.uid)
            if ref.uid in ends:  # Kopf ends the task of an object that had a finalizer, and only of such.
                ends[ref.uid].cancel()
            return
        shared.metrics.cluster(ref.uid, news.conditions(body))
        if deleting(body) and ref.uid not in ends:
            # Deleted while no operator ran: Kopf starts no task then, and lets the object go after this handler.
            await finish(ref)
            return
        changed, new_spec = news.observe(ref, body)
        key = ClusterKey(ref.namespace, ref.name)
        if changed:
            shared.wakes.wake(key, new_spec=new_spec)
        else:
            shared.wakes.status_changed(key, body.get("status") or {})

    @kopf.daemon(names.API_VERSION, names.PLURAL, id="cluster", cancellation_backoff=2.0, registry=registry)
    async def cluster(body: kopf.Body, stopped: kopf.DaemonStopped, **_: Any) -> None:
        ref = ref_of(body)
        stop = ends[ref.uid] = asyncio.ensure_future(stopped.wait())
        wake = shared.wakes.register(ref)
        try:
            with about(str(ref)):
                await loop.run(
                    ref,
                    shared.deps,
                    wake,
                    stop,
                    metrics=shared.metrics,
                    one_pass=shared.one_pass,
                    pace=shared.pace,
                )
                if stop.cancelled() or kopf.DaemonStoppingReason.RESOURCE_DELETED in (stopped.reason or _NO_REASON):
                    await finish(ref)
        finally:
            stop.cancel()
            shared.wakes.unregister(ref)
            ends.pop(ref.uid, None)


_NO_REASON: Final = kopf.DaemonStoppingReason(0)


async def _until_cancelled() -> None:
    """For the end of this process, when Kopf must not go on to what it does after a handler or a task."""
    await asyncio.Event().wait()


def _children(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    for api_version, plural in CHILDREN:

        @kopf.on.event(api_version, plural, id=f"{plural}-changed", registry=registry)
        async def child_changed(event: kopf.RawEvent, **_: Any) -> None:
            key = cluster_of(event["object"])
            if key is not None:
                shared.wakes.wake(key)


def _pods(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    @kopf.on.event("v1", "pods", id="pods-changed", registry=registry)
    async def pod_changed(event: kopf.RawEvent, **_: Any) -> None:
        body: Mapping[str, Any] = event["object"]
        key = cluster_of(body)
        if key is None:
            return
        name = body["metadata"]["name"]
        if event["type"] == "DELETED":
            shared.wakes.pod_gone(key.namespace, name)
        else:
            shared.wakes.pod_seen(key, name, body.get("spec", {}).get("nodeName"))
        shared.wakes.wake(key)


def _secrets(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    @kopf.on.event("v1", "secrets", id="secrets-changed", registry=registry)
    async def secret_changed(event: kopf.RawEvent, **_: Any) -> None:
        key = cluster_of(event["object"])
        if key is None:
            return
        shared.wakes.wake(key)
        ref = orphaned_system_secret(event["object"])
        if event["type"] != "DELETED" and ref is not None:
            await loop.finish(ref, shared.deps, leaving=shared.leaving, last_act=release_if_orphaned)

    async def release_if_orphaned(ref: ClusterRef, deps: Dependencies) -> None:
        """For a cluster that went away while no operator ran: nobody else would let its Secret go."""
        try:
            owner = await deps.kube.get(names.API_VERSION, names.KIND, ref.namespace, ref.name)
        except NotFound:
            owner = {}
        if owner.get("metadata", {}).get("uid") != ref.uid:
            await shared.last_act(ref, deps)


def _nodes(registry: kopf.OperatorRegistry, shared: Shared) -> None:
    @kopf.on.event("v1", "nodes", id="nodes-changed", registry=registry)
    async def node_changed(event: kopf.RawEvent, **_: Any) -> None:
        node: Mapping[str, Any] = event["object"]
        name = node["metadata"]["name"]
        gone = event["type"] == "DELETED"
        if shared.hosts.forget(name) if gone else shared.hosts.observe(node):
            shared.wakes.wake_on([name])
