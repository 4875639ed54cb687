"""The operator process that leads, and how to kill exactly that one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from e2e.diagnosis import OPERATOR_NAMESPACE, explain
from e2e.kube import Kube, wait
from e2e.platform import Faults, PlatformError

LEASE: Final = "cachecluster-operator"
CONTAINER: Final = "operator"
TAKE_OVER_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Leader:
    """A process that holds the Lease."""

    identity: str
    shoot: Callable[[], None]
    """SIGKILL to its process, found beforehand: it dies at the very moment that is chosen."""

    @property
    def pod(self) -> str:
        """Where it runs."""
        return self.identity.partition("_")[0]


@dataclass(frozen=True, slots=True)
class Leadership:
    """The Lease of the operator."""

    kube: Kube
    faults: Faults

    def holder(self) -> str:
        """Identity of the process that holds it; empty if nobody does."""
        return str(self._lease().get("holderIdentity") or "")

    def _lease(self) -> Mapping[str, Any]:
        return dict(self.kube.get("Lease", OPERATOR_NAMESPACE, LEASE)["spec"])

    def next(self, after: Leader | None = None) -> Leader:
        """Wait until a process leads, other than `after`.

        Without `after` one that renews its Lease once it has been found: the Lease may name one that has ended.
        """
        former = after.identity if after is not None else ""
        found: dict[str, tuple[Leader, str]] = {}

        def leads() -> Leader | None:
            lease = self._lease()
            holder, renewed = str(lease.get("holderIdentity") or ""), str(lease.get("renewTime"))
            if not holder or holder == former:
                return None
            if holder not in found:
                leader = self._aim(holder)
                if leader is None or after is not None:
                    return leader
                found[holder] = leader, renewed
            leader, then = found[holder]
            return leader if renewed != then else None

        why = partial(explain, self.kube, OPERATOR_NAMESPACE)
        return wait("a process of the operator leads", leads, TAKE_OVER_SECONDS, why)

    def _aim(self, identity: str) -> Leader | None:
        """None while it has no process: its container, or its pod, has just ended."""
        try:
            return Leader(identity, self.faults.aim(OPERATOR_NAMESPACE, identity.partition("_")[0], CONTAINER))
        except PlatformError:
            return None

    def kill(self, leader: Leader) -> None:
        """SIGKILL to it while it leads; fails if it led no more.

        As it is dead for certain, its Lease is given back and its pod replaced: that the others would wait for the one
        to expire, and the kubelet before it restarts the other, is not what a scenario of many kills is about.
        """
        leader.shoot()
        self.kube.delete("Pod", OPERATOR_NAMESPACE, leader.pod, grace_seconds=0)
        assert self.holder() == leader.identity, f"{leader.identity} was killed and did not lead"
        self.kube.patch("Lease", OPERATOR_NAMESPACE, LEASE, {"spec": {"holderIdentity": ""}})
