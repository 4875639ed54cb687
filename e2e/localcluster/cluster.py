"""A Kubernetes of several machines on this one: the way in for tests, the demo and the command line."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from e2e.localcluster import cgroups, containers, network
from e2e.localcluster.api import Api
from e2e.localcluster.build import Programs, programs
from e2e.localcluster.commands import attempt, run, wait_until
from e2e.localcluster.controlplane import ControlPlane, base_objects
from e2e.localcluster.instance import FABRIC, Instance, Layout, LocalClusterError, layout, state_root
from e2e.localcluster.machine import KUBELET_DIRECTORY, Machine
from e2e.localcluster.metrics import METRICS_API, metrics_objects
from e2e.localcluster.node import NodeMachine
from e2e.localcluster.pause import write_pause_image
from e2e.localcluster.pki import Pki
from e2e.localcluster.preflight import require_ready_machine
from e2e.localcluster.processes import exclusive
from e2e.localcluster.status import problems

DEFAULT_NAME: Final = "dev"
DEFAULT_NODES: Final = 6
DEFAULT_ZONES: Final = 3
NODES_SECONDS: Final = 300.0
KUBECTL_SECONDS: Final = 600.0


class LocalCluster:
    """The local cluster of a name, whether it is up or not.

    Every method raises LocalClusterError with what went wrong. Those that change something hold the instance's lock.
    """

    def __init__(self, name: str = DEFAULT_NAME, say: Callable[[str], None] | None = None) -> None:
        self.instance: Final = Instance(name)
        self._say: Final = say or _to_stderr

    # Coming and going

    def up(self, nodes: int = DEFAULT_NODES, zones: int = DEFAULT_ZONES) -> None:
        """Boot it, or leave it as it is if it is up in this size already."""
        wanted = layout(self.instance, nodes, zones)
        if self.exists:
            self._accept(wanted)
            return
        require_ready_machine(self.instance)
        built = programs()
        with self._locked():
            started = time.monotonic()
            try:
                self._create(wanted, built, started)
            except BaseException:
                self._say(
                    f"local cluster {self.instance.name} did not come up; logs until `down`: {self.instance.logs}"
                )
                raise
        self._say(f"local cluster {self.instance.name} is up after {time.monotonic() - started:.0f} s")

    def down(self) -> None:
        """Remove all of it: processes, mounts, namespaces, cgroups and files. It may be half there or not at all."""
        with self._locked():
            self._destroy()
        with contextlib.suppress(OSError):
            state_root().rmdir()  # unless another instance is in it
            KUBELET_DIRECTORY.rmdir()  # made as a place to mount on; stays if a kubelet of the machine uses it

    @property
    def exists(self) -> bool:
        """Whether there is an instance of this name, running or not."""
        return self.instance.state.exists()

    # Use

    @property
    def layout(self) -> Layout:
        """The size that it was started with."""
        return self._read()[0]

    @property
    def programs(self) -> Programs:
        """The programs that it was started with: kubectl and helm among them."""
        return self._read()[1]

    @property
    def kubeconfig(self) -> Path:
        """The administrator's kubeconfig; its server is a port on 127.0.0.1."""
        self._read()
        return self.instance.kubeconfig

    @property
    def node_names(self) -> list[str]:
        """All nodes, also those that are switched off."""
        return [node.name for node in self.layout.nodes]

    def zone_of(self, node: str) -> str:
        """A node's zone."""
        return self.layout.node(node).zone

    def kubectl(self, *args: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator; the status is the caller's to check."""
        argv = [str(self.programs.kubectl), f"--kubeconfig={self.kubeconfig}", *args]
        return attempt(argv, stdin=stdin, timeout=KUBECTL_SECONDS)

    def helm(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run Helm as the administrator; the status is the caller's to check."""
        return attempt([str(self.programs.helm), f"--kubeconfig={self.kubeconfig}", *args], timeout=KUBECTL_SECONDS)

    def run_in_fabric(self, argv: Sequence[str], timeout: float = KUBECTL_SECONDS) -> subprocess.CompletedProcess[str]:
        """Run a program where Pods, Services and the API server can be reached by their own addresses."""
        return attempt(self.in_fabric(*argv), timeout=timeout)

    def in_fabric(self, *argv: str) -> list[str]:
        """Command line for `run_in_fabric`, for who starts it otherwise."""
        return network.in_netns(self.instance.netns(FABRIC), *argv)

    def run_on(self, node: str, *argv: str) -> str:
        """Run a program on a node, as root, and return what it printed."""
        return run(*self._machines([node])[0].machine.inside(*argv))

    def load_image(self, *archives: Path) -> None:
        """Load images in `docker save` format into every node that is switched on."""
        nodes = [node for node in self._node_machines() if not node.machine.is_off]
        for archive in archives:
            if not archive.is_file():
                raise LocalClusterError(f"there is no image archive {archive}")
            self._on_all(nodes, partial(NodeMachine.import_image, archive=archive.resolve()))

    # Faults of nodes

    def power_off(self, *nodes: str) -> None:
        """Cut the wires and kill everything on the nodes; their disks stay."""
        with self._locked():
            for machine in self._machines(nodes):
                if not machine.machine.is_off:
                    machine.power_off()
            network.route_services(self.layout)

    def power_on(self, *nodes: str) -> None:
        """Boot nodes that were switched off, and wait until they are Ready."""
        with self._locked():
            chosen = [machine for machine in self._machines(nodes) if machine.machine.is_off]
            since = time.time()
            self._boot(chosen)
            self._await_ready(chosen, since)
            network.route_services(self.layout)

    def freeze(self, *nodes: str) -> None:
        """Stop everything on the nodes at once; their wires stay up and their kernels answer."""
        with self._locked():
            for machine in self._running(nodes):
                cgroups.freeze(self.instance.cgroup, machine.node.name)

    def thaw(self, *nodes: str) -> None:
        """Undo `freeze`."""
        with self._locked():
            for machine in self._running(nodes):
                cgroups.thaw(self.instance.cgroup, machine.node.name)

    def partition(self, *nodes: str) -> None:
        """Cut the nodes' wires: each is alone."""
        with self._locked():
            for machine in self._running(nodes):
                network.cut_node(self.instance, machine.node)
            network.route_services(self.layout)

    def heal(self, *nodes: str) -> None:
        """Undo `partition`."""
        with self._locked():
            for machine in self._running(nodes):
                network.join_node(self.instance, machine.node)
            network.route_services(self.layout)

    # Faults of zones

    def power_off_zone(self, zone: str) -> None:
        """All nodes of a zone at once."""
        self.power_off(*self._names_of(zone))

    def power_on_zone(self, zone: str) -> None:
        """Undo `power_off_zone`."""
        self.power_on(*self._names_of(zone))

    def freeze_zone(self, zone: str) -> None:
        """All nodes of a zone."""
        self.freeze(*self._names_of(zone))

    def thaw_zone(self, zone: str) -> None:
        """Undo `freeze_zone`."""
        self.thaw(*self._names_of(zone))

    def partition_zone(self, zone: str) -> None:
        """Cut a zone off from the other zones and the control plane. Its nodes go on seeing each other."""
        self._names_of(zone)
        with self._locked():
            network.cut_zone(self.instance, zone)
            network.route_services(self.layout)

    def heal_zone(self, zone: str) -> None:
        """Undo `partition_zone`."""
        self._names_of(zone)
        with self._locked():
            network.join_zone(self.instance, zone)
            network.route_services(self.layout)

    # Faults of containers and of the control plane

    def kill_container(self, namespace: str, pod: str, container: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the container's first process, as the kernel's OOM killer does, and to no other."""
        containers.first_process(self.instance, namespace, pod, container).signal(number)

    def processes(self, namespace: str, pod: str) -> list[str]:
        """Command lines of all processes of a Pod's containers, as `ps` on its node shows them."""
        return containers.command_lines(self.instance, namespace, pod)

    def stop_api_server(self) -> None:
        """SIGKILL the API server; workloads go on."""
        with self._locked():
            self._control_plane().stop_api_server()

    def start_api_server(self) -> None:
        """Start it again and wait until it is ready."""
        with self._locked():
            self._control_plane().start_api_server()

    # Inside

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with exclusive(self.instance.lock, who=f"local cluster {self.instance.name}"):
            yield

    def _accept(self, wanted: Layout) -> None:
        there, _ = self._read()
        name = self.instance.name
        if there != wanted:
            raise LocalClusterError(
                f"local cluster {name} is up with {len(there.nodes)} nodes in {len(there.zones)} zones: "
                f"`down --name {name}` first, or choose another name"
            )
        if found := problems(there):
            raise LocalClusterError(
                f"local cluster {name} is there but not whole: {found[0]}\n`down --name {name}` removes what is left"
            )
        self._say(f"local cluster {name} is up already")

    def _create(self, wanted: Layout, built: Programs, started: float) -> None:
        def step(what: str) -> None:
            self._say(f"{what} ({time.monotonic() - started:.1f} s)")

        instance = self.instance
        instance.state.mkdir(mode=0o711, parents=True)
        self._write(wanted, built)
        pki = Pki(instance)
        pki.create(wanted)
        network.create_fabric(wanted)
        control_plane = ControlPlane(instance, built)
        control_plane.start()
        step("the API server is ready")
        write_pause_image(self._pause_archive)
        objects = [*base_objects(instance), *metrics_objects(instance, pki.ca.read_bytes())]
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        applied = self.kubectl("apply", "-f", "-", stdin=json.dumps(listed))
        if applied.returncode != 0:
            raise LocalClusterError(f"DNS, storage and metrics could not be set up: {applied.stderr.strip()}")
        nodes = [NodeMachine(wanted, node, built) for node in wanted.nodes]
        self._boot(nodes)
        network.route_services(wanted)
        self._await_ready(nodes)
        # Kubernetes deletes no namespace while an API that is registered does not answer.
        api, check = Api(instance.kubeconfig), control_plane.machine.check
        wait_until("the metrics API answers", lambda: api.get(METRICS_API) is not None, NODES_SECONDS, check)
        check()
        step(f"{len(nodes)} nodes in {len(wanted.zones)} zones are ready")

    def _destroy(self) -> None:
        instance = self.instance
        machines = instance.machines
        names = sorted(path.name for path in machines.iterdir()) if machines.is_dir() else []
        for name in names:
            Machine(instance, name).kill()
        cgroups.remove(instance.cgroup)
        for netns in network.namespaces_of(instance):
            network.remove_netns(netns)
        if instance.state.exists():
            shutil.rmtree(instance.state)

    def _boot(self, nodes: Sequence[NodeMachine]) -> None:
        self._on_all(nodes, partial(NodeMachine.power_on, sandbox_image=self._pause_archive))

    def _await_ready(self, nodes: Sequence[NodeMachine], since: float = 0.0) -> None:
        """The Node object of a node that was switched off may still say Ready: only news after `since` count."""
        api, names = Api(self.instance.kubeconfig), {node.node.name for node in nodes}

        def check() -> None:
            for node in nodes:
                node.machine.check()

        wait_until(f"{', '.join(sorted(names))} registered", lambda: names <= api.nodes(), NODES_SECONDS, check)
        for node in nodes:
            node.start_policy_agent()
        wait_until(
            f"{', '.join(sorted(names))} Ready (logs: {self.instance.logs})",
            lambda: names <= api.ready_nodes(since),
            NODES_SECONDS,
            check,
        )

    @staticmethod
    def _on_all(nodes: Sequence[NodeMachine], act: Callable[[NodeMachine], None]) -> None:
        with ThreadPoolExecutor(max_workers=max(2, os.cpu_count() or 2)) as pool:
            for outcome in [pool.submit(act, node) for node in nodes]:
                outcome.result()

    def _control_plane(self) -> ControlPlane:
        return ControlPlane(self.instance, self.programs)

    def _node_machines(self) -> list[NodeMachine]:
        there, built = self._read()
        return [NodeMachine(there, node, built) for node in there.nodes]

    def _machines(self, names: Iterable[str]) -> list[NodeMachine]:
        there, built = self._read()
        return [NodeMachine(there, there.node(name), built) for name in names]

    def _running(self, names: Iterable[str]) -> list[NodeMachine]:
        chosen = self._machines(names)
        for machine in chosen:
            if machine.machine.is_off:
                raise LocalClusterError(f"node {machine.node.name} is switched off: `node power-on` it first")
        return chosen

    def _names_of(self, zone: str) -> list[str]:
        return [node.name for node in self.layout.nodes_of(zone)]

    @property
    def _pause_archive(self) -> Path:
        return self.instance.state / "pause.docker.tar"

    @property
    def _facts(self) -> Path:
        return self.instance.state / "cluster.json"

    def _write(self, wanted: Layout, built: Programs) -> None:
        facts = {"nodes": len(wanted.nodes), "zones": len(wanted.zones), "programs": str(built.directory)}
        self._facts.write_text(json.dumps(facts))

    def _read(self) -> tuple[Layout, Programs]:
        try:
            facts = json.loads(self._facts.read_text())
        except FileNotFoundError as error:
            name = self.instance.name
            raise LocalClusterError(
                f"local cluster {name} is half there: `down --name {name}` removes it"
                if self.exists
                else f"there is no local cluster {name}: `up --name {name}` makes it"
            ) from error
        return layout(self.instance, facts["nodes"], facts["zones"]), Programs(Path(facts["programs"]))


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
