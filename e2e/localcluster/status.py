"""Tells what of a local cluster runs and what does not."""

from collections.abc import Iterator
from dataclasses import dataclass

from e2e.localcluster import cgroups, network
from e2e.localcluster.api import Api
from e2e.localcluster.instance import FABRIC, Layout, LocalClusterError, Node
from e2e.localcluster.machine import Machine

EXPECTED_ON_NODE = ("init", "containerd", "kubelet", "kube-proxy", "netpol")
EXPECTED_ON_FABRIC = (
    "init",
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "metrics-server",
    "coredns",
    "provisioner",
    "forwarder",
)


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node as it is now."""

    node: Node
    powered: bool
    frozen: bool
    joined: bool
    ready: bool

    @property
    def summary(self) -> str:
        """In words: faults that were asked for, else whether Kubernetes finds it Ready."""
        if not self.powered:
            return "powered off"
        faults = [word for word, is_so in (("frozen", self.frozen), ("partitioned", not self.joined)) if is_so]
        return " and ".join(faults) or ("Ready" if self.ready else "NotReady")


def node_statuses(layout: Layout) -> list[NodeStatus]:
    """All nodes of a cluster that is up; raises LocalClusterError."""
    instance = layout.instance
    links, ready = network.links_up(instance), Api(instance.kubeconfig).ready_nodes()
    return [
        NodeStatus(
            node=node,
            powered=not Machine(instance, node.name).is_off,
            frozen=cgroups.is_frozen(instance.cgroup, node.name),
            joined=network.is_joined(node, links),
            ready=node.name in ready,
        )
        for node in layout.nodes
    ]


def problems(layout: Layout) -> list[str]:
    """What has died that should run, each with the end of its log. Faults that were asked for are not problems."""
    instance = layout.instance
    if (instance.netns(FABRIC)) not in network.namespaces_of(instance):
        return ["its network is gone (was the machine rebooted?)"]
    found = list(_missing(Machine(instance, FABRIC), EXPECTED_ON_FABRIC))
    for node in layout.nodes:
        machine = Machine(instance, node.name)
        if not machine.is_off:
            found += _missing(machine, EXPECTED_ON_NODE)
    if not found and not Api(instance.kubeconfig).is_ready():
        found.append(f"the API server does not answer at {instance.server}; its log is in {instance.logs}")
    return found


def report(layout: Layout) -> tuple[str, bool]:
    """A text for people, and whether all is well."""
    instance = layout.instance
    found = problems(layout)
    lines = [
        f"local cluster {instance.name}: {len(layout.nodes)} nodes in {len(layout.zones)} zones, {instance.server}",
        f"state: {instance.state}",
    ]
    try:
        lines += [f"  {s.node.name:<5}zone {s.node.zone}  {s.node.address}  {s.summary}" for s in node_statuses(layout)]
    except LocalClusterError as error:
        lines.append(f"  nodes unknown: {error}")
    return "\n".join([*lines, *(f"\nPROBLEM: {problem}" for problem in found)]), not found


def _missing(machine: Machine, expected: tuple[str, ...]) -> Iterator[str]:
    services = {service.name: service for service in machine.services}
    for name in expected:
        if name not in services:
            yield f"{name} on {machine.name} is not started"
        elif not services[name].main.alive:
            yield f"on {machine.name}, {services[name].ended}"
