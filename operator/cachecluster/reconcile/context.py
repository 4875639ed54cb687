"""What carrying out an action needs: the edges, the passwords, and connections to nodes whose identity is checked."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cachecluster.api import names
from cachecluster.domain.actions import Target
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.engines.client import NodeClient
from cachecluster.kube.api import Conflict, NotFound
from cachecluster.manifests import Passwords
from cachecluster.reconcile.dependencies import Dependencies


class Doubt(Exception):
    """A precondition does not hold any more; nothing was done. The next pass looks again."""


@dataclass(frozen=True)
class Context:
    """One pass's means of acting on one cluster."""

    ref: ClusterRef
    deps: Dependencies
    passwords: Passwords | None = field(repr=False)

    @property
    def bus_port(self) -> int:
        """The cluster's bus port."""
        return names.bus_port(self.ref.namespace, self.ref.name)

    def known_passwords(self) -> Passwords:
        """The cluster's passwords; raises Doubt if they are not there."""
        if self.passwords is None:
            raise Doubt("the cluster's passwords are not there")
        return self.passwords

    @asynccontextmanager
    async def node(self, target: Target, *, stays: bool = False) -> AsyncIterator[NodeClient]:
        """Connect to the node, sure that pod, uid, address and node id still belong together (S4), and if asked, that
        the pod is not on its way out; raises Doubt.

        Leadership is checked after connecting: on a lost connection nothing is sent again (design §3).
        """
        await self._check_pod(target, stays=stays)
        async with self.again(target) as client:
            yield client

    @asynccontextmanager
    async def again(self, target: Target) -> AsyncIterator[NodeClient]:
        """One more connection to a node to which ``node()`` has led just now; raises Doubt."""
        async with self.deps.nodes.connect(target.ip, self.known_passwords().operator) as client:
            if await client.node_id() != target.node_id:
                raise Doubt(f"{target.pod} has become another node")
            self.require_leadership()
            yield client

    async def delete_pod(self, seen: Manifest, grace_seconds: int | None = None) -> None:
        """Delete the pod as it was read for the last time, with its own grace or another; raises Doubt if it has
        changed since, or if this process may not act any more.
        """
        meta = seen["metadata"]
        self.require_leadership()
        try:
            await self.deps.kube.delete(
                "v1",
                "Pod",
                self.ref.namespace,
                meta["name"],
                uid=meta["uid"],
                resource_version=meta["resourceVersion"],
                grace_seconds=grace_seconds,
            )
        except Conflict as e:
            raise Doubt(f"{meta['name']} has changed since it was read") from e

    def require_leadership(self) -> None:
        """Raises Doubt unless this process may still act."""
        if not self.deps.leader():
            raise Doubt("this process does not lead any more")

    async def _check_pod(self, target: Target, *, stays: bool) -> None:
        try:
            pod = await self.deps.kube.get("v1", "Pod", self.ref.namespace, target.pod)
        except NotFound as e:
            raise Doubt(f"{target.pod} is gone") from e
        if pod["metadata"]["uid"] != target.uid or pod.get("status", {}).get("podIP") != target.ip:
            raise Doubt(f"{target.pod} is another pod by now")
        if stays and "deletionTimestamp" in pod["metadata"]:
            raise Doubt(f"{target.pod} is being deleted")
