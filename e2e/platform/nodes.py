"""Faults that a root shell on the node is enough for: the same on every platform whose nodes have one."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from e2e.platform.traffic import Traffic, change

DELAY: Final = "tc qdisc replace dev eth0 root netem delay 150ms 50ms loss 1%"
NARROW: Final = "tc qdisc replace dev eth0 root tbf rate 1mbit burst 4kb latency 2s"
"""Where the kernel has no netem: packets queue up, and the longer the more is said."""
DISK: Final = "32m"
LARGER_DISK: Final = "1g"
"""Logs grow to 64 MB before the engine rewrites them by itself."""
ALLOCATOR: Final = "last_reserved_ip.0"
"""Where the CNI plugin host-local notes what it has given last: it goes on from there."""


class NodeShell(ABC):
    """What can be broken with a shell on a node."""

    @abstractmethod
    def on_node(self, node: str, script: str) -> str:
        """Run a shell script as root in the node's own namespaces and return its output; raises PlatformError."""

    @abstractmethod
    def address_book(self, node: str) -> str:
        """Directory in which the node's CNI plugin keeps the addresses that it has given to pods."""

    @contextmanager
    def cut(self, *traffic: Traffic) -> Iterator[None]:
        """By iptables, in the kernels of the nodes that are named."""
        with ExitStack() as mending:
            for node in dict.fromkeys(item.node for item in traffic):
                own = [item for item in traffic if item.node == node]
                self.on_node(node, change("-A", own))
                mending.callback(self.on_node, node, change("-D", own))
            yield

    @contextmanager
    def slow(self, *nodes: str) -> Iterator[None]:
        """By tc, at the nodes' wires."""
        with ExitStack() as mending:
            for node in nodes:
                self.on_node(node, f"{DELAY} 2>/dev/null || {NARROW}")
                mending.callback(self.on_node, node, "tc qdisc del dev eth0 root")
            yield

    def small_disk(self, node: str, pod_uid: str) -> None:
        """A small file system with a copy of the content, mounted where the kubelet has mounted the volume."""
        self.on_node(
            node,
            f"set -e; {_volume(pod_uid)}; copy=$(mktemp -d); mount -t tmpfs -o size={DISK},mode=0777 disk $copy; "
            'cp -a "$volume/." $copy; mount --bind $copy "$volume"; umount $copy; rmdir $copy',
        )

    @contextmanager
    def full_disk(self, node: str, pod_uid: str) -> Iterator[None]:
        """A ballast beside the data. Afterwards the disk grows, as it would be made to."""
        ballast = f'{_volume(pod_uid)}; ballast="$volume/ballast"'
        self.on_node(node, f'{ballast}; ! dd if=/dev/zero of="$ballast" bs=4k 2>/dev/null')
        try:
            yield
        finally:
            self.on_node(node, f'{ballast}; rm "$ballast"; mount -o remount,size={LARGER_DISK} "$volume"')

    def next_address(self, node: str, address: str) -> None:
        """By what the CNI plugin notes, which may not end with a newline; the address has to be free."""
        start, _, last = address.rpartition(".")
        self.on_node(node, f"printf {start}.{int(last) - 1} > {self.address_book(node)}/{ALLOCATOR}")


def _volume(pod_uid: str) -> str:
    """Shell words that find a pod's only persistent volume on its node."""
    return f"volume=$(echo /var/lib/kubelet/pods/{pod_uid}/volumes/kubernetes.io~*/pvc-*)"
