"""What to show when a wait fails: the cache clusters' own words first, then events, pods and the operator's log."""

import json
from collections.abc import Callable
from typing import Any, Final

from e2e.kube import ApiError, Kube, Obj

OPERATOR_NAMESPACE: Final = "cachecluster-system"
OPERATOR_SELECTOR: Final = "app.kubernetes.io/name=cachecluster-operator"
LOG_LINES: Final = 60
LINE_LENGTH: Final = 600
EVENTS: Final = 40


def explain(kube: Kube, namespace: str) -> str:
    """A report on one namespace; never raises, because it runs while something else has failed already."""
    sections: tuple[tuple[str, Callable[[], str]], ...] = (
        ("cache clusters", lambda: _clusters(kube, namespace)),
        ("pods", lambda: "\n".join(_pod(p) for p in kube.list("Pod", namespace))),
        ("events", lambda: _events(kube, namespace)),
        ("pods of the operator", lambda: "\n".join(_pod(p) for p in _operator_pods(kube))),
        ("operator log", lambda: _operator_log(kube)),
    )
    return "\n".join(f"--- {title}\n{_guarded(section)}" for title, section in sections)


def _guarded(section: Callable[[], str]) -> str:
    try:
        return section() or "(none)"
    except (ApiError, KeyError) as error:
        return f"(could not be read: {error})"


def _clusters(kube: Kube, namespace: str) -> str:
    found = kube.list("CacheCluster", namespace)
    return "\n".join(
        f"{c['metadata']['name']} generation {c['metadata']['generation']}: {json.dumps(c.get('status', {}), indent=1)}"
        for c in found
    )


def _pod(pod: Obj) -> str:
    status: dict[str, Any] = pod.get("status", {})
    containers = ", ".join(
        f"{c['name']} ready={c['ready']} restarts={c['restartCount']} {json.dumps(c.get('state', {}))}"
        for c in status.get("containerStatuses", [])
    )
    conditions = [
        f"{c['type']}: {c.get('message')}"
        for c in status.get("conditions", [])
        if c["status"] != "True" and c.get("message")
    ]
    leaving = " deleting" if "deletionTimestamp" in pod["metadata"] else ""
    labels = {k.rpartition("/")[2]: v for k, v in pod["metadata"].get("labels", {}).items() if "cachecluster.dev" in k}
    return (
        f"{pod['metadata']['name']} on {pod['spec'].get('nodeName')} {status.get('phase')}{leaving} "
        f"{labels} {containers} {conditions}"
    )


def _events(kube: Kube, namespace: str) -> str:
    events = sorted(kube.list("Event", namespace), key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    return "\n".join(
        f"{e.get('lastTimestamp') or e.get('eventTime')} {e['type']} {e['reason']} "
        f"{e['involvedObject']['kind']}/{e['involvedObject']['name']}: {e.get('message')}"
        for e in events[-EVENTS:]
    )


def _operator_pods(kube: Kube) -> list[Obj]:
    return kube.list("Pod", OPERATOR_NAMESPACE, OPERATOR_SELECTOR)


def _operator_log(kube: Kube) -> str:
    parts = []
    for pod in _operator_pods(kube):
        name = pod["metadata"]["name"]
        try:
            lines = kube.logs(OPERATOR_NAMESPACE, name, tail=LOG_LINES).splitlines()
            parts.append("\n".join([f"{name}:", *(line[:LINE_LENGTH] for line in lines)]))
        except ApiError as error:
            parts.append(f"{name}: {error}")
    return "\n".join(parts)
