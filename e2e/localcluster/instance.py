"""Names, addresses, ports and paths of one local cluster. All are derived from the instance's name, so that several
can run side by side; nothing here touches the machine.
"""

import hashlib
import os
import re
import string
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

STATE_ROOT_VARIABLE: Final = "CACHECLUSTER_LOCAL_STATE"
DEFAULT_STATE_ROOT: Final = "/var/lib/cachecluster-local"
PREFIX: Final = "ccl"
FABRIC: Final = "fabric"

NAME_PATTERN: Final = re.compile(r"[a-z]([a-z0-9-]{0,18}[a-z0-9])?")
MAX_NODES: Final = 50
MAX_ZONES: Final = 10

# Below the range from which Linux picks ports for outgoing connections (32768 and up).
FIRST_PORT: Final = 20000
PORTS: Final = 10000
BLOCKS: Final = 20


class LocalClusterError(Exception):
    """The local cluster cannot do what was asked; the message says why and what helps."""


def state_root() -> Path:
    """Directory that holds every instance's state."""
    return Path(os.environ.get(STATE_ROOT_VARIABLE) or DEFAULT_STATE_ROOT)


@dataclass(frozen=True, slots=True)
class Node:
    """One machine of the cluster."""

    index: int
    name: str
    zone: str
    address: IPv4Address
    pods: IPv4Network


@dataclass(frozen=True)
class Instance:
    """A local cluster by its name: up to 20 lower-case letters, digits and dashes.

    Raises:
        LocalClusterError: the name is not usable.
    """

    name: str

    def __post_init__(self) -> None:
        if NAME_PATTERN.fullmatch(self.name) is None:
            raise LocalClusterError(
                f"{self.name!r} is not a name for a local cluster: use 1 to 20 lower-case letters, digits and dashes, "
                "a letter first"
            )

    @cached_property
    def _number(self) -> int:
        return int.from_bytes(hashlib.sha256(self.name.encode()).digest()[:8], "big")

    @property
    def state(self) -> Path:
        """Directory of all files that the instance makes."""
        return state_root() / self.name

    @property
    def lock(self) -> Path:
        """Held by whoever changes the instance."""
        return state_root() / f".{self.name}.lock"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.state / "logs"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig, for use on this machine."""
        return self.state / "kubeconfig"

    @property
    def volumes(self) -> Path:
        """Directories that are PersistentVolumes."""
        return self.state / "volumes"

    @property
    def machines(self) -> Path:
        """Holds a directory for each machine."""
        return self.state / "machines"

    def netns(self, machine: str) -> str:
        """Network namespace of a machine, as `ip netns` shows it."""
        return f"{PREFIX}-{self.name}-{machine}"

    @property
    def cgroup(self) -> str:
        """Cgroup below which every process of the instance runs, in each hierarchy."""
        return f"{PREFIX}-{self.name}"

    @property
    def port(self) -> int:
        """Port on 127.0.0.1 where this machine's user finds the API server."""
        return FIRST_PORT + self._number % PORTS

    @property
    def server(self) -> str:
        """URL of the API server for programs outside the fabric."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def _block(self) -> int:
        # Namespaces keep equal addresses of two instances apart; different ones are easier on who reads a dump.
        return self._number // PORTS % BLOCKS

    @property
    def machine_network(self) -> IPv4Network:
        """Addresses of the machines."""
        return IPv4Network(f"10.{100 + self._block}.0.0/24")

    @property
    def pod_network(self) -> IPv4Network:
        """Addresses of all Pods; each node has a /24 of it."""
        return IPv4Network(f"10.{130 + self._block}.0.0/16")

    @property
    def service_network(self) -> IPv4Network:
        """Addresses of Services."""
        return IPv4Network(f"10.{160 + self._block}.0.0/16")

    @property
    def control_plane(self) -> IPv4Address:
        """The fabric's own address: API server and DNS."""
        return self.machine_network[1]

    @property
    def dns_service(self) -> IPv4Address:
        """Cluster address of the kube-dns Service."""
        return self.service_network[10]

    @property
    def kubernetes_service(self) -> IPv4Address:
        """Cluster address of the kubernetes Service: always the first of the range."""
        return self.service_network[1]


@dataclass(frozen=True)
class Layout:
    """An instance with its size."""

    instance: Instance
    nodes: tuple[Node, ...]

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones that have nodes."""
        return tuple(sorted({node.zone for node in self.nodes}))

    def node(self, name: str) -> Node:
        """The node of that name; raises LocalClusterError."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise LocalClusterError(f"there is no node {name!r}; nodes: {', '.join(node.name for node in self.nodes)}")

    def nodes_of(self, zone: str) -> tuple[Node, ...]:
        """The nodes of a zone; raises LocalClusterError."""
        found = tuple(node for node in self.nodes if node.zone == zone)
        if not found:
            raise LocalClusterError(f"there is no zone {zone!r}; zones: {', '.join(self.zones)}")
        return found


def layout(instance: Instance, nodes: int, zones: int) -> Layout:
    """The layout of an instance with `nodes` nodes dealt out in turn over `zones` zones called a, b, c, ...

    Raises:
        LocalClusterError: too few, too many, or zones that would stay empty.
    """
    if not (1 <= nodes <= MAX_NODES and 1 <= zones <= MAX_ZONES):
        raise LocalClusterError(f"a local cluster has 1 to {MAX_NODES} nodes in 1 to {MAX_ZONES} zones")
    if zones > nodes:
        raise LocalClusterError(f"{nodes} nodes cannot fill {zones} zones: ask for at least one node for each zone")
    pods = list(instance.pod_network.subnets(new_prefix=24))
    return Layout(
        instance,
        tuple(
            Node(
                index=index,
                name=f"n{index}",
                zone=string.ascii_lowercase[index % zones],
                address=instance.machine_network[10 + index],
                pods=pods[index],
            )
            for index in range(nodes)
        ),
    )
