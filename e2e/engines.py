"""The engine nodes of a cluster, asked and told by hand: what a scenario checks the operator's word against."""

from base64 import b64decode
from typing import Final

from e2e.cluster import Cluster
from e2e.kube import Kube

OPERATOR: Final = "cachecluster-operator"
"""User of the engine who may read and set parameters."""


class Engines:
    """The nodes of a cluster, asked and told by hand with the operator's own password."""

    def __init__(self, kube: Kube, cluster: Cluster) -> None:
        self._kube, self._cluster = kube, cluster
        self._password = b64decode(cluster.secret("system")["data"]["operator-password"]).decode()

    def value(self, pod: str, name: str) -> str:
        """CONFIG GET on one node."""
        lines = self._say(pod, "CONFIG", "GET", name).splitlines()
        return lines[1] if len(lines) > 1 else ""

    def values(self, name: str) -> set[str]:
        """CONFIG GET on every node."""
        return {self.value(member.name, name) for member in self._cluster.members()}

    def set(self, pod: str, name: str, value: str) -> None:
        """CONFIG SET on one node."""
        assert self._say(pod, "CONFIG", "SET", name, value) == "OK"

    def sessions(self, address: str) -> list[str]:
        """Sessions of the operator's user from an address, on any node.

        Who has connected and not logged in yet is not among them: it asks whether it leads before it says more.
        """
        found = []
        for member in self._cluster.members():
            rows = self._say(member.name, "CLIENT", "LIST").splitlines()
            found += [
                f"{member.name}: {r}" for r in rows if f" addr={address}:" in r and f" user={OPERATOR} " in f"{r} "
            ]
        return found

    def _say(self, pod: str, *words: str) -> str:
        script = 'REDISCLI_AUTH=$1 user=$2; export REDISCLI_AUTH; shift 2; valkey-cli -h "$POD_IP" --user "$user" "$@"'
        command = ("sh", "-c", script, "sh", self._password, OPERATOR, *words)
        output = self._kube.execute(self._cluster.namespace, pod, *command, container="engine")
        assert output.code == 0, f"{pod} {' '.join(words)}: {output.stdout}{output.stderr}"
        return output.stdout.strip()
