"""Reasons to stop before anything is done."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain import fence
from cachecluster.domain.listing import listed
from cachecluster.domain.plan import Block, Verdict, Wait
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.snapshot import InvalidSpec, ObjectKey

FOREIGN_GRACE_SECONDS: Final = 10.0
"""A node of ours that has just gone stays "connected" in its peers' tables for up to the node timeout and a bit."""


def stop_while_paused(now: Situation) -> Iterator[Verdict]:
    """The user has asked for hands off, promotion included."""
    if now.snap.spec.paused:
        yield Block(Reason.PAUSED, "spec.paused is true: the operator changes nothing; set it to false to go on", True)


def stop_without_passwords(now: Situation) -> Iterator[Verdict]:
    """Never re-key a running cluster: its Secret has to come back (design §2)."""
    name = names.system_secret(now.snap.ref.name)
    if not now.snap.system_secret_exists and now.snap.pods:
        message = (
            f"Secret {name} is gone while pods run with its passwords; restore it from a backup. "
            "Nothing is changed until then, and no new passwords are made"
        )
        yield Block(Reason.SYSTEM_SECRET_MISSING, message, True)
    secret = now.snap.children.get(ObjectKey("Secret", name))
    if secret is not None and "deletionTimestamp" in secret["metadata"]:
        message = f"somebody deleted Secret {name}; a finalizer keeps it in use until the CacheCluster is deleted"
        yield Block(Reason.SYSTEM_SECRET_DELETED, message)


def stop_on_foreign_nodes(now: Situation) -> Iterator[Verdict]:
    """S4: a living node in our tables that is none of our pods means that two clusters have met."""
    for foreign in now.snap.foreign:
        if foreign.alive_since is None:
            continue
        age = now.snap.now - foreign.alive_since
        if age >= fence.timeout_seconds(now.topology) + FOREIGN_GRACE_SECONDS:
            message = (
                f"node {foreign.node_id} at {foreign.ip} is linked to this cluster but is none of its pods: two "
                f"clusters may have merged{_or_left_over(now)}. Nothing is changed until the link is gone; check who "
                "owns that address"
            )
            yield Block(Reason.FOREIGN_NODE, message, True)
        else:
            yield Wait(Reason.FORGETTING_NODE, f"node {foreign.node_id} at {foreign.ip} has just gone", 1.0)


def _or_left_over(now: Situation) -> str:
    """Another explanation, where there is one."""
    silent = [name for name, host in sorted(now.snap.hosts.items()) if not host.ready]
    if not silent:
        return ""
    return f", or the process of a deleted pod runs on where no kubelet ends it (on Kubernetes node {listed(silent)})"


def stop_on_foreign_volumes(now: Situation) -> Iterator[Verdict]:
    """A volume that another cluster has written stays untouched; the start script has refused it."""
    for pod in now.snap.pods:
        container = pod.container
        if container is not None and container.last_exit_code == FOREIGN_VOLUME_EXIT_CODE:
            yield Block(Reason.FOREIGN_VOLUME, f"{pod.name}: {container.last_termination}")


FOREIGN_VOLUME_EXIT_CODE: Final = 3
"""Exit code of the start script when the volume holds another CacheCluster's uid."""


def stop_on_invalid_spec(now: Situation) -> Iterator[Verdict]:
    """The running cluster stays as it is; promotion goes on, and labels follow it: both come before this policy."""
    if isinstance(now.snap.spec, InvalidSpec):
        yield Block(Reason.INVALID_SPEC, now.snap.spec.message, True)


POLICIES: Final = (stop_while_paused, stop_without_passwords, stop_on_foreign_nodes, stop_on_foreign_volumes)
