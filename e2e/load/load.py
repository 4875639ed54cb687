"""Starts the load in a pod of its own and brings back what it saw."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from e2e.diagnosis import explain
from e2e.kube import Kube, wait
from e2e.pods import client_pod

SCRIPT: Final = Path(__file__).with_name("burn.py")
STOP: Final = "import os, signal; os.kill(1, signal.SIGTERM)"
START_SECONDS: Final = 120.0
STOP_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """Of one cluster; not started."""

    kube: Kube
    namespace: str
    cluster: str
    image: str

    @property
    def _pod(self) -> str:
        return f"{self.cluster}-load"

    @contextmanager
    def burning(self, cores: float) -> Iterator[None]:
        """So much CPU time, of all primaries together, within the block; at its end no call may have failed."""
        try:
            self._start(cores)
            yield
            self._finish()
        finally:
            self.kube.delete("Pod", self.namespace, self._pod, grace_seconds=0)

    def _start(self, cores: float) -> None:
        metadata = {"name": self._pod, "namespace": self.namespace}
        script = {"burn.py": SCRIPT.read_text()}
        self.kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": script})
        self.kube.create(
            client_pod(
                namespace=self.namespace,
                name=self._pod,
                image=self.image,
                command=("python", "/scripts/burn.py"),
                connection=f"{self.cluster}-connection",
                scripts=self._pod,
                env={"BURN_CORES": str(cores)},
            )
        )
        wait(f"{self._pod} burns", lambda: self._line("BURNING"), START_SECONDS, self._explain)

    def _finish(self) -> None:
        self.kube.execute(self.namespace, self._pod, "python", "-c", STOP)
        line = wait(f"summary of {self._pod}", lambda: self._line("SUMMARY "), STOP_SECONDS, self._explain)
        summary: Mapping[str, Any] = json.loads(line.removeprefix("SUMMARY "))
        assert summary["calls"] > 0, summary
        assert not summary["errors"], summary

    def _line(self, prefix: str) -> str | None:
        return next((line for line in self._log() if line.startswith(prefix)), None)

    def _log(self) -> list[str]:
        return self.kube.logs(self.namespace, self._pod).splitlines()

    def _explain(self) -> str:
        return explain(self.kube, self.namespace)
