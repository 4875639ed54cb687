"""Finds the processes of Pods' containers on this machine, by the cgroups that kubelets make for them."""

import contextlib
from pathlib import Path
from typing import Any

from e2e.localcluster import cgroups
from e2e.localcluster.api import Api
from e2e.localcluster.instance import Instance, LocalClusterError
from e2e.localcluster.processes import Process


def first_process(instance: Instance, namespace: str, pod: str, container: str) -> Process:
    """The process with which a running container was started; raises LocalClusterError if it does not run."""
    found = _pod(instance, namespace, pod)
    ids = _container_ids(found)
    if container not in ids:
        raise LocalClusterError(
            f"pod {namespace}/{pod} has no running container {container!r}; running: {', '.join(ids) or 'none'}"
        )
    members = _members(instance, found, ids[container])
    if not members:
        raise LocalClusterError(f"container {container} of pod {namespace}/{pod} has no process just now")
    # What `kubectl exec` starts is in the same cgroup; the first process is number 1 of the container's namespace.
    return next((p for p in members if _innermost_pid(p) == 1), min(members, key=lambda p: p.started))


def command_lines(instance: Instance, namespace: str, pod: str) -> list[str]:
    """Command lines of the processes of all containers of a Pod; raises LocalClusterError."""
    found = _pod(instance, namespace, pod)
    lines = []
    for identity in _container_ids(found).values():
        for member in _members(instance, found, identity):
            with contextlib.suppress(OSError):
                arguments = Path(f"/proc/{member.pid}/cmdline").read_bytes().split(b"\0")
                lines.append(b" ".join(arguments).decode(errors="replace").strip())
    return lines


def _pod(instance: Instance, namespace: str, pod: str) -> Any:
    found = Api(instance.kubeconfig).pod(namespace, pod)
    if found is None:
        raise LocalClusterError(f"there is no pod {namespace}/{pod}, or the API server does not answer")
    return found


def _container_ids(pod: Any) -> dict[str, str]:
    statuses = pod.get("status", {}).get("containerStatuses", []) + pod.get("status", {}).get(
        "initContainerStatuses", []
    )
    return {
        str(status["name"]): str(status["containerID"]).rpartition("/")[2]
        for status in statuses
        if "running" in status.get("state", {})
    }


def _members(instance: Instance, pod: Any, identity: str) -> list[Process]:
    return cgroups.container(instance.cgroup, pod["spec"]["nodeName"], pod["metadata"]["uid"], identity)


def _innermost_pid(member: Process) -> int | None:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{member.pid}/status").read_text().splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return None
