"""What all handlers of one run of the operator share."""

import asyncio
from dataclasses import dataclass, field

from cachecluster.kube.credentials import Credentials
from cachecluster.observability.metrics import Metrics
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.hosts import HostCache
from cachecluster.reconcile.loop import STEADY, Pace, Pass, TearDown
from cachecluster.reconcile.pass_ import run_pass
from cachecluster.reconcile.teardown import tear_down
from cachecluster.reconcile.wake import Wakes


@dataclass(frozen=True)
class Shared:
    """The operator's parts, put together by its entry point."""

    deps: Dependencies
    hosts: HostCache
    metrics: Metrics
    credentials: Credentials
    leaving: asyncio.Event
    """This process is about to end."""
    wakes: Wakes = field(default_factory=Wakes)
    one_pass: Pass = run_pass
    last_act: TearDown = tear_down
    pace: Pace = STEADY
