"""Certificates, tokens and kubeconfigs of one local cluster. They are made anew by every `up` and go with `down`."""

import base64
import json
import secrets
from pathlib import Path
from typing import Final

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from e2e.localcluster.instance import Instance, Layout

ADMIN: Final = "admin"
CONTROLLER_MANAGER: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"
PROXY: Final = "kube-proxy"
INFRASTRUCTURE: Final = "infrastructure"
FRONT_PROXY: Final = "front-proxy-client"
METRICS_HOST: Final = "metrics-server.kube-system.svc"
MASTERS: Final = "system:masters"
API_PORT: Final = 6443


class Pki:
    """Paths of the credentials, all below the instance's state directory and readable by root only."""

    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self.directory: Final = instance.state / "pki"
        self.ca: Final = self.directory / "ca.crt"
        self.ca_key: Final = self.directory / "ca.key"
        self.server: Final = self.directory / "server.crt"
        self.server_key: Final = self.directory / "server.key"
        self.kubelet_client: Final = self.directory / "kubelet-client.crt"
        self.kubelet_client_key: Final = self.directory / "kubelet-client.key"
        self.front_proxy_ca: Final = self.directory / "front-proxy-ca.crt"
        self.front_proxy: Final = self.directory / "front-proxy.crt"
        self.front_proxy_key: Final = self.directory / "front-proxy.key"
        self.metrics: Final = self.directory / "metrics.crt"
        self.metrics_key: Final = self.directory / "metrics.key"
        self.service_accounts: Final = self.directory / "service-accounts.pub"
        self.service_accounts_key: Final = self.directory / "service-accounts.key"
        self.tokens: Final = self.directory / "tokens.csv"

    def kubeconfig(self, user: str) -> Path:
        """A user's kubeconfig, for programs inside the fabric."""
        return self.directory / f"{user}.kubeconfig"

    def node_kubeconfig(self, node: str) -> Path:
        """A kubelet's kubeconfig."""
        return self.kubeconfig(f"node-{node}")

    def create(self, layout: Layout) -> None:
        """Make everything."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._certificates()
        self._service_account_keys()
        self._users(layout)

    def _certificates(self) -> None:
        instance = self._instance
        authority = trustme.CA()
        _write(self.ca, authority.cert_pem.bytes())
        _write(self.ca_key, authority.private_key_pem.bytes())
        names = [str(instance.control_plane), str(instance.kubernetes_service), "127.0.0.1", "localhost"]
        names += ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
        _leaf(authority.issue_cert(*names, common_name="kube-apiserver"), self.server, self.server_key)
        client = "kube-apiserver-kubelet-client"
        issued = authority.issue_cert(client, common_name=client, organization_name=MASTERS)
        _leaf(issued, self.kubelet_client, self.kubelet_client_key)
        _leaf(authority.issue_cert(METRICS_HOST, common_name=METRICS_HOST), self.metrics, self.metrics_key)
        self._front_proxy()

    def _front_proxy(self) -> None:
        """Whoever has this certificate may speak in any user's name to servers behind the API server: a CA of its own
        keeps all other certificates from being taken for it.
        """
        authority = trustme.CA()
        _write(self.front_proxy_ca, authority.cert_pem.bytes())
        issued = authority.issue_cert(FRONT_PROXY, common_name=FRONT_PROXY)
        _leaf(issued, self.front_proxy, self.front_proxy_key)

    def _service_account_keys(self) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM
        private = key.private_bytes(pem, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption())
        public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        _write(self.service_accounts_key, private)
        _write(self.service_accounts, public)

    def _users(self, layout: Layout) -> None:
        instance = self._instance
        users = [
            (ADMIN, ADMIN, MASTERS),
            (INFRASTRUCTURE, INFRASTRUCTURE, MASTERS),
            *((name, f"system:{name}", "") for name in (CONTROLLER_MANAGER, SCHEDULER, PROXY)),
            *((f"node-{node.name}", f"system:node:{node.name}", "system:nodes") for node in layout.nodes),
        ]
        lines = []
        for name, subject, group in users:
            token = secrets.token_urlsafe(32)
            lines.append(f'{token},{subject},{name},"{group}"\n')
            inside = f"https://{instance.control_plane}:{API_PORT}"
            _write(self.kubeconfig(name), self._config(inside, name, token))
            if name == ADMIN:
                _write(instance.kubeconfig, self._config(instance.server, name, token))
        _write(self.tokens, "".join(lines).encode())

    def _config(self, server: str, user: str, token: str) -> bytes:
        context = f"local-{self._instance.name}"
        authority = base64.b64encode(self.ca.read_bytes()).decode()
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": context,
            "clusters": [{"name": context, "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": user, "user": {"token": token}}],
            "contexts": [{"name": context, "context": {"cluster": context, "user": user}}],
        }
        return json.dumps(config, indent=2).encode()


def _leaf(leaf: trustme.LeafCert, certificate: Path, key: Path) -> None:
    _write(certificate, b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    _write(key, leaf.private_key_pem.bytes())


def _write(path: Path, content: bytes) -> None:
    path.touch(mode=0o600)
    path.write_bytes(content)
