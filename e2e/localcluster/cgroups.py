"""Cgroups of one instance, in every hierarchy of the machine (version 1) or in the only one (version 2).

A machine of the cluster is a cgroup with two children: `daemons` for what we start on it, and `kubepods`, which its
kubelet makes. A machine is frozen and killed through its cgroup, which nothing on it leaves.
"""

import contextlib
import signal
from pathlib import Path
from typing import Final

from e2e.localcluster.commands import wait_until
from e2e.localcluster.processes import Process, process

ROOT: Final = Path("/sys/fs/cgroup")
DAEMONS: Final = "daemons"
FREEZE_SECONDS: Final = 20.0
REMOVE_SECONDS: Final = 20.0
MEMORY_FILES: Final = ("memory.limit_in_bytes", "memory.usage_in_bytes")
CONTROLLERS: Final = "+cpuset +cpu +io +memory +pids"


def is_version_2() -> bool:
    """Whether the machine has one hierarchy for all controllers."""
    return (ROOT / "cgroup.controllers").exists()


def hierarchies() -> list[Path]:
    """Root directory of each hierarchy."""
    if is_version_2():
        return [ROOT]
    return sorted(path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink())


def create(instance_group: str, machine: str) -> None:
    """Make a machine's cgroup, with the controllers that a kubelet needs."""
    for root in hierarchies():
        group = root / instance_group / machine
        group.mkdir(parents=True, exist_ok=True)
        if is_version_2():
            for parent in (root, group.parent, group):
                (parent / "cgroup.subtree_control").write_text(CONTROLLERS)
            _weigh(group.parent, "cpu.weight", 100)
        elif "cpu" in _controllers(root):
            _weigh(group.parent, "cpu.shares", 1024)
        elif root.name == "cpuset":
            for child in (group.parent, group):  # empty at first, and nothing may enter before they are set
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (child / file).write_text((root / file).read_text())
    for procs in daemons_files(instance_group, machine):
        procs.parent.mkdir(exist_ok=True)


def _weigh(instance: Path, file: str, default: int) -> None:
    """An instance gets the processor like as many programs as it has machines, not like a single one.

    Otherwise one busy program beside it starves all machines, and caches on them answer seconds late.
    """
    machines = sum(child.is_dir() for child in instance.iterdir())
    (instance / file).write_text(str(default * machines))


def daemons_files(instance_group: str, machine: str) -> list[Path]:
    """Files into which a process writes 0 to join the machine's daemons.

    Of several hierarchies in that by which the machine is frozen, and where processors are shared: next to the Pods,
    as on a real machine, and not among all programs of this one, where a handful would outweigh all Pods together.
    """
    groups = {_group(instance_group, machine)} | {root / instance_group / machine for root in _processors()}
    return sorted(group / DAEMONS / "cgroup.procs" for group in groups)


def _processors() -> list[Path]:
    """Root directories of the hierarchies in which processors are shared and counted."""
    if is_version_2():
        return [ROOT]
    return [root for root in hierarchies() if _controllers(root) & {"cpu", "cpuacct"}]


def _controllers(root: Path) -> set[str]:
    """Of a hierarchy of version 1, which is called by all that are mounted together."""
    return set(root.name.split(","))


def freeze(instance_group: str, machine: str) -> None:
    """Stop everything on a machine at once. Its wire stays up and its kernel goes on answering."""
    _set_frozen(_group(instance_group, machine), frozen=True)


def thaw(instance_group: str, machine: str) -> None:
    """Let it go on."""
    _set_frozen(_group(instance_group, machine), frozen=False)


def is_frozen(instance_group: str, machine: str) -> bool:
    """Whether `freeze` was the last word."""
    group = _group(instance_group, machine)
    file = group / ("cgroup.freeze" if is_version_2() else "freezer.self_freezing")
    return file.exists() and file.read_text().strip() == "1"


def members(instance_group: str, machine: str) -> list[Process]:
    """All processes of a machine: those of its Pods too."""
    return [found for file in _group(instance_group, machine).rglob("cgroup.procs") for found in _read(file)]


def container(instance_group: str, machine: str, pod_uid: str, container_id: str) -> list[Process]:
    """Processes of one container."""
    pods = _group(instance_group, machine).rglob(f"pod{pod_uid}")
    return [found for pod in pods for found in _read(pod / container_id / "cgroup.procs")]


def take_memory(instance_group: str, machine: str, pod_uid: str, container_id: str) -> None:
    """Lower a container's memory limit to what it uses; nothing where it has ended."""
    root = ROOT if is_version_2() else ROOT / "memory"
    limit, usage = ("memory.max", "memory.current") if is_version_2() else MEMORY_FILES
    for pod in (root / instance_group / machine).rglob(f"pod{pod_uid}"):
        with contextlib.suppress(OSError):  # more was taken meanwhile, or it has ended
            (pod / container_id / limit).write_text((pod / container_id / usage).read_text())


def remove(instance_group: str, machine: str = "") -> None:
    """Kill what is left in a machine's cgroups, or in those of the whole instance, and remove them."""
    for root in hierarchies():
        _remove(root / instance_group / machine)


def existing(instance_group: str) -> list[Path]:
    """The instance's cgroup in each hierarchy that has it."""
    return [group for root in hierarchies() if (group := root / instance_group).exists()]


def _group(instance_group: str, machine: str) -> Path:
    root = ROOT if is_version_2() else ROOT / "freezer"
    return root / instance_group / machine


def _set_frozen(group: Path, *, frozen: bool) -> None:
    if is_version_2():
        (group / "cgroup.freeze").write_text(str(int(frozen)))
        goal = f"frozen {int(frozen)}"
        wait_until(
            f"{group} {goal}", lambda: goal in (group / "cgroup.events").read_text().splitlines(), FREEZE_SECONDS
        )
        return
    state = "FROZEN" if frozen else "THAWED"

    def reached() -> bool:
        (group / "freezer.state").write_text(state)  # again and again: a fork meanwhile leaves it at FREEZING
        return (group / "freezer.state").read_text().strip() == state

    wait_until(f"{group} is {state}", reached, FREEZE_SECONDS)


def _read(file: Path) -> list[Process]:
    try:
        numbers = file.read_text().split()
    except OSError:
        return []
    return [found for number in numbers if (found := process(int(number))) is not None]


def _remove(top: Path) -> None:
    def removed() -> bool:
        for file in top.rglob("cgroup.procs"):
            for straggler in _read(file):
                straggler.signal(signal.SIGKILL)
        with contextlib.suppress(OSError):
            for group in sorted((path for path in top.rglob("*") if path.is_dir()), key=lambda p: -len(p.parts)):
                group.rmdir()
            top.rmdir()
        return not top.exists()

    wait_until(f"cgroup {top} is empty and removed", removed, REMOVE_SECONDS)
