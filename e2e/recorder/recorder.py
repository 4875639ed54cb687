"""Runs writers beside a cluster, one in every zone, and brings their histories back."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from e2e.diagnosis import explain
from e2e.kube import ApiError, Kube, Obj, wait
from e2e.pods import client_pod

SCRIPT: Final = Path(__file__).with_name("record.py")
STOP: Final = "import os, signal; os.kill(1, signal.SIGTERM)"
START_SECONDS: Final = 180.0
VERIFY_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class History:
    """What all writers saw, after each has compared its history with the cluster."""

    summaries: tuple[Mapping[str, Any], ...]

    @property
    def acked(self) -> int:
        """Writes that the cluster has acknowledged."""
        return self._sum("acked")

    @property
    def failed(self) -> int:
        """Writes that were refused or left without an answer."""
        return self._sum("refused") + self._sum("indeterminate")

    @property
    def errors(self) -> int:
        """Requests of any kind that ended with an error, reads included."""
        return sum(int(count) for s in self.summaries for count in s["errors"].values())

    @property
    def longest_gap_milliseconds(self) -> int:
        """Longest time in which some writer could neither read nor write some shard."""
        return max(int(gap) for s in self.summaries for gap in s["longestGapMilliseconds"].values())

    def assert_nothing_lost(self, at_least: int = 100) -> None:
        """No acknowledged write lost, rolled back or resurrected, out of enough writes to mean something."""
        violations = [v for s in self.summaries for v in s["firstViolations"]]
        count = self._sum("violations")
        assert not violations, f"{count} violations, among them:\n" + "\n".join(violations)
        assert self.acked >= at_least, f"only {self.acked} writes were acknowledged: {self}"

    def __str__(self) -> str:
        return json.dumps(list(self.summaries))

    def _sum(self, key: str) -> int:
        return sum(int(s[key]) for s in self.summaries)


class Recorder:
    """Writers of one cluster; `history` is there once the recording has ended."""

    def __init__(self, kube: Kube, namespace: str, cluster: str, image: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._cluster = cluster
        self._image = image
        self._pods: tuple[str, ...] = ()
        self._history: History | None = None

    @property
    def history(self) -> History:
        """What was recorded; only after the recording has ended."""
        assert self._history is not None, "the recording has not ended"
        return self._history

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Writers run in every zone within the block; at its end they verify and are removed."""
        try:
            self._start()
            yield
            self._history = self._finish()
            print(f"recorded: {self._history}")
        finally:
            for pod in self._pods:
                self._kube.delete("Pod", self._namespace, pod, grace_seconds=0)

    def _start(self) -> None:
        script, recording = f"{self._cluster}-recorder", secrets.token_hex(3)  # keys of their own in each recording
        metadata = {"name": script, "namespace": self._namespace}
        self._kube.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"record.py": SCRIPT.read_text()}}
        )
        pods = [
            client_pod(
                namespace=self._namespace,
                name=f"{self._cluster}-writer-{zone}",
                image=self._image,
                command=("python", "/scripts/record.py"),
                connection=f"{self._cluster}-connection",
                scripts=script,
                zone=zone,
                env={"RECORD_WRITER": f"{zone}-{recording}"},
            )
            for zone in zones(self._kube)
        ]
        self._pods = tuple(pod["metadata"]["name"] for pod in pods)
        for pod in pods:
            wait(f"{pod['metadata']['name']} of an earlier recording is gone", partial(self._absent, pod), 60)
            self._kube.create(pod)
        for name in self._pods:
            wait(f"{name} writes to every shard", partial(self._line, name, "RECORDING"), START_SECONDS, self._explain)

    def _finish(self) -> History:
        for pod in self._pods:
            self._kube.execute(self._namespace, pod, "python", "-c", STOP)
        lines = [
            wait(f"summary of {pod}", partial(self._line, pod, "SUMMARY "), VERIFY_SECONDS, self._explain)
            for pod in self._pods
        ]
        return History(tuple(json.loads(line.removeprefix("SUMMARY ")) for line in lines))

    def _absent(self, pod: Obj) -> bool:
        return self._kube.find("Pod", self._namespace, pod["metadata"]["name"]) is None

    def _line(self, pod: str, prefix: str) -> str | None:
        found = [line for line in self._log(pod) if line.startswith(prefix)]
        if not found and self._kube.get("Pod", self._namespace, pod)["status"].get("phase") == "Failed":
            raise RuntimeError(f"writer {pod} has failed:\n" + "\n".join(self._log(pod)[-40:]))
        return found[-1] if found else None

    def _log(self, pod: str) -> list[str]:
        return self._kube.logs(self._namespace, pod).splitlines()

    def _explain(self) -> str:
        logs = []
        for pod in self._pods:
            try:
                logs.append(f"--- {pod}\n" + "\n".join(self._log(pod)[-20:]))
            except ApiError as error:
                logs.append(f"--- {pod}: {error}")
        return "\n".join([explain(self._kube, self._namespace), *logs])


def zones(kube: Kube) -> Sequence[str]:
    """Zones of the nodes, sorted."""
    labels = (node["metadata"]["labels"] for node in kube.list("Node"))
    return sorted({label["topology.kubernetes.io/zone"] for label in labels if "topology.kubernetes.io/zone" in label})
