"""Namespaces of scenarios: restricted pods only, and gone without a rest afterwards."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from e2e.diagnosis import explain
from e2e.kube import Kube, wait

GONE_SECONDS: Final = 180.0
LABEL: Final = "cachecluster.dev/e2e"


@contextmanager
def namespace(kube: Kube, purpose: str, *, keep: bool = False) -> Iterator[str]:
    """A namespace under the restricted Pod Security Standard; it must be deletable with all that is in it."""
    name = f"e2e-{purpose}-{secrets.token_hex(3)}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted", LABEL: "true"}
    kube.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    try:
        yield name
    finally:
        if not keep:
            kube.delete("Namespace", "", name)
            wait(
                f"namespace {name} is gone",
                lambda: kube.find("Namespace", "", name) is None,
                GONE_SECONDS,
                lambda: f"{(kube.find('Namespace', '', name) or {}).get('status')}\n{explain(kube, name)}",
            )
