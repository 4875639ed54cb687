"""Runs writers beside a cluster, one in every zone, and brings their histories back."""

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
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
TURN: Final = "import os, signal; os.kill(1, signal.SIGUSR1)"
ZONE: Final = "topology.kubernetes.io/zone"
HOST: Final = "kubernetes.io/hostname"
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

    @property
    def lost(self) -> int:
        """Acknowledged writes that were not there later: lost, rolled back or, if deletions, resurrected."""
        return self._sum("lost")

    @property
    def lost_within_milliseconds(self) -> Mapping[str, int]:
        """For each shard's slots that lost something: between the first and the last of those acknowledgements."""
        worst: dict[str, int] = {}
        for summary in self.summaries:
            for slots, span in summary["lostWithinMilliseconds"].items():
                worst[slots] = max(worst.get(slots, 0), int(span))
        return worst

    def assert_nothing_lost(self, at_least: int = 100) -> None:
        """No acknowledged write lost, rolled back or resurrected, out of enough writes to mean something."""
        losses = [line for s in self.summaries for line in s["firstLosses"]]
        assert not losses, f"{self.lost} acknowledged writes lost, among them:\n" + "\n".join(losses)
        self.assert_consistent(at_least)

    def assert_lost_at_most(self, seconds: float, slots: AbstractSet[str], at_least: int = 100) -> None:
        """Only what some shards have acknowledged within so many seconds is lost."""
        within = self.lost_within_milliseconds
        assert within.keys() <= slots, f"others than the shards of {slots} have lost acknowledged writes: {self}"
        assert max(within.values(), default=0) <= seconds * 1000, f"writes of more than {seconds} s are lost: {self}"
        self.assert_consistent(at_least)

    def assert_consistent(self, at_least: int = 100) -> None:
        """Nothing doubled, out of order or never written is there, out of enough writes to mean something."""
        violations = [v for s in self.summaries for v in s["firstViolations"]]
        assert not violations, f"{self._sum('violations')} violations, among them:\n" + "\n".join(violations)
        assert self.acked >= at_least, f"only {self.acked} writes were acknowledged: {self}"

    def __str__(self) -> str:
        return json.dumps(list(self.summaries))

    def _sum(self, key: str) -> int:
        return sum(int(s[key]) for s in self.summaries)


class Recorder:
    """Writers of one cluster; `history` is there once a recording, or a round of it, has ended."""

    def __init__(self, kube: Kube, namespace: str, cluster: str, image: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._cluster = cluster
        self._image = image
        self._writers: Mapping[str, str] = {}
        self._round = 0
        self._history: History | None = None

    @property
    def history(self) -> History:
        """What was recorded last; only after the recording, or the round, has ended."""
        assert self._history is not None, "the recording has not ended"
        return self._history

    @contextmanager
    def writing(self, nodes: Sequence[str] = ()) -> Iterator[None]:
        """Writers run in every zone, or on these nodes, within the block; at its end they verify and are removed."""
        try:
            self._start(nodes)
            yield
            self._finish(STOP)
        finally:
            for pod in self._writers:
                self._kube.delete("Pod", self._namespace, pod, grace_seconds=0)

    @contextmanager
    def round(self) -> Iterator[None]:
        """A part of `writing`, with a history of its own."""
        self._await_writers()
        yield
        self._finish(TURN)

    def _start(self, nodes: Sequence[str]) -> None:
        script, recording = f"{self._cluster}-recorder", secrets.token_hex(3)  # keys of their own in each recording
        metadata = {"name": script, "namespace": self._namespace}
        self._kube.apply(
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"record.py": SCRIPT.read_text()}}
        )
        label = HOST if nodes else ZONE
        pods = {
            f"{place}-{recording}": client_pod(
                namespace=self._namespace,
                name=f"{self._cluster}-writer-{place}",
                image=self._image,
                command=("python", "/scripts/record.py"),
                connection=f"{self._cluster}-connection",
                scripts=script,
                where={label: place},
                env={"RECORD_WRITER": f"{place}-{recording}"},
            )
            for place in nodes or zones(self._kube)
        }
        self._writers = {pod["metadata"]["name"]: writer for writer, pod in pods.items()}
        self._round = 1
        for pod in pods.values():
            wait(f"{pod['metadata']['name']} of an earlier recording is gone", partial(self._absent, pod), 60)
            self._kube.create(pod)
        self._await_writers()

    def _await_writers(self) -> None:
        for pod, writer in self._writers.items():
            line = f"RECORDING {writer}-{self._round}"
            wait(f"{pod} writes to every shard", partial(self._line, pod, line), START_SECONDS, self._explain)

    def _finish(self, signal: str) -> None:
        """End a round; the history is that of all writers."""
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda pod: self._kube.execute(self._namespace, pod, "python", "-c", signal), self._writers))
        summaries = []
        for pod, writer in self._writers.items():
            start = f'SUMMARY {{"writer": "{writer}-{self._round}"'
            line = wait(f"summary of {pod}", partial(self._line, pod, start), VERIFY_SECONDS, self._explain)
            summaries.append(json.loads(line.removeprefix("SUMMARY ")))
        self._round += 1
        self._history = History(tuple(summaries))
        print(f"recorded: {self._history}")

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
        for pod in self._writers:
            try:
                logs.append(f"--- {pod}\n" + "\n".join(self._log(pod)[-20:]))
            except ApiError as error:
                logs.append(f"--- {pod}: {error}")
        return "\n".join([explain(self._kube, self._namespace), *logs])


def zones(kube: Kube) -> Sequence[str]:
    """Zones of the nodes, sorted."""
    labels = (node["metadata"]["labels"] for node in kube.list("Node"))
    return sorted({label[ZONE] for label in labels if ZONE in label})
