"""Namespaces of scenarios: restricted pods only, and gone without a rest afterwards."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from e2e.diagnosis import explain
from e2e.kube import Kube, Obj, wait

GONE_SECONDS: Final = 180.0
LABEL: Final = "cachecluster.dev/e2e"


@contextmanager
def namespace(kube: Kube, purpose: str, *, keep: bool = False) -> Iterator[str]:
    """A namespace under the restricted Pod Security Standard; afterwards it is told to go, and `until_gone` waits."""
    name = f"e2e-{purpose}-{secrets.token_hex(3)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", LABEL: "true"}
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        if not keep:
            kube.delete("Namespace", "", name)


def until_gone(kube: Kube) -> None:
    """Every namespace that has been told to go is gone, with all that was in it. Others tell more of them meanwhile."""

    def going() -> dict[str, Obj]:
        told = (n for n in kube.list("Namespace", "", f"{LABEL}=true") if "deletionTimestamp" in n["metadata"])
        return {n["metadata"]["uid"]: n for n in told}

    awaited = going().keys()

    def left() -> list[Obj]:
        return [n for uid, n in going().items() if uid in awaited]

    def explanation() -> str:
        return "\n".join(f"{n['status']}\n{explain(kube, n['metadata']['name'])}" for n in left())

    wait("all namespaces of the scenarios are gone", lambda: not left(), GONE_SECONDS, explanation)
