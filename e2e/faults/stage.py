"""A cluster that applications in every zone write to, and the machines under it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from e2e import client
from e2e.client import Client
from e2e.cluster import ZONE, Cluster, Member, small_spec
from e2e.diagnosis import OPERATOR_NAMESPACE, OPERATOR_SELECTOR
from e2e.install import Installation
from e2e.kube import Kube
from e2e.platform import Faults, Traffic
from e2e.recorder import Recorder

HOST: Final = "kubernetes.io/hostname"
FAILOVER_SECONDS: Final = 120.0
"""A machine of few shards that takes the leading operator along is replaced once Kubernetes calls it NotReady."""
WHOLE_SECONDS: Final = 120.0
WRITES_SECONDS: Final = 60.0
PROBES: Final = 40
"""Keys of one look whether writes go on: some in every shard."""
SCRATCH: Final = "128Mi"
"""What a pod may write to its node's disk beside its volume: the kubelet evicts it for more."""


class Reach(StrEnum):
    """How much a fault strikes at once."""

    PROCESS = "process"
    MACHINE = "machine"
    ZONE = "zone"


@dataclass(frozen=True, slots=True)
class Stage:
    """Where faults are played. Leaves the cluster whole after each."""

    kube: Kube
    faults: Faults
    cart: Cluster
    shopper: Client
    recorder: Recorder
    stands: frozenset[str]
    """The machines from which applications look on, one in every zone: these are not switched off."""

    # Who is hit

    def victim(self, reach: Reach) -> Member:
        """A primary that a fault of this reach may hit; where there is none, a shard hands over first."""
        primaries = self.primaries()
        for primary in primaries:
            if self._may_be_hit(primary, reach, primaries):
                return primary
        for replica in (m for m in self.cart.members() if m.role == "replica"):
            others = [m for m in primaries if m.shard != replica.shard]
            if self._may_be_hit(replica, reach, [*others, replica]):
                return self.hand_over(replica)
        raise AssertionError(f"nobody can be hit by a fault of a {reach}: {self.cart.members()}")

    def primaries(self) -> Sequence[Member]:
        """Those that have restarted least first: kubelets let a container wait longer and longer that ends often."""
        found = [m for m in self.cart.members() if m.role == "primary"]
        return sorted(found, key=lambda m: (m.restarts, m.name))

    def _may_be_hit(self, member: Member, reach: Reach, primaries: Sequence[Member]) -> bool:
        """Applications go on beside a machine, most shards beside that or a zone, and we can see all this."""
        match reach:
            case Reach.PROCESS:
                return True
            case Reach.MACHINE:
                inside = sum(m.node == member.node for m in primaries)
                return member.node not in self.stands and _is_survived(inside, len(primaries))
            case Reach.ZONE:
                inside = sum(m.zone == member.zone for m in primaries)
                return member.zone != self.zone_of(self.shopper.node) and _is_survived(inside, len(primaries))

    def slots_within(self, victim: Member, reach: Reach) -> set[str]:
        """Slots of the shards that are led from where the fault strikes, as the recorder names them: `0-5460`."""
        hit = {
            Reach.PROCESS: {victim.shard},
            Reach.MACHINE: {m.shard for m in self.primaries() if m.node == victim.node},
            Reach.ZONE: {m.shard for m in self.primaries() if m.zone == victim.zone},
        }[reach]
        shards = self.cart.read()["status"]["shards"]
        return {str(shards[shard]["slots"]) for shard in hit}

    def hand_over(self, successor: Member) -> Member:
        """Let a replica lead its shard, as `kubectl cache failover` does; returns it as the primary."""
        self.cart.hand_over(successor.shard)
        self.until_whole()
        return self.cart.primary_of(successor.shard)

    # What there is

    def operator_pods(self) -> Sequence[str]:
        """Names; they are in OPERATOR_NAMESPACE."""
        found = self.kube.list("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
        return [str(pod["metadata"]["name"]) for pod in found]

    def zone_of(self, machine: str) -> str:
        """Of a Kubernetes node."""
        return str(self.kube.get("Node", "", machine)["metadata"]["labels"][ZONE])

    # Where traffic leads

    def peers(self, of: Member) -> Traffic:
        """Between a node of the cluster and all others."""
        return Traffic(of.node, tuple(m.ip for m in self.cart.members() if m.name != of.name), here=of.ip)

    def bus(self, of: Member) -> Traffic:
        """Between the cluster bus of a node of the cluster and that of all others."""
        [container] = self.kube.get("Pod", self.cart.namespace, of.name)["spec"]["containers"]
        [port] = [int(p["containerPort"]) for p in container["ports"] if p["name"] == "bus"]
        return replace(self.peers(of), port=port)

    def operator(self, of: Member) -> Traffic:
        """Between a node of the cluster and the operator's pods."""
        pods = self.kube.list("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)
        return Traffic(of.node, tuple(ip for pod in pods if (ip := pod["status"].get("podIP"))), here=of.ip)

    def api_server(self, node: str) -> Traffic:
        """Between a machine, with all of its pods, and the API server."""
        return Traffic(node, self._api_server())

    def rest_of_the_world(self, zone: str) -> Sequence[Traffic]:
        """Between a zone's machines and everything elsewhere."""
        machines = {n["metadata"]["name"]: n for n in self.kube.list("Node")}
        inside = {name for name, node in machines.items() if node["metadata"]["labels"].get(ZONE) == zone}
        outside = [
            address["address"]
            for name, node in machines.items()
            if name not in inside
            for address in node["status"]["addresses"]
            if address["type"] == "InternalIP"
        ]
        pods = (p for p in self.kube.list("Pod") if p["spec"].get("nodeName") not in inside)
        outside += [ip for pod in pods if (ip := pod["status"].get("podIP"))]
        away = tuple(dict.fromkeys([*outside, *self._api_server()]))
        return [Traffic(node, away) for node in sorted(inside)]

    def _api_server(self) -> tuple[str, ...]:
        ends = self.kube.get("EndpointSlice", "default", "kubernetes")["endpoints"]
        return tuple(address for end in ends for address in end["addresses"])

    # What is awaited

    def until_led_by_another(self, former: Member, within: float = FAILOVER_SECONDS) -> None:
        """Wait until the operator calls another pod the shard's primary."""
        self.cart.until(
            f"shard {former.shard} is led by another than {former.name}",
            lambda: self.cart.primary_of(former.shard).name != former.name,
            within,
        )

    def until_whole(self) -> None:
        """Wait until the cluster has all its copies."""
        self.cart.until_whole(WHOLE_SECONDS)

    def until_writes_go_on(self) -> None:
        """Wait until an application writes to every shard."""
        self.cart.until("writes go on", self._writes, WRITES_SECONDS)

    def _writes(self) -> bool:
        self.shopper.write(PROBES, "probe")  # raises AssertionError
        return True

    def hold(self, seconds: float) -> None:
        """Let a fault last: how long it does is the stimulus, not something to wait for."""
        time.sleep(seconds)


@contextmanager
def set_up(
    installation: Installation, faults: Faults, namespace: str, shards: int, *, volumes: bool
) -> Iterator[Stage]:
    """A cluster of so many shards with a replica each, and applications that write to it within the block."""
    kube = installation.kube
    kube.apply(_scratch(namespace))
    cart = Cluster(kube, namespace, "cart")
    storage = {"persistence": {"mode": "AppendOnly", "size": "256Mi"}} if volumes else {}
    patience = {"nodeLossGraceSeconds": 3600}  # machines come back here
    cart.apply(small_spec(shards, 1, placement=patience, deletionPolicy="Delete", **storage))
    cart.until_whole()
    stands = _stands(kube, cart)
    shopper = client.start(kube, installation.image, namespace, cart.name, {HOST: stands[0]})
    recorder = Recorder(kube, namespace, cart.name, installation.image)
    with recorder.writing(stands):
        yield Stage(kube, faults, cart, shopper, recorder, frozenset(stands))


def _stands(kube: Kube, cart: Cluster) -> Sequence[str]:
    """The machine of every zone that runs the fewest of the cluster's nodes."""
    members = cart.members()
    zones: dict[str, list[str]] = {}
    for node in kube.list("Node"):
        zones.setdefault(node["metadata"]["labels"][ZONE], []).append(node["metadata"]["name"])
    load: Callable[[str], tuple[int, str]] = lambda node: (sum(m.node == node for m in members), node)  # noqa: E731
    return [min(nodes, key=load) for _, nodes in sorted(zones.items())]


def _scratch(namespace: str) -> dict[str, object]:
    limit = {
        "type": "Container",
        "default": {"ephemeral-storage": SCRATCH},
        "defaultRequest": {"ephemeral-storage": "0"},
    }
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": {"name": "scratch", "namespace": namespace},
        "spec": {"limits": [limit]},
    }


def _is_survived(lost: int, primaries: int) -> bool:
    """The others elect a successor, or there are so few that a fence stands for votes."""
    return lost == 1 or 2 * lost < primaries
