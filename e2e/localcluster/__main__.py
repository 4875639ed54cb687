"""Command line of the local cluster: `python -m e2e.localcluster --help`."""

import argparse
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from e2e.localcluster import preflight, status
from e2e.localcluster.cluster import DEFAULT_NAME, DEFAULT_NODES, DEFAULT_ZONES, LocalCluster
from e2e.localcluster.instance import LocalClusterError

FAULTS: Final = ("power-off", "power-on", "freeze", "thaw", "partition", "heal")
SIGNALS: Final = {"KILL": signal.SIGKILL, "STOP": signal.SIGSTOP, "CONT": signal.SIGCONT}


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    options = _parser().parse_args(argv)
    try:
        return _run(options)
    except LocalClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def _run(options: argparse.Namespace) -> int:
    if options.command == "setup":
        installed = preflight.setup()
        print(f"installed: {' '.join(installed)}" if installed else "nothing was missing")
        return 0
    preflight.add_admin_path()
    cluster = LocalCluster(options.name)
    match options.command:
        case "up":
            cluster.up(options.nodes, options.zones)
            print(f"export KUBECONFIG={cluster.kubeconfig} PATH={cluster.programs.directory}:$PATH")
        case "down":
            cluster.down()
        case "status":
            text, healthy = status.report(cluster.layout)
            print(text)
            return 0 if healthy else 1
        case "kubeconfig":
            print(cluster.kubeconfig)
        case "load-image":
            cluster.load_image(*options.archives)
        case "node":
            _node_fault(cluster, options.fault)(*options.nodes)
        case "zone":
            _zone_fault(cluster, options.fault)(options.zone)
        case "kill-container":
            cluster.kill_container(options.namespace, options.pod, options.container, SIGNALS[options.signal])
    return 0


def _node_fault(cluster: LocalCluster, fault: str) -> Callable[..., None]:
    return {
        "power-off": cluster.power_off,
        "power-on": cluster.power_on,
        "freeze": cluster.freeze,
        "thaw": cluster.thaw,
        "partition": cluster.partition,
        "heal": cluster.heal,
    }[fault]


def _zone_fault(cluster: LocalCluster, fault: str) -> Callable[[str], None]:
    return {
        "power-off": cluster.power_off_zone,
        "power-on": cluster.power_on_zone,
        "freeze": cluster.freeze_zone,
        "thaw": cluster.thaw_zone,
        "partition": cluster.partition_zone,
        "heal": cluster.heal_zone,
    }[fault]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m e2e.localcluster", description="A real Kubernetes of several nodes on this machine alone."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="install missing Debian packages")

    def command(name: str, text: str) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text)
        added.add_argument("--name", default=DEFAULT_NAME, help=f"instance (default: {DEFAULT_NAME})")
        return added

    up = command("up", "build what is missing, boot, wait until all nodes are ready")
    up.add_argument("--nodes", type=int, default=DEFAULT_NODES, help=f"number of nodes (default: {DEFAULT_NODES})")
    up.add_argument("--zones", type=int, default=DEFAULT_ZONES, help=f"number of zones (default: {DEFAULT_ZONES})")
    command("down", "remove all of it")
    command("status", "what runs; status 1 and the end of the log if something has died")
    command("kubeconfig", "print the path of the administrator's kubeconfig")
    load = command("load-image", "load images in `docker save` format into every node")
    load.add_argument("archives", type=Path, nargs="+", metavar="FILE")
    node = command("node", "break a node, or mend it")
    node.add_argument("fault", choices=FAULTS)
    node.add_argument("nodes", nargs="+", metavar="NODE")
    zone = command("zone", "break a zone, or mend it")
    zone.add_argument("fault", choices=FAULTS)
    zone.add_argument("zone", metavar="ZONE")
    kill = command("kill-container", "send a signal to a container's first process")
    kill.add_argument("namespace")
    kill.add_argument("pod")
    kill.add_argument("container")
    kill.add_argument("--signal", choices=sorted(SIGNALS), default="KILL")
    return parser


if __name__ == "__main__":
    sys.exit(main())
