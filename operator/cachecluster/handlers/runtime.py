"""Run Kopf until told to stop. Whatever ends it otherwise - no CRD yet, a broken watch - is waited out."""

import asyncio
import contextlib
import itertools
import logging
import random
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from typing import Any, Final, cast

import kopf

from cachecluster.api import names
from cachecluster.handlers.register import LABELLED, register
from cachecluster.handlers.state import Shared
from cachecluster.kube.api import KubeError, NotFound

HOSTS_RESYNC_SECONDS: Final = 600.0
_LONGEST_RETRY: Final = 30.0
_LASTING: Final = 60.0
"""Watches that have worked for so long do not count as failing again and again."""

log = logging.getLogger(__name__)


class _Retries:
    """Pauses between attempts of one request of Kopf, without end: an API server that is away comes back."""

    def __iter__(self) -> Iterator[float]:
        for seconds in itertools.chain((0.5, 1, 2, 4), itertools.repeat(5)):
            yield seconds * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, guards nothing


def settings() -> kopf.OperatorSettings:
    """Kopf as this operator needs it; design: Architecture."""
    found = kopf.OperatorSettings()
    found.persistence.finalizer = names.FINALIZER
    found.posting.enabled = False
    found.scanning.disabled = True
    found.background.cancellation_polling = 2.0
    found.background.instant_exit_timeout = 0.5
    found.execution.default_backoff = 5.0
    found.queueing.exit_timeout = 1.0
    found.process.ultimate_exiting_timeout = None
    found.watching.server_timeout = 300
    found.watching.client_timeout = 330
    found.watching.connect_timeout = 5.0
    found.watching.inactivity_timeout = 75.0
    found.watching.reconnect_backoff = 0.5
    found.watching.chunk_size = 500
    found.networking.request_timeout = 30.0
    found.networking.connect_timeout = 5.0
    found.networking.error_backoffs = _Retries()
    found.networking.trust_env = True
    for resource in LABELLED:
        found.watching.label_selectors[resource] = f"{names.LABEL_MANAGED_BY}={names.MANAGED_BY}"
    return found


async def serve(
    shared: Shared,
    namespaces: tuple[str, ...],
    *,
    on_ready: Callable[[bool], None],
    take_signals: Callable[[], None],
) -> None:
    """Look after all clusters in ``namespaces`` (none: in all) until ``shared.leaving`` is set.

    ``on_ready`` hears whether everything is listed and watched; ``take_signals`` is called each time that Kopf has
    put its own signal handlers into the place of ours.
    """
    resync = asyncio.create_task(_resync_hosts(shared), name="resync of nodes")
    failures = 0
    try:
        while await _listed(shared, namespaces):
            began = time.monotonic()
            try:
                await _run(shared, namespaces, on_ready, take_signals)
            except Exception:
                log.exception("the watches ended by an error; setting them up again")
                shared.metrics.watches_restarted()
            finally:
                on_ready(False)
            failures = 0 if time.monotonic() - began > _LASTING else failures + 1
            if await _left(shared, min(_LONGEST_RETRY, 2.0 ** min(failures, 10))):
                return
    finally:
        resync.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await resync


async def _run(
    shared: Shared, namespaces: tuple[str, ...], on_ready: Callable[[bool], None], take_signals: Callable[[], None]
) -> None:
    """What ``kopf.operator`` does, with our hand on the signals."""
    registry = kopf.OperatorRegistry()
    register(registry, shared)
    others = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=registry,
        settings=settings(),
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=shared.leaving,
        # Names a peer, of which there are none (standalone); Kopf's own guess fails for a uid without a user name.
        identity=cast("Any", names.MANAGED_BY),
    )
    take_signals()
    on_ready(True)
    try:
        await kopf.run_tasks(tasks, ignored=others)
    finally:
        await _end(others)


async def _end(others: AbstractSet[asyncio.Task[Any]]) -> None:
    """End what Kopf has left. When one watch fails it ends the tasks of the clusters first and the other watches five
    seconds later, which start such tasks anew meanwhile; with those of the next run each cluster would have two.
    """
    while left := asyncio.all_tasks() - others - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left)


async def _listed(shared: Shared, namespaces: tuple[str, ...]) -> bool:
    """Wait until Nodes and CacheClusters can be listed, Nodes being known before the first pass; False: leave."""
    said = ""
    for failures in itertools.count():
        try:
            shared.hosts.replace(await shared.deps.kube.list("v1", "Node", None))
            for namespace in namespaces or (None,):
                await shared.deps.kube.list(names.API_VERSION, names.KIND, namespace)
        except KubeError as error:
            hint = " (is the CustomResourceDefinition installed?)" if isinstance(error, NotFound) else ""
            if str(error) != said:
                log.warning("not ready, going on trying: %s%s", error, hint)
            said = str(error)
        else:
            return True
        if await _left(shared, min(_LONGEST_RETRY, 2.0 ** min(failures, 10))):
            return False
    return False


async def _left(shared: Shared, seconds: float) -> bool:
    """Wait; True at once when it is time to leave."""
    try:
        async with asyncio.timeout(seconds * random.uniform(0.75, 1.0)):  # noqa: S311 - spreads load
            await shared.leaving.wait()
    except TimeoutError:
        return False
    return True


async def _resync_hosts(shared: Shared) -> None:
    """Now and then list the Nodes: a watch that was interrupted does not tell which ones were deleted meanwhile."""
    while True:
        await asyncio.sleep(HOSTS_RESYNC_SECONDS * random.uniform(0.8, 1.0))  # noqa: S311 - spreads load
        try:
            nodes = await shared.deps.kube.list("v1", "Node", None)
        except KubeError as error:
            log.warning("could not list the nodes: %s", error)
        else:
            shared.wakes.wake_on(shared.hosts.replace(nodes))
