"""The wires: one network namespace for the control plane (the fabric), one for each node, a bridge for each zone.

    n0 --- bridge of zone a --+
    n3 ---/                   +-- br0 of the fabric, with the control plane's address
    n1 --- bridge of zone b --+

Nothing leads out of the fabric. A node is cut off at its own wire, a zone at the wire between its bridge and br0: its
nodes go on seeing each other.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from e2e.localcluster.commands import attempt, run
from e2e.localcluster.instance import FABRIC, PREFIX, Instance, Layout, Node

CORE: Final = "br0"
NETNS_DIRECTORY: Final = Path("/run/netns")


def in_netns(netns: str, *argv: str) -> list[str]:
    """Command line that runs a program in a network namespace.

    `ip netns exec` would mount /sys anew and hide the cgroups.
    """
    return ["nsenter", f"--net={NETNS_DIRECTORY / netns}", "--", *argv]


def create_fabric(layout: Layout) -> None:
    """The control plane's namespace with all bridges."""
    instance = layout.instance
    fabric = _make_netns(instance, FABRIC)
    # The zones' bridges must not answer for the control plane: they would, with the hardware address of one of their
    # wires, and nodes that have learned it lose the control plane when that wire's node loses its power.
    run(*in_netns(fabric, "sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=1"))
    lines = [
        f"link add {CORE} type bridge",
        f"addr add {instance.control_plane}/{instance.machine_network.prefixlen} dev {CORE}",
        f"link set {CORE} up",
    ]
    for zone in layout.zones:
        lines += [
            f"link add {_bridge(zone)} type bridge",
            f"link add {_uplink(zone)} type veth peer name {_downlink(zone)}",
            f"link set {_uplink(zone)} master {CORE} up",
            f"link set {_downlink(zone)} master {_bridge(zone)} up",
            f"link set {_bridge(zone)} up",
        ]
    lines += [f"route add {node.pods} via {node.address}" for node in layout.nodes]
    _batch(fabric, lines)


def plug_in(layout: Layout, node: Node) -> None:
    """A node's namespace and wire."""
    instance = layout.instance
    fabric, netns = instance.netns(FABRIC), _make_netns(instance, node.name)
    run("ip", "-n", fabric, "link", "add", _wire(node), "type", "veth", "peer", "name", "eth0", "netns", netns)
    _batch(
        netns,
        [
            f"addr add {node.address}/{instance.machine_network.prefixlen} dev eth0",
            "link set eth0 up",
            f"route add default via {instance.control_plane}",
            *(f"route add {other.pods} via {other.address}" for other in layout.nodes if other != node),
        ],
    )
    _batch(fabric, [f"link set {_wire(node)} master {_bridge(node.zone)} up"])


def unplug(instance: Instance, node: Node) -> None:
    """Remove a node's namespace and wire; the wires of its Pods go with it."""
    attempt(("ip", "-n", instance.netns(FABRIC), "link", "del", _wire(node)))
    remove_netns(instance.netns(node.name))


def cut_node(instance: Instance, node: Node) -> None:
    """No packet to or from a node any more."""
    _batch(instance.netns(FABRIC), [f"link set {_wire(node)} down"])


def join_node(instance: Instance, node: Node) -> None:
    """Undo `cut_node`."""
    _batch(instance.netns(FABRIC), [f"link set {_wire(node)} up"])


def cut_zone(instance: Instance, zone: str) -> None:
    """No packet between a zone and the rest, the control plane included."""
    _batch(instance.netns(FABRIC), [f"link set {_uplink(zone)} down"])


def join_zone(instance: Instance, zone: str) -> None:
    """Undo `cut_zone`."""
    _batch(instance.netns(FABRIC), [f"link set {_uplink(zone)} up"])


def links_up(instance: Instance) -> set[str]:
    """Names of all of the fabric's links that are switched on."""
    text = run("ip", "-n", instance.netns(FABRIC), "-json", "link", "show")
    return {str(link["ifname"]) for link in json.loads(text) if "UP" in link["flags"]}


def is_joined(node: Node, links: set[str]) -> bool:
    """Whether a node's wire and its zone's are both on."""
    return _wire(node) in links and _uplink(node.zone) in links


def route_services(layout: Layout) -> None:
    """Programs in the fabric reach Services through the first node that has a wire: kube-proxy runs on nodes only."""
    instance, links = layout.instance, links_up(layout.instance)
    for node in layout.nodes:
        if is_joined(node, links):
            _batch(instance.netns(FABRIC), [f"route replace {instance.service_network} via {node.address}"])
            return


def namespaces_of(instance: Instance) -> list[str]:
    """The instance's namespaces that exist."""
    start = f"{PREFIX}-{instance.name}-"
    if not NETNS_DIRECTORY.is_dir():
        return []
    return sorted(
        path.name
        for path in NETNS_DIRECTORY.iterdir()
        # The name of another instance may begin with ours and a dash; names of machines have none.
        if path.name.startswith(start) and "-" not in path.name.removeprefix(start)
    )


def remove_netns(netns: str) -> None:
    """Remove a namespace if it is there."""
    if (NETNS_DIRECTORY / netns).exists():
        run("ip", "netns", "del", netns)


def _make_netns(instance: Instance, machine: str) -> str:
    netns = instance.netns(machine)
    run("ip", "netns", "add", netns)
    _batch(netns, ["link set lo up"])
    run(*in_netns(netns, "sysctl", "-qw", "net.ipv4.ip_forward=1"))
    return netns


def _batch(netns: str, lines: Iterable[str]) -> None:
    run("ip", "-n", netns, "-batch", "-", stdin="\n".join(lines) + "\n")


# Names of network links have at most 15 characters.
def _wire(node: Node) -> str:
    return f"wire-{node.name}"


def _bridge(zone: str) -> str:
    return f"zone-{zone}"


def _uplink(zone: str) -> str:
    return f"up-{zone}"


def _downlink(zone: str) -> str:
    return f"down-{zone}"
