"""Kubernetes in Docker, for machines that have Docker: one control plane and six workers in three zones."""

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from e2e.platform.base import Access, PlatformError
from e2e.platform.existing import require
from e2e.platform.nodes import NodeShell

CLUSTER: Final = "cachecluster"
CONTEXT: Final = f"kind-{CLUSTER}"
STATE: Final = Path.home() / ".cache" / "cachecluster" / "kind"
REPOSITORY: Final = Path(__file__).resolve().parents[2]
ZONES: Final = ("a", "b", "c")
MINUTES: Final = 60.0


class KindPlatform:
    """A kind cluster of our own name with a kubeconfig of its own."""

    name = "kind"

    def __init__(self) -> None:
        self.faults = KindFaults()

    @property
    def _kubeconfig(self) -> Path:
        return STATE / "kubeconfig"

    def up(self) -> Access:
        """`kind create cluster`, unless it is there."""
        kind, kubectl, helm = require("kind"), require("kubectl"), require("helm")
        STATE.mkdir(parents=True, exist_ok=True)
        if CLUSTER not in run(kind, "get", "clusters").split():
            layout = STATE / "cluster.json"
            layout.write_text(json.dumps(cluster_layout(), indent=2))
            run(kind, "create", "cluster", "--name", CLUSTER, "--config", str(layout), "--wait", "5m", minutes=15)
        self._kubeconfig.write_text(run(kind, "get", "kubeconfig", "--name", CLUSTER))
        self._kubeconfig.chmod(0o600)
        config = str(self._kubeconfig)
        return Access(
            self._kubeconfig,
            CONTEXT,
            (kubectl, "--kubeconfig", config, "--context", CONTEXT),
            (helm, "--kubeconfig", config, "--kube-context", CONTEXT),
        )

    def down(self) -> None:
        """`kind delete cluster`."""
        run(require("kind"), "delete", "cluster", "--name", CLUSTER)
        self._kubeconfig.unlink(missing_ok=True)

    def load_engines(self, families: Sequence[str]) -> None:
        """Nodes pull the upstream images."""

    def load_operator(self, tag: str) -> str:
        """`docker build`, then into the nodes."""
        docker = require("docker")
        identity = run(docker, "build", "--quiet", str(REPOSITORY), minutes=30).strip().rpartition(":")[2]
        reference = f"cachecluster/operator:{tag}-{identity[:8]}"
        run(docker, "tag", identity, reference)
        with tempfile.TemporaryDirectory() as folder:
            archive = Path(folder) / "image.tar"
            run(docker, "save", "--output", str(archive), reference)
            run(require("kind"), "load", "image-archive", str(archive), "--name", CLUSTER, minutes=15)
        return reference

    def advice(self) -> str:
        """kind's kubeconfig is kept apart from the user's own."""
        return f"export KUBECONFIG={self._kubeconfig}"


class KindFaults(NodeShell):
    """Faults through the Docker containers that are the nodes."""

    def kill_container(self, namespace: str, pod: str, container: str) -> None:
        """SIGKILL from the node, where the container's first process is an ordinary one."""
        self.aim(namespace, pod, container)()

    def aim(self, namespace: str, pod: str, container: str) -> Callable[[], None]:
        """Its process id on the node."""
        node, pid = self._process(namespace, pod, container)

        def kill() -> None:
            run(require("docker"), "exec", node, "kill", "-9", str(pid))

        return kill

    def processes(self, namespace: str, pod: str) -> Sequence[str]:
        """Command lines of the engine container's processes, from the node."""
        node, pid = self._process(namespace, pod, "engine")
        script = f'for p in $(pgrep --ns {pid} --nslist pid .); do tr "\\0" " " < /proc/$p/cmdline; echo; done'
        return run(require("docker"), "exec", node, "sh", "-c", script).splitlines()

    @contextmanager
    def api_server_away(self) -> Iterator[None]:
        """The control plane's node is frozen."""
        run(require("docker"), "pause", f"{CLUSTER}-control-plane")
        try:
            yield
        finally:
            run(require("docker"), "unpause", f"{CLUSTER}-control-plane")

    def power_off(self, *nodes: str) -> None:
        """Kill the nodes' containers."""
        run(require("docker"), "kill", *nodes)

    def power_on(self, *nodes: str) -> None:
        """Start them again."""
        run(require("docker"), "start", *nodes)

    def out_of_memory(self, namespace: str, pod: str, container: str) -> None:
        """Through the container's cgroup, of version 2."""
        node, pid = self._process(namespace, pod, container)
        group = f"/sys/fs/cgroup$(sed -n s/^0:://p /proc/{pid}/cgroup)"
        self.on_node(node, f"echo 0 > {group}/memory.max; while [ -e /proc/{pid} ]; do sleep 0.1; done")

    @contextmanager
    def stopped(self, namespace: str, pod: str, container: str) -> Iterator[None]:
        """Signals from the node."""
        node, pid = self._process(namespace, pod, container)
        self.on_node(node, f"kill -STOP {pid}")
        try:
            yield
        finally:
            self.on_node(node, f"kill -CONT {pid} || true")

    @contextmanager
    def frozen(self, *nodes: str) -> Iterator[None]:
        """`docker pause`."""
        run(require("docker"), "pause", *nodes)
        try:
            yield
        finally:
            run(require("docker"), "unpause", *nodes)

    def on_node(self, node: str, script: str) -> str:
        """In the node's container."""
        return run(require("docker"), "exec", node, "sh", "-c", script)

    def address_book(self, node: str) -> str:  # noqa: ARG002
        """Of kindnet."""
        return "/run/cni-ipam-state/kindnet"

    def _process(self, namespace: str, pod: str, container: str) -> tuple[str, int]:
        config = ("--kubeconfig", str(STATE / "kubeconfig"), "--context", CONTEXT)
        found: dict[str, Any] = json.loads(
            run(require("kubectl"), *config, "get", "pod", "-n", namespace, pod, "-o", "json")
        )
        statuses = found["status"]["containerStatuses"]
        full = next(s["containerID"] for s in statuses if s["name"] == container)
        node = str(found["spec"]["nodeName"])
        details = json.loads(
            run(require("docker"), "exec", node, "crictl", "inspect", full.removeprefix("containerd://"))
        )
        return node, int(details["info"]["pid"])


def cluster_layout() -> dict[str, Any]:
    """kind's own configuration: six workers, two in each zone."""
    workers = [{"role": "worker", "labels": {"topology.kubernetes.io/zone": zone}} for zone in (*ZONES, *ZONES)]
    return {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [{"role": "control-plane"}, *workers]}


def run(*argv: str, minutes: float = 2.0) -> str:
    """Run a program to its end and return its output; raises PlatformError with what it complained about."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=minutes * MINUTES, check=False)
    except subprocess.TimeoutExpired as error:
        raise PlatformError(f"{' '.join(argv)} did not end within {minutes:.0f} min") from error
    if done.returncode != 0:
        raise PlatformError(f"{' '.join(argv)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
