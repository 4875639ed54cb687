"""Questions to the API server from this machine, through the forwarder: enough for waiting and for finding Pods."""

import base64
import json
import ssl
import urllib.request
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

REQUEST_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Api:
    """The API server that a kubeconfig of ours names, as its user."""

    kubeconfig: Path

    def get(self, path: str) -> Any | None:
        """The JSON, or text, at `path`; None if there is no answer or a refusal."""
        config = json.loads(self.kubeconfig.read_text())
        cluster, token = config["clusters"][0]["cluster"], config["users"][0]["user"]["token"]
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}),  # the address is on this machine, whatever the environment says
            urllib.request.HTTPSHandler(context=ssl.create_default_context(cadata=authority)),
        )
        opener.addheaders = [("Authorization", f"Bearer {token}")]
        try:
            with opener.open(cluster["server"] + path, timeout=REQUEST_SECONDS) as response:
                body = response.read().decode()
                return json.loads(body) if response.headers.get_content_type() == "application/json" else body
        except OSError:  # URLError and its kin included
            return None

    def is_ready(self) -> bool:
        """Whether the API server says that it is."""
        return self.get("/readyz") == "ok"

    def nodes(self) -> set[str]:
        """Names of the nodes that are registered."""
        return {str(node["metadata"]["name"]) for node in self._nodes()}

    def ready_nodes(self, since: float = 0.0) -> set[str]:
        """Names of the nodes that are Ready and have said so after `since`, in seconds of Unix time."""
        return {str(node["metadata"]["name"]) for node in self._nodes() if _ready_at(node) > since}

    def pod(self, namespace: str, name: str) -> Any | None:
        """A Pod, or None."""
        return self.get(f"/api/v1/namespaces/{namespace}/pods/{name}")

    def _nodes(self) -> list[Any]:
        found = self.get("/api/v1/nodes")
        return [] if found is None else list(found["items"])


def _ready_at(node: Any) -> float:
    """When its kubelet last said that it is Ready; below 0 if it is not."""
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready" and condition["status"] == "True":
            return datetime.fromisoformat(condition["lastHeartbeatTime"]).timestamp()
    return -1.0
