"""A machine of the cluster: a process namespace and a mount namespace on a network namespace of its own.

Its first process holds them all: when that dies, the kernel kills everything else on the machine and undoes its
mounts. That is how a machine loses its power, and why nothing of it can be left behind.
"""

import contextlib
import shlex
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.localcluster import cgroups
from e2e.localcluster.commands import wait_until
from e2e.localcluster.instance import Instance, LocalClusterError
from e2e.localcluster.network import in_netns
from e2e.localcluster.processes import (
    Service,
    kill_all,
    load_services,
    start,
)

INIT: Final = "init"
BOOT_SECONDS: Final = 30.0

# Paths that kubelets have built in. Each machine has its own in their place.
PRIVATE: Final = {"/var/lib/kubelet": "kubelet", "/var/log": "log"}
KUBELET_DIRECTORY: Final = Path("/var/lib/kubelet")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine by its name: `fabric` or a node's name. What is known of it is on disk and in the kernel."""

    instance: Instance
    name: str

    @property
    def disk(self) -> Path:
        """Its files, which outlive a power-off."""
        return self.instance.machines / self.name

    @property
    def _records(self) -> Path:
        return self.disk / "services"

    @property
    def _off(self) -> Path:
        return self.disk / "powered-off"

    @property
    def is_off(self) -> bool:
        """Whether its power was switched off on purpose."""
        return self._off.exists()

    @property
    def services(self) -> list[Service]:
        """What was started on it since it was booted, its first process included."""
        return load_services(self._records)

    def service(self, name: str) -> Service:
        """A service by name; raises LocalClusterError."""
        for service in self.services:
            if service.name == name:
                return service
        raise LocalClusterError(f"{name} was not started on {self.name}")

    def boot(self) -> None:
        """Start the first process; the machine's network namespace must be there.

        Raises:
            LocalClusterError: it did not come up.
        """
        for directory in (self.disk, *(self.disk / name for name in PRIVATE.values())):
            directory.mkdir(parents=True, exist_ok=True)
        KUBELET_DIRECTORY.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._records, ignore_errors=True)
        cgroups.create(self.instance.cgroup, self.name)
        ready = self.disk / "booted"
        ready.unlink(missing_ok=True)
        script = [
            "set -e",
            "mount --make-rshared /",  # kubelet's mounts have to reach containers
            "mount -t tmpfs -o mode=0755 tmpfs /run",
            *(f"mount --bind {shlex.quote(str(self.disk / own))} {path}" for path, own in PRIVATE.items()),
            f"touch {shlex.quote(str(ready))}",
            "while :; do sleep 86400 & wait $!; done",  # `wait` also collects the orphans of the machine
        ]
        unshare = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "--kill-child"]
        argv = in_netns(self.instance.netns(self.name), *unshare, "sh", "-c", "\n".join(script))
        log = self.instance.logs / f"{self.name}-{INIT}.log"
        init = start(f"{self.name}'s first process", self._joined(argv), log, forks=True)
        Service(INIT, init.carrier, init.main, log).save(self._records)

        def check() -> None:
            if not init.main.alive:
                raise LocalClusterError(f"machine {self.name} did not boot: {init.ended}")

        wait_until(f"machine {self.name} boots", ready.exists, BOOT_SECONDS, check)
        self._off.unlink(missing_ok=True)

    def start(self, name: str, argv: Sequence[str]) -> None:
        """Start a program that stays, inside the machine; its log is `logs/MACHINE-NAME.log`."""
        self._start(name, self.inside(*argv), forks=True)

    def start_outside(self, name: str, argv: Sequence[str]) -> None:
        """Start a program that stays and lives with the machine, but in the namespaces of the real one."""
        self._start(name, argv, forks=False)

    def _start(self, name: str, argv: Sequence[str], *, forks: bool) -> None:
        log = self.instance.logs / f"{self.name}-{name}.log"
        started = start(f"{name} on {self.name}", self._joined(argv), log, forks=forks)
        Service(name, started.carrier, started.main, log).save(self._records)

    def inside(self, *argv: str) -> list[str]:
        """Command line that runs a program on the machine."""
        init = self.service(INIT).main
        if not init.alive:
            raise LocalClusterError(f"machine {self.name} is not running")
        return ["nsenter", f"--target={init.pid}", "--net", "--mount", "--pid", "--", *argv]

    def check(self) -> None:
        """Raise LocalClusterError with the end of its log if a service of the machine has ended."""
        for service in self.services:
            if not service.main.alive:
                raise LocalClusterError(f"on {self.name}, {service.ended}")

    def stop(self, name: str) -> None:
        """SIGKILL one service and forget it."""
        service = self.service(name)
        kill_all(service.processes)
        (self._records / name).unlink()

    def kill(self) -> None:
        """Kill all of its processes, as when its power fails."""
        group = self.instance.cgroup
        victims = [process for service in self.services for process in service.processes]
        victims += cgroups.members(group, self.name)
        for victim in victims:
            victim.signal(signal.SIGKILL)
        if cgroups.is_frozen(group, self.name):
            cgroups.thaw(group, self.name)  # what is frozen dies only once it is thawed
        kill_all(victims)
        cgroups.remove(group, self.name)

    def power_off(self) -> None:
        """Kill all of it and remember that this was wanted."""
        self.kill()
        shutil.rmtree(self._records, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            (self.disk / "booted").unlink()
        self._off.touch()

    def _joined(self, argv: Sequence[str]) -> list[str]:
        """The command line, run in the machine's cgroup from its first instruction on."""
        files = cgroups.daemons_files(self.instance.cgroup, self.name)
        joining = " && ".join(f"echo 0 > {shlex.quote(str(file))}" for file in files)
        return ["sh", "-c", f'cd / && {joining} && exec "$@"', "sh", *argv]
