"""Finds the processes of Pods' containers on this machine, by the cgroups that kubelets make for them."""

import contextlib
from pathlib import Path
from typing import Any, Final

from e2e.localcluster import cgroups
from e2e.localcluster.api import Api
from e2e.localcluster.commands import wait_until
from e2e.localcluster.instance import Instance, LocalClusterError
from e2e.localcluster.processes import Process

OOM_SECONDS: Final = 30.0


def first_process(instance: Instance, namespace: str, pod: str, container: str) -> Process:
    """The process with which a running container was started; raises LocalClusterError if it does not run."""
    found = _pod(instance, namespace, pod)
    return _first(instance, found, _running(found, container))


def starve(instance: Instance, namespace: str, pod: str, container: str) -> None:
    """Leave a container no more memory than it uses, until the kernel's OOM killer has taken its first process.

    Raises:
        LocalClusterError: it does not run, or the kernel lets it live.
    """
    found = _pod(instance, namespace, pod)
    identity = _running(found, container)
    victim = _first(instance, found, identity)
    where = (instance.cgroup, str(found["spec"]["nodeName"]), str(found["metadata"]["uid"]), identity)

    def killed() -> bool:
        cgroups.take_memory(*where)
        return not victim.alive

    wait_until(f"{container} of pod {namespace}/{pod} is out of memory", killed, OOM_SECONDS)


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


def _running(pod: Any, container: str) -> str:
    """Identity of a running container; raises LocalClusterError."""
    ids = _container_ids(pod)
    if container not in ids:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        raise LocalClusterError(
            f"pod {name} has no running container {container!r}; running: {', '.join(ids) or 'none'}"
        )
    return ids[container]


def _first(instance: Instance, pod: Any, identity: str) -> Process:
    members = _members(instance, pod, identity)
    if not members:
        name = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
        raise LocalClusterError(f"container {identity} of pod {name} has no process just now")
    # What `kubectl exec` starts is in the same cgroup; the first process is number 1 of the container's namespace.
    return next((p for p in members if _innermost_pid(p) == 1), min(members, key=lambda p: p.started))


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
