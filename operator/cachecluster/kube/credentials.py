"""Where the API server is and who we are there: from the pod's service account, or from a kubeconfig."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from cachecluster.kube.api import Unavailable

_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TOKEN = _ACCOUNT / "token"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Address and credentials in plain values, for a client that is not ours (the watches)."""

    server: str
    ca_path: str | None
    insecure: bool
    token: str | None = field(repr=False)
    certificate_path: str | None = None
    private_key_path: str | None = None
    proxy_url: str | None = None


@dataclass(frozen=True, slots=True)
class Credentials:
    """Read anew on every call, so that rotated tokens and certificates are picked up."""

    kubeconfig: str | None = None
    """Path; None: the service account inside a pod, else $KUBECONFIG or ~/.kube/config."""
    context: str | None = None
    """Name of a context of the kubeconfig; None: its current one."""

    @property
    def in_cluster(self) -> bool:
        """The service account is used."""
        named = self.kubeconfig or self.context
        return not named and bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and _TOKEN.exists()

    async def configuration(self) -> Any:
        """A fresh ``kubernetes.aio`` Configuration; raises Unavailable if there are no usable credentials."""
        found = Configuration()
        with _reading():
            if self.in_cluster:
                config.load_incluster_config(client_configuration=found)
            else:
                await config.load_kube_config(
                    config_file=self.kubeconfig,
                    context=self.context,
                    client_configuration=found,
                    persist_config=False,
                )
        return found

    def namespace(self) -> str:
        """Where a command applies that names no namespace: in the pod's, or the context's; raises Unavailable."""
        with _reading():
            if self.in_cluster:
                return (_ACCOUNT / "namespace").read_text().strip()
            contexts, current = config.list_kube_config_contexts(self.kubeconfig)
            chosen = next((c for c in contexts if c["name"] == self.context), current)
        return chosen["context"].get("namespace") or "default"

    async def endpoint(self) -> Endpoint:
        """The same as plain values; raises Unavailable."""
        found = await self.configuration()
        header = await found.get_api_key_with_prefix("BearerToken") or ""
        scheme, _, token = header.partition(" ")
        return Endpoint(
            server=found.host,
            ca_path=found.ssl_ca_cert,
            insecure=not found.verify_ssl,
            token=(token if scheme.lower() == "bearer" else header) or None,
            certificate_path=found.cert_file,
            private_key_path=found.key_file,
            proxy_url=found.proxy,
        )


@contextmanager
def _reading() -> Iterator[None]:
    """Turn what can be wrong with credentials into Unavailable."""
    try:
        yield
    except (config.ConfigException, yaml.YAMLError, OSError) as error:
        raise Unavailable(f"no credentials for the Kubernetes API: {error}") from error
    except TypeError as error:  # how the loader finds that a file is empty or holds no mapping
        raise Unavailable("no credentials for the Kubernetes API: the kubeconfig is empty or not a mapping") from error
