"""Starts the reporter in a pod of its own and reads what it says."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from e2e.diagnosis import explain
from e2e.kube import Kube, wait
from e2e.pods import client_pod

SCRIPT: Final = Path(__file__).with_name("report.py")
START_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class SlotWatch:
    """Of one cluster; not started."""

    kube: Kube
    namespace: str
    cluster: str
    image: str

    @property
    def _pod(self) -> str:
        return f"{self.cluster}-slots"

    @contextmanager
    def watching(self) -> Iterator[None]:
        """From here on slots are counted that have left the primaries of now."""
        metadata = {"name": self._pod, "namespace": self.namespace}
        script = {"report.py": SCRIPT.read_text()}
        self.kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": script})
        try:
            self.kube.create(
                client_pod(
                    namespace=self.namespace,
                    name=self._pod,
                    image=self.image,
                    command=("python", "/scripts/report.py"),
                    connection=f"{self.cluster}-connection",
                    scripts=self._pod,
                )
            )
            why = partial(explain, self.kube, self.namespace)
            wait(f"{self._pod} reports", lambda: self.moved() == 0, START_SECONDS, why)
            yield
        finally:
            self.kube.delete("Pod", self.namespace, self._pod, grace_seconds=0)

    def moved(self) -> int:
        """How many slots others own just now; raises AssertionError while nothing has been reported."""
        word, _, number = self.kube.logs(self.namespace, self._pod, tail=1).strip().partition(" ")
        assert word == "MOVED", f"{self._pod} says {word} {number}"
        return int(number)
