"""A real Kubernetes of six nodes in three zones on this machine, and everything that can go wrong with its machines."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from e2e.localcluster.artifacts import BuildError
from e2e.localcluster.cluster import DEFAULT_NAME, LocalCluster
from e2e.localcluster.containers import first_process, starve
from e2e.localcluster.images import OPERATOR_REF, build_engine_image, build_operator_image
from e2e.localcluster.instance import LocalClusterError
from e2e.localcluster.machine import Machine
from e2e.localcluster.node import address_book
from e2e.platform.archives import retagged
from e2e.platform.base import Access, Faults, PlatformError
from e2e.platform.nodes import NodeShell

REPOSITORY: Final = Path(__file__).resolve().parents[2]
NAME_VARIABLE: Final = "CACHECLUSTER_LOCAL_NAME"
"""Another name than `dev` gives an instance of one's own beside it."""


class LocalPlatform:
    """The local cluster of e2e.localcluster; images are built on this machine."""

    name = "local"

    def __init__(self) -> None:
        self._cluster = LocalCluster(os.environ.get(NAME_VARIABLE) or DEFAULT_NAME)

    @property
    def faults(self) -> Faults:
        """All of them."""
        return LocalFaults(self._cluster)

    def up(self) -> Access:
        """Boot it (the programs are built first, once), or use it if it is up."""
        with _explained():
            self._cluster.up()
            kubeconfig, programs = self._cluster.kubeconfig, self._cluster.programs
        option = f"--kubeconfig={kubeconfig}"
        return Access(kubeconfig, None, (str(programs.kubectl), option), (str(programs.helm), option))

    def down(self) -> None:
        """Remove it with all that runs in it; what was built is kept for the next time."""
        with _explained():
            self._cluster.down()

    def load_engines(self, families: Sequence[str]) -> None:
        """Build the engine images from Debian packages and load those that were not loaded yet."""
        with _explained():
            for family in families:
                self._load(build_engine_image(family).archive)

    def load_operator(self, tag: str) -> str:
        """Build the operator's image from the Dockerfile and load it.

        The tag ends with a hash of the content, so that Helm rolls out what has changed.
        """
        with _explained():
            archive = build_operator_image(REPOSITORY)
            key = archive.name.split(".")[0].rpartition("-")[2]
            reference = f"{OPERATOR_REF.rpartition(':')[0]}:{tag}-{key[:8]}"
            with tempfile.TemporaryDirectory() as folder:
                renamed = Path(folder) / f"operator-{tag}-{key}.docker.tar"
                if not self._mark(renamed).exists():
                    self._load(retagged(archive, reference, renamed))
        return reference

    def advice(self) -> str:
        """Where the kubeconfig and kubectl are."""
        bin_directory = self._cluster.programs.kubectl.parent
        return f'export KUBECONFIG={self._cluster.kubeconfig} PATH="$PATH:{bin_directory}"'

    def _load(self, archive: Path) -> None:
        """Load an archive unless this instance has it: archives' names change with their content."""
        mark = self._mark(archive)
        if not mark.exists():
            self._cluster.load_image(archive)
            mark.touch()

    def _mark(self, archive: Path) -> Path:
        return self._cluster.instance.state / f"loaded-{archive.name}"


class LocalFaults(NodeShell):
    """Faults of containers, nodes and the control plane."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """SIGKILL to its first process."""
        self.aim(namespace, pod, container)()

    def aim(self, namespace: str, pod: str, container: str) -> Callable[[], None]:
        """Its first process, found through the API server and this machine's cgroups."""
        with _explained():
            process = first_process(self._cluster.instance, namespace, pod, container)

        def kill() -> None:
            with _explained():
                process.signal(signal.SIGKILL)

        return kill

    def processes(self, namespace: str, pod: str) -> Sequence[str]:
        """From /proc of this machine."""
        with _explained():
            return self._cluster.processes(namespace, pod)

    @contextmanager
    def api_server_away(self) -> Iterator[None]:
        """SIGKILL to the API server; it is started again at the end."""
        with _explained():
            self._cluster.stop_api_server()
        try:
            yield
        finally:
            with _explained():
                self._cluster.start_api_server()

    def power_off(self, *nodes: str) -> None:
        """Cut the wires, kill everything."""
        with _explained():
            self._cluster.power_off(*nodes)

    def power_on(self, *nodes: str) -> None:
        """Boot them and wait until they are Ready."""
        with _explained():
            self._cluster.power_on(*nodes)

    def out_of_memory(self, namespace: str, pod: str, container: str) -> None:
        """Through the container's cgroup."""
        with _explained():
            starve(self._cluster.instance, namespace, pod, container)

    @contextmanager
    def stopped(self, namespace: str, pod: str, container: str) -> Iterator[None]:
        """Signals to its first process."""
        with _explained():
            process = first_process(self._cluster.instance, namespace, pod, container)
            process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.signal(signal.SIGCONT)

    @contextmanager
    def frozen(self, *nodes: str) -> Iterator[None]:
        """Through the nodes' cgroups."""
        with _explained():
            self._cluster.freeze(*nodes)
        try:
            yield
        finally:
            with _explained():
                self._cluster.thaw(*nodes)

    def on_node(self, node: str, script: str) -> str:
        """In the namespaces of the machine."""
        with _explained():
            return self._cluster.run_on(node, "sh", "-c", script)

    def address_book(self, node: str) -> str:
        """On the machine's disk."""
        return str(address_book(Machine(self._cluster.instance, node).disk))


@contextmanager
def _explained() -> Iterator[None]:
    """The parts' errors as the platform's."""
    try:
        yield
    except (LocalClusterError, BuildError) as error:
        raise PlatformError(str(error)) from error
