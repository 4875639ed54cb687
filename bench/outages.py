"""How soon writes go on after a machine or a zone loses its power, on Kubernetes, through the installed operator.

A fresh cluster for each outage, so that it does not matter who leads after the one before. The machines of the
operator's leader and of the client that measures stay on.
"""

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.failovers import SHARDS
from bench.statistics import Percentiles, percentiles
from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster, Member, small_spec, zones_of_machines
from e2e.diagnosis import OPERATOR_NAMESPACE
from e2e.install import Installation
from e2e.leadership import Leadership
from e2e.platform import Faults
from tests.engines.operated import key_of

GRACE_SECONDS: Final = 3600
"""Machines come back soon: no pod is to be given up meanwhile."""


@dataclass(frozen=True, slots=True)
class Outages:
    """Milliseconds until all slots of the primaries that were lost take writes again."""

    what: str
    shards: int
    count: int
    times: Percentiles


def measure(installation: Installation, namespace: str, machines: int) -> list[dict[str, Any]]:
    """So many machines, and a third as many zones; nothing where the platform's machines are not ours."""
    faults = installation.platform.faults
    if faults is None:
        return []
    rows = []
    for what, shards, count, victims in (
        ("a machine", SHARDS, machines, _machine),
        ("a machine", 2, machines // 3, _machine),
        ("a machine", 1, machines // 3, _machine),
        ("a zone", SHARDS, machines // 3, _zone),
    ):
        times = []
        for index in range(count):
            cluster = Cluster(installation.kube, namespace, f"dark-{what[2:]}-{shards}-{index}")
            times.append(_outage(installation, faults, cluster, shards, victims))
            print(f"{what} without power, shards {shards}: {times[-1]:.0f} ms", file=sys.stderr)
        rows.append(asdict(Outages(f"{what} without power", shards, count, percentiles(times))))
    return rows


Zones = Mapping[str, str]
"""By Kubernetes node."""
Victims = Callable[[list[Member], set[str], Zones], list[str]]


def _outage(installation: Installation, faults: Faults, cluster: Cluster, shards: int, victims: Victims) -> float:
    """Milliseconds until every shard takes writes that had its primary on one of the machines."""
    cluster.apply(small_spec(shards, 1, placement={"nodeLossGraceSeconds": GRACE_SECONDS}))
    cluster.until_whole()
    stays = {"kubernetes.io/hostname": _leading_node(installation, faults)}
    application = client.start(installation.kube, installation.image, cluster.namespace, cluster.name, stays)
    _lead_elsewhere(cluster, _needed(installation, faults, application))
    members = cluster.members()
    off = victims(members, _needed(installation, faults, application), zones_of_machines(installation.kube))
    lost = [m.shard for m in members if m.role == "primary" and m.node in off]
    heirs = {m.shard: m.ip for m in members if m.role == "replica" and m.shard in lost}
    with ThreadPoolExecutor(max_workers=len(lost)) as waiting:
        answers = [waiting.submit(application.accepts, heirs[s], key_of(s, shards)) for s in lost]
        began = time.monotonic()
        try:
            faults.power_off(*off)
            ended = max(answer.result() for answer in answers)
        finally:
            faults.power_on(*off)
    cluster.until_whole()
    cluster.delete()
    installation.kube.delete("Pod", cluster.namespace, application.pod, grace_seconds=0)
    return 1000 * (ended - began)


def _leading_node(installation: Installation, faults: Faults) -> str:
    leader = Leadership(installation.kube, faults).holder().partition("_")[0]
    return str(installation.kube.get("Pod", OPERATOR_NAMESPACE, leader)["spec"]["nodeName"])


def _needed(installation: Installation, faults: Faults, application: Client) -> set[str]:
    """Kubernetes nodes that stay on."""
    pod = installation.kube.get("Pod", application.namespace, application.pod)
    return {str(pod["spec"]["nodeName"]), _leading_node(installation, faults)}


def _lead_elsewhere(cluster: Cluster, needed: set[str]) -> None:
    """The only primary hands over if its machine has to stay on."""
    primaries = [m for m in cluster.members() if m.role == "primary"]
    if all(m.node in needed for m in primaries):
        cluster.hand_over(primaries[0].shard)


def _machine(members: list[Member], needed: set[str], _: Zones) -> list[str]:
    """One that a primary runs on."""
    return next([m.node] for m in members if m.role == "primary" and m.node not in needed)


def _zone(members: list[Member], needed: set[str], zones: Zones) -> list[str]:
    """All machines of a zone with a primary."""
    kept = {zones[node] for node in needed}
    dark = next(m.zone for m in members if m.role == "primary" and m.zone not in kept)
    return sorted(node for node, zone in zones.items() if zone == dark)
