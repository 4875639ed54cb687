"""A client of a cache cluster in a pod of its own: what an application in some namespace sees."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.cluster import SLOTS, until_pod_ready
from e2e.kube import Kube, Obj, wait
from e2e.pods import client_pod

SCRIPT: Final = Path(__file__).with_name("ask.py")
REACH_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Client:
    """A running pod that asks one cluster; `start` makes it."""

    kube: Kube
    namespace: str
    pod: str

    @property
    def node(self) -> str:
        """The Kubernetes node that it runs on."""
        return str(self.kube.get("Pod", self.namespace, self.pod)["spec"]["nodeName"])

    def ask(self, *question: str) -> Any:
        """The answer; raises AssertionError if the cluster did not give one."""
        reply = self._reply(question)
        assert "answer" in reply, f"{self.namespace}/{self.pod} {' '.join(question)}: {reply}"
        return reply["answer"]

    def error(self, *question: str) -> str:
        """The error that the client got; raises AssertionError if it got an answer."""
        reply = self._reply(question)
        assert "error" in reply, f"{self.namespace}/{self.pod} {' '.join(question)} was answered: {reply}"
        return str(reply["error"])

    def write(self, count: int, prefix: str) -> None:
        """Write keys over all shards; every one must be accepted."""
        assert self.ask("write", str(count), prefix) == count

    def count(self, count: int, prefix: str) -> int:
        """How many of them hold what was written."""
        return int(self.ask("count", str(count), prefix))

    def fill(self, mebibytes: int) -> None:
        """Write that much data, spread over all shards; every write must be accepted."""
        assert self.ask("fill", str(mebibytes)) == 16 * mebibytes

    def load(self, count: int) -> None:
        """Write many small keys over all shards, in pipelines; every one must be accepted."""
        assert self.ask("load", str(count)) == count

    def loaded(self, count: int) -> int:
        """How many of them hold what was written."""
        return int(self.ask("loaded", str(count)))

    def seed(self, each: int) -> None:
        """Write so many small keys into every slot; every one must be accepted."""
        assert self.ask("seed", str(each)) == SLOTS * each

    def seeded(self, each: int) -> int:
        """How many of them hold what was written."""
        return int(self.ask("seeded", str(each)))

    def accepts(self, address: str, key: str) -> float:
        """Try until the node at an address accepts a write; when that was, by this machine's monotonic clock."""
        return float(self.ask("accepts", address, key))

    def _reply(self, question: tuple[str, ...]) -> Obj:
        output = self.kube.execute(self.namespace, self.pod, "python", "/scripts/ask.py", *question, within=120)
        assert output.code == 0, f"ask.py {' '.join(question)}: {output.stdout}\n{output.stderr}"
        reply: Obj = json.loads(output.stdout.splitlines()[-1])
        return reply


def start(kube: Kube, image: str, namespace: str, cluster: str, where: Mapping[str, str] | None = None) -> Client:
    """Start a client of `cluster` in the cluster's own namespace, on a node with some labels; wait until it is let in.

    Network policies and Services reach the nodes a moment after a new pod is ready.
    """
    client = start_visitor(kube, image, namespace, cluster, namespace, where=where)
    wait(f"{namespace}/{client.pod} is let in", lambda: client.ask("ping") == "PONG", REACH_SECONDS)
    return client


def start_visitor(
    kube: Kube,
    image: str,
    namespace: str,
    cluster: str,
    cluster_namespace: str,
    *,
    where: Mapping[str, str] | None = None,
) -> Client:
    """Start a client in any namespace, whether the cluster lets it in or not.

    In another namespace than the cluster's it gets a copy of the connection Secret, as a user would have to make one.
    """
    connection = f"{cluster}-connection"
    if cluster_namespace != namespace:
        original = kube.get("Secret", cluster_namespace, connection)
        metadata = {"name": connection, "namespace": namespace}
        kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": original["data"]})
    name = f"{cluster}-client"
    metadata = {"name": name, "namespace": namespace}
    kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ask.py": SCRIPT.read_text()}})
    pod = client_pod(
        namespace=namespace,
        name=name,
        image=image,
        command=("python", "-c", "import signal; signal.sigwait([signal.SIGTERM])"),
        connection=connection,
        scripts=name,
        where=where,
    )
    kube.create(pod)
    until_pod_ready(kube, namespace, name)
    return Client(kube, namespace, name)
