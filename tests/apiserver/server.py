"""A kube-apiserver with its etcd on 127.0.0.1, for tests of what it makes of our resource; nothing else runs."""

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

READY_SECONDS: Final = 120.0
STOP_SECONDS: Final = 15.0
REQUEST_SECONDS: Final = 30.0
LOG_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Answer:
    """HTTP status and body of one call."""

    code: int
    body: dict[str, Any]

    @property
    def accepted(self) -> bool:
        """Whether the API server carried the call out."""
        return self.code < 300

    @property
    def causes(self) -> list[tuple[str, str]]:
        """Field and message of each thing that was refused."""
        causes = self.body.get("details", {}).get("causes", [])
        return [(c.get("field", ""), c.get("message", "")) for c in causes]

    def __str__(self) -> str:
        return f"{self.code} {self.body.get('message', '')}"


class ApiServer:
    """A running API server and its administrator."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._token = secrets.token_hex(16)
        self._port, self._etcd_port, self._peer_port = _free_ports(3)
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._tls = ssl.create_default_context()

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self._directory / "kubeconfig"

    def __enter__(self) -> Self:
        """Start etcd and the API server; return when it is ready."""
        self._make_keys()
        try:
            self._start_etcd()
            self._start_api_server()
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both."""
        self.stop()

    def stop(self) -> None:
        """End the processes; etcd's data is of no use any more."""
        for process in reversed(self._processes.values()):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_SECONDS)
        shutil.rmtree(self._directory / "etcd", ignore_errors=True)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request; refusals are answers."""
        kind = headers.pop("content_type", "application/json")
        request = urllib.request.Request(
            f"https://127.0.0.1:{self._port}{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": kind, **headers},
        )
        handlers = urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=self._tls)
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=REQUEST_SECONDS) as response:
                return Answer(response.status, _json(response.read()))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, _json(error.read()))

    def kubectl(self, *arguments: str) -> str:
        """Output of kubectl; raises CalledProcessError."""
        argv = [str(self._program), "kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=REQUEST_SECONDS).stdout

    def _make_keys(self) -> None:
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        authority.configure_trust(self._tls)
        certificate.private_key_pem.write_to_path(self._directory / "server.key")
        certificate.cert_chain_pems[0].write_to_path(self._directory / "server.crt")
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = serialization.Encoding.PEM
        (self._directory / "accounts.key").write_bytes(
            key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        )
        (self._directory / "accounts.pub").write_bytes(
            key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
        )
        (self._directory / "tokens.csv").write_text(f'{self._token},admin,admin,"system:masters"\n')
        bundle = base64.b64encode(authority.cert_pem.bytes()).decode()
        server = {"server": f"https://127.0.0.1:{self._port}", "certificate-authority-data": bundle}
        kubeconfig = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": server}],
            "users": [{"name": "admin", "user": {"token": self._token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        }
        self.kubeconfig.write_text(json.dumps(kubeconfig))

    def _start_etcd(self) -> None:
        url = f"http://127.0.0.1:{self._etcd_port}"
        self._start(
            "etcd",
            f"--data-dir={self._directory}/etcd",
            f"--listen-client-urls={url}",
            f"--advertise-client-urls={url}",
            f"--listen-peer-urls=http://127.0.0.1:{self._peer_port}",
            "--unsafe-no-fsync",
            "--log-level=warn",
        )

    def _start_api_server(self) -> None:
        keys = self._directory
        self._start(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{self._etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self._port}",
            "--service-cluster-ip-range=10.91.0.0/16",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={keys}/accounts.pub",
            f"--service-account-signing-key-file={keys}/accounts.key",
            f"--tls-cert-file={keys}/server.crt",
            f"--tls-private-key-file={keys}/server.key",
            f"--token-auth-file={keys}/tokens.csv",
        )

    def _start(self, name: str, *arguments: str) -> None:
        with (self._directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [str(self._program), name, *arguments], stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _await_ready(self) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            for name, process in self._processes.items():
                if process.poll() is not None or time.monotonic() > deadline:
                    log = (self._directory / f"{name}.log").read_text(errors="replace").splitlines()
                    raise RuntimeError(f"{name} does not get ready; its log ends with:\n" + "\n".join(log[-LOG_LINES:]))
            time.sleep(0.2)

    def _is_ready(self) -> bool:
        try:
            return self.call("GET", "/readyz").accepted
        except OSError:
            return False


def _json(data: bytes) -> dict[str, Any]:
    try:
        decoded = json.loads(data)
    except ValueError:
        decoded = None
    return decoded if isinstance(decoded, dict) else {"message": data.decode(errors="replace")}


def _free_ports(count: int) -> Iterator[int]:
    """Ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return iter([int(each.getsockname()[1]) for each in sockets])
