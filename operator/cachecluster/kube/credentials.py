"""Where the API server is and who we are there: from the pod's service account, or from a kubeconfig."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration

from cachecluster.kube.api import Unavailable

_TOKEN = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


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
        try:
            if self.in_cluster:
                config.load_incluster_config(client_configuration=found)
            else:
                await config.load_kube_config(
                    config_file=self.kubeconfig,
                    context=self.context,
                    client_configuration=found,
                    persist_config=False,
                )
        except (config.ConfigException, OSError) as error:
            raise Unavailable(f"no credentials for the Kubernetes API: {error}") from error
        return found

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
