"""A cluster that is there already, named by the user: never the context that happens to be current."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from kubernetes import config

from e2e.platform.base import Access, PlatformError


class ExistingPlatform:
    """A kube-context of the user's kubeconfig. Its nodes pull the images themselves."""

    name = "existing"
    faults = None

    def __init__(self, context: str | None, image: str | None) -> None:
        self._context = context
        self._image = image

    def up(self) -> Access:
        """Find the named context; nothing is created."""
        kubeconfig = Path(os.environ.get("KUBECONFIG") or Path.home() / ".kube" / "config")
        if not kubeconfig.is_file():
            raise PlatformError(f"there is no kubeconfig at {kubeconfig}; set KUBECONFIG to one file")
        known = [c["name"] for c in config.list_kube_config_contexts(str(kubeconfig))[0]]
        if self._context is None:
            raise PlatformError(f"name the cluster to use with --context; contexts in {kubeconfig}: {', '.join(known)}")
        if self._context not in known:
            raise PlatformError(f"{kubeconfig} has no context {self._context}; it has {', '.join(known)}")
        if self._image is None:
            raise PlatformError("--image is needed: an operator image that the cluster's nodes can pull")
        return Access(
            kubeconfig,
            self._context,
            (require("kubectl"), "--kubeconfig", str(kubeconfig), "--context", self._context),
            (require("helm"), "--kubeconfig", str(kubeconfig), "--kube-context", self._context),
        )

    def down(self) -> None:
        """The cluster is the user's: it stays."""

    def load_engines(self, families: Sequence[str]) -> None:
        """Nodes pull the upstream images."""

    def load_operator(self, tag: str) -> str:  # noqa: ARG002
        """The image that the user has named."""
        if self._image is None:
            raise PlatformError("--image is needed: an operator image that the cluster's nodes can pull")
        return self._image

    def advice(self) -> str:
        """kubectl works already."""
        return f"kubectl config use-context {self._context}"


def require(program: str) -> str:
    """Path of a program; raises PlatformError if it is not installed."""
    found = shutil.which(program)
    if found is None:
        raise PlatformError(f"{program} is not installed")
    return found
