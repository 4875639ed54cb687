"""Is this machine fit for a local cluster, and if not, what is missing? `setup` installs Debian packages, nothing else
in this package installs anything.
"""

import os
import platform
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from e2e.localcluster.commands import run
from e2e.localcluster.instance import Instance, LocalClusterError, state_root
from e2e.localcluster.node import CNI_PLUGINS

FREE_BYTES: Final = 10 * 1000**3
APT_SECONDS: Final = 1800.0

# What has to be there, and the Debian package that brings it. Directories of administrators' programs may be missing
# from PATH.
PROGRAMS: Final = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "iptables-restore": "iptables",
    "ipset": "ipset",
    "conntrack": "conntrack",
    "ip": "iproute2",
    "tc": "iproute2",
    "ethtool": "ethtool",
    "socat": "socat",
    "busybox": "busybox-static",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "mount": "mount",
    "sysctl": "procps",
    "mmdebstrap": "mmdebstrap",
    "buildah": "buildah",
}
CNI_PACKAGE: Final = "containernetworking-plugins"
CNI_PROGRAMS: Final = ("ptp", "host-local", "portmap")

# Every kubelet, containerd and API server watches files; Linux's own limit for all processes of root, 128, is used up
# by one large cluster, and then kubelets of the next one die with "inotify_init: too many open files".
INOTIFY_LIMIT: Final = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_INSTANCES: Final = 1024
ADMIN_PATH: Final = "/usr/local/sbin:/usr/sbin:/sbin"


def require_ready_machine(instance: Instance) -> None:
    """Raise LocalClusterError that lists everything that stands in the way of `up`."""
    if found := list(obstacles(instance)):
        lines = "".join(f"\n  - {line}" for line in found)
        raise LocalClusterError(f"this machine is not ready for local cluster {instance.name}:{lines}")


def obstacles(instance: Instance) -> Iterator[str]:
    """Everything that stands in the way, in words that say what to do."""
    add_admin_path()
    if platform.system() != "Linux":
        yield f"it runs {platform.system()}, and nodes are Linux namespaces: use a Linux machine, or CLUSTER=kind"
        return
    if os.geteuid() != 0:
        yield "you are not root, which namespaces, mounts and cgroups need: run it with sudo"
        return
    if packages := missing_packages():
        yield (
            f"programs of these Debian packages are missing: {' '.join(packages)}; "
            "`python -m e2e.localcluster setup` installs them"
        )
    yield from _disk()
    yield from _other_users(instance)
    yield from _file_watches()
    if not any(Path("/sys/fs/cgroup").iterdir()):
        yield "no cgroups are mounted at /sys/fs/cgroup"


def missing_packages() -> list[str]:
    """Debian packages whose programs are not on this machine."""
    add_admin_path()
    missing = {package for program, package in PROGRAMS.items() if shutil.which(program) is None}
    if not all((CNI_PLUGINS / program).exists() for program in CNI_PROGRAMS):
        missing.add(CNI_PACKAGE)
    return sorted(missing)


def setup() -> list[str]:
    """Install the missing Debian packages with apt-get; returns their names.

    Raises:
        LocalClusterError: this is not Debian or a relative of it, or not root, or apt-get fails.
    """
    packages = missing_packages()
    if packages:
        if shutil.which("apt-get") is None:
            raise LocalClusterError(f"this is no Debian machine: install {' '.join(packages)} by other means")
        if os.geteuid() != 0:
            raise LocalClusterError(f"only root can install {' '.join(packages)}: run it with sudo")
        quiet = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-y")
        run(*quiet, "update", timeout=APT_SECONDS)
        run(*quiet, "install", "--no-install-recommends", *packages, timeout=APT_SECONDS)
    return packages


def add_admin_path() -> None:
    """Let this process find administrators' programs, as root's own shell does."""
    path = os.environ.get("PATH", "")
    missing = [part for part in ADMIN_PATH.split(":") if part not in path.split(":")]
    if missing:
        os.environ["PATH"] = ":".join([path, *missing])


def _disk() -> Iterator[str]:
    place = state_root()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < FREE_BYTES:
        yield f"{place} has {free / 1000**3:.1f} GB free and {FREE_BYTES // 1000**3} GB are needed"


def _file_watches() -> Iterator[str]:
    """Raise the limit, which lasts until the machine restarts; a problem only where it may not be raised."""
    limit = int(INOTIFY_LIMIT.read_text())
    if limit >= INOTIFY_INSTANCES:
        return
    try:
        INOTIFY_LIMIT.write_text(str(INOTIFY_INSTANCES))
    except OSError as error:
        yield (
            f"fs.inotify.max_user_instances is {limit} and cannot be raised from here ({error.strerror}): "
            f"run `sysctl -w fs.inotify.max_user_instances={INOTIFY_INSTANCES}` on the host"
        )


def _other_users(instance: Instance) -> Iterator[str]:
    for other in neighbours(instance):
        if other.port == instance.port:
            yield (
                f"local cluster {other.name} has port {other.port}, which the name {instance.name} leads to as well: "
                "choose another name"
            )
            return
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", instance.port))
        except OSError:
            yield f"port {instance.port} of 127.0.0.1 is taken by another program: choose another name"


def neighbours(instance: Instance) -> list[Instance]:
    """Other instances that exist on this machine."""
    root = state_root()
    names = [path.name for path in root.iterdir() if path.is_dir()] if root.is_dir() else []
    return [Instance(name) for name in sorted(names) if name != instance.name]
