"""What scenarios, the demo and benchmarks need of the Kubernetes under them. Only providers know how it is made."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from e2e.platform.traffic import Traffic


class PlatformError(Exception):
    """The Kubernetes cannot be used; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach the cluster and with which programs."""

    kubeconfig: Path
    context: str | None
    kubectl: tuple[str, ...]
    """Command line of a kubectl that reaches this cluster and no other."""
    helm: tuple[str, ...]
    """The same for Helm."""


class Faults(Protocol):
    """Things that go wrong below Kubernetes. Only platforms whose machines are ours have them."""

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """SIGKILL the container's main process, as the kernel's OOM killer does."""
        ...

    def aim(self, namespace: str, pod: str, container: str) -> Callable[[], None]:
        """Find that process now, to kill it when called: by then the API server may be away."""
        ...

    def processes(self, namespace: str, pod: str) -> Sequence[str]:
        """Command lines of all processes of a pod, as `ps` on its node shows them."""
        ...

    def api_server_away(self) -> AbstractContextManager[None]:
        """No API server answers within the block; workloads go on. At its end it is ready again."""
        ...

    def power_off(self, *nodes: str) -> None:
        """Cut the nodes' wires and kill all that runs on them."""
        ...

    def power_on(self, *nodes: str) -> None:
        """Boot them again."""
        ...

    def out_of_memory(self, namespace: str, pod: str, container: str) -> None:
        """Leave the container no memory beyond what it uses, and return when the kernel has killed its main process."""
        ...

    def stopped(self, namespace: str, pod: str, container: str) -> AbstractContextManager[None]:
        """The container's main process stands still within the block (SIGSTOP, SIGCONT). It may be killed meanwhile."""
        ...

    def frozen(self, *nodes: str) -> AbstractContextManager[None]:
        """Everything on the nodes stands still within the block; their kernels still answer."""
        ...

    def cut(self, *traffic: Traffic) -> AbstractContextManager[None]:
        """These packets are lost without a word within the block."""
        ...

    def slow(self, *nodes: str) -> AbstractContextManager[None]:
        """What the nodes send is late or lost within the block: by tc netem, or a narrow wire without that."""
        ...

    def small_disk(self, node: str, pod_uid: str) -> None:
        """Give a pod's volume a disk of 32 MiB to itself: for containers that start later, until the pod ends."""
        ...

    def full_disk(self, node: str, pod_uid: str) -> AbstractContextManager[None]:
        """That disk has no byte left within the block, and 1 GiB in all after it."""
        ...

    def next_address(self, node: str, address: str) -> None:
        """The next pod that starts on the node gets this address, which must be free."""
        ...


class Platform(Protocol):
    """A Kubernetes cluster with at least three zones, and a way to bring images to its nodes."""

    @property
    def name(self) -> str:
        """As on the command line."""
        ...

    @property
    def faults(self) -> Faults | None:
        """None where the machines are not ours to break."""
        ...

    def up(self) -> Access:
        """Create the cluster, or use it if it is up already; raises PlatformError."""
        ...

    def down(self) -> None:
        """Remove all that `up` made."""
        ...

    def load_engines(self, families: Sequence[str]) -> None:
        """Bring the engine images of these families to every node, where nodes do not pull them themselves."""
        ...

    def load_operator(self, tag: str) -> str:
        """Build the operator's image from the Dockerfile, bring it to every node; returns its reference."""
        ...

    def advice(self) -> str:
        """Shell lines with which a person goes on working with this cluster."""
        ...
