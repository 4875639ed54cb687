"""``cachecluster-operator``: the process in the operator's pod."""

import argparse
import asyncio
import contextlib
import faulthandler
import functools
import logging
import os
import resource
import secrets
import signal
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Final, cast

from cachecluster.api import names
from cachecluster.engines.valkey import ValkeyConnector
from cachecluster.handlers.runtime import serve as serve_clusters
from cachecluster.handlers.state import Shared
from cachecluster.kube.api import KubeError
from cachecluster.kube.client import KubeClient
from cachecluster.kube.credentials import Credentials
from cachecluster.kube.events import KubeEventRecorder
from cachecluster.kube.lease import Lease, boot_time, identity_of_pod
from cachecluster.observability import logging as logs
from cachecluster.observability.metrics import CONTENT_TYPE, Metrics
from cachecluster.observability.server import Page, check, serve
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.hosts import HostCache

SILENCE_SECONDS: Final = 30.0
"""Without an answer from the API server for so long, the process is not ready."""
PULSE_SECONDS: Final = 10.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Options:
    """The command line and the environment, checked."""

    namespaces: tuple[str, ...]
    leader_elect: bool
    log_format: logs.Format
    log_level: str
    health_port: int
    metrics_port: int
    credentials: Credentials
    operator_namespace: str
    pod_name: str | None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parse(arguments)
    logs.configure(options.log_format, options.log_level)
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    _allow_open_files()
    log.info("cachecluster-operator %s", version("cachecluster-operator"))
    try:
        asyncio.run(run(options))
    except OSError as error:
        log.critical("cannot start: %s", error)
        return 1
    return 0


def _allow_open_files() -> None:
    """As many as the machine lets us have: there is a connection to every node of every cluster."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def parse(arguments: Sequence[str] | None) -> Options:
    """Read the command line; ends the process with a message if it is wrong."""
    parser = argparse.ArgumentParser(prog="cachecluster-operator", description="Runs cache clusters on Kubernetes.")
    parser.add_argument("--version", action="version", version=version("cachecluster-operator"))
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("run", help="look after all CacheClusters until stopped")
    command.add_argument("--namespace", action="append", default=[], help="only this one; repeatable (default: all)")
    command.add_argument(
        "--leader-elect", action=argparse.BooleanOptionalAction, default=True, help="one of several replicas acts"
    )
    command.add_argument("--log-format", choices=("json", "text"), default="json")
    command.add_argument("--log-level", choices=("debug", "info", "warning", "error"), default="info")
    command.add_argument("--health-port", type=int, default=8080, help="/healthz and /readyz (default: 8080)")
    command.add_argument("--metrics-port", type=int, default=9090, help="/metrics (default: 9090)")
    command.add_argument("--kubeconfig", help="default: the pod's service account, else $KUBECONFIG or ~/.kube/config")
    command.add_argument("--context", help="context of the kubeconfig (default: its current one)")
    found = parser.parse_args(arguments)
    namespace = os.environ.get("POD_NAMESPACE")
    if not namespace:
        parser.error("the environment variable POD_NAMESPACE must name the operator's own namespace")
    return Options(
        namespaces=tuple(dict.fromkeys(found.namespace)),
        leader_elect=found.leader_elect,
        log_format=cast("logs.Format", found.log_format),
        log_level=found.log_level.upper(),
        health_port=found.health_port,
        metrics_port=found.metrics_port,
        credentials=Credentials(found.kubeconfig, found.context),
        operator_namespace=namespace,
        pod_name=os.environ.get("POD_NAME"),
    )


class Health:
    """What the probes answer."""

    def __init__(self) -> None:
        """Not ready; the API server's silence counts from now."""
        self.serving = False
        self.standby = False
        self._answered = time.monotonic()

    def heard(self, _verb: str, _kind: str, outcome: str, _seconds: float) -> None:
        """A request ended; any answer at all is a sign of life."""
        if outcome != "Unavailable":
            self._answered = time.monotonic()

    def alive(self) -> Page:
        """The event loop runs, or this would not be answered."""
        return check(True, "ok")

    def ready(self) -> Page:
        """Looking after clusters, or waiting to take over; and the API server answers."""
        if time.monotonic() > self._answered + SILENCE_SECONDS:
            return check(False, f"the API server has not answered for {SILENCE_SECONDS:.0f} s")
        if self.standby:
            return check(True, "ok: another process leads")
        return check(self.serving, "ok: leading" if self.serving else "starting")


async def run(options: Options) -> None:
    """Wait for leadership, look after clusters, and hand over when told to stop."""
    leaving = asyncio.Event()
    install_signals = functools.partial(_install_signals, leaving)
    install_signals()
    metrics, health = Metrics(), Health()

    def observe(verb: str, kind: str, outcome: str, seconds: float) -> None:
        health.heard(verb, kind, outcome, seconds)
        metrics.requested(verb, kind, outcome, seconds)

    async with contextlib.AsyncExitStack() as stack:
        pages = {"/healthz": health.alive, "/readyz": health.ready}
        await stack.enter_async_context(serve(options.health_port, pages))
        metrics_pages = {"/metrics": lambda: Page(200, metrics.render(), CONTENT_TYPE)}
        await stack.enter_async_context(serve(options.metrics_port, metrics_pages))
        kube = await stack.enter_async_context(KubeClient(options.credentials, observe=observe))
        # Its own connections and a time-out below the renew deadline: no queue of the passes may cost the leadership.
        lease_kube = KubeClient(options.credentials, timeout=4.0, concurrency=2, observe=observe)
        await stack.enter_async_context(lease_kube)
        lease = Lease(
            lease_kube,
            namespace=options.operator_namespace,
            name=names.FIELD_MANAGER,
            identity=identity_of_pod(options.pod_name),
        )
        await stack.enter_async_context(_leadership(lease, lease_kube, options, health, leaving))
        if leaving.is_set():
            return
        metrics.leading(True)
        hosts, connector = HostCache(clock=boot_time), ValkeyConnector()
        deps = Dependencies(
            kube=kube,
            nodes=connector,
            watcher=connector,
            hosts=hosts.hosts,
            now=time.time,
            generate_password=lambda: secrets.token_hex(24),
            operator_namespace=options.operator_namespace,
            events=KubeEventRecorder(kube, instance=options.pod_name or names.FIELD_MANAGER, now=time.time),
            leader=lease.held if options.leader_elect else lambda: True,
            clock=boot_time,
        )
        shared = Shared(deps, hosts, metrics, options.credentials, leaving)
        await serve_clusters(
            shared,
            options.namespaces,
            on_ready=lambda ready: setattr(health, "serving", ready),
            take_signals=install_signals,
        )


@contextlib.asynccontextmanager
async def _leadership(
    lease: Lease, kube: KubeClient, options: Options, health: Health, leaving: asyncio.Event
) -> AsyncIterator[None]:
    """Lead inside; give the lease back at the end. Entered without leadership if told to stop while waiting."""
    if options.leader_elect:
        health.standby = True
        await _unless(leaving, lease.acquire())
        health.standby = False
        background = asyncio.create_task(lease.keep(), name="lease")
    else:
        background = asyncio.create_task(_pulse(kube, options.operator_namespace), name="pulse")

    def leave(ended: asyncio.Task[None]) -> None:
        if not ended.cancelled():
            leaving.set()  # nothing goes on without it

    background.add_done_callback(leave)
    try:
        yield
    finally:
        background.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await background
        if options.leader_elect:
            await lease.release()


async def _unless(leaving: asyncio.Event, waiting: Coroutine[None, None, None]) -> None:
    """Await ``waiting``, but no longer than until it is time to leave."""
    task = asyncio.ensure_future(waiting)
    leave = asyncio.ensure_future(leaving.wait())
    await asyncio.wait([task, leave], return_when=asyncio.FIRST_COMPLETED)
    leave.cancel()
    if task.done():
        task.result()
        return
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def _pulse(kube: KubeClient, namespace: str) -> None:
    """Without a lease to renew, ask the API server something now and then: readiness lives on its answers."""
    while True:
        with contextlib.suppress(KubeError):
            await kube.get("coordination.k8s.io/v1", "Lease", namespace, names.FIELD_MANAGER)
        await asyncio.sleep(PULSE_SECONDS)


def _install_signals(leaving: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, leaving.set)
