"""Secrets: the system Secret, which is created once, and those made from it, which are applied."""

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from cachecluster.api import names
from cachecluster.api.spec import AuthMode, CacheClusterSpec, EngineVersion
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests import acl
from cachecluster.manifests.facts import PASSWORD_KEYS, Passwords
from cachecluster.manifests.metadata import metadata
from cachecluster.manifests.valkey_conf import quoted

REPLICATION_FILE: Final = "replication.conf"
NODE_PASSWORD_FILE: Final = "node-password"


def system_secret(ref: ClusterRef, passwords: Passwords) -> Manifest:
    """The one source of all generated passwords: for POST only, so that a stale read can never replace them.

    Immutable, and held by a finalizer while the cluster lives.
    """
    data = {key: getattr(passwords, name) for name, key in PASSWORD_KEYS.items()}
    secret = _secret(ref, names.system_secret(ref.name), data)
    finalizers = [names.SYSTEM_SECRET_FINALIZER]
    return {**secret, "metadata": {**secret["metadata"], "finalizers": finalizers}, "immutable": True}


def derived_secrets(spec: CacheClusterSpec, ref: ClusterRef, passwords: Passwords) -> tuple[Manifest, ...]:
    """What the application reads (auth, connection) and what the pods mount (acl)."""
    mounted = _secret(
        ref,
        names.acl_secret(ref.name),
        {
            **_users_files(spec.auth_mode, passwords),
            REPLICATION_FILE: f"primaryauth {quoted(passwords.replication)}\n",
            NODE_PASSWORD_FILE: passwords.node,
        },
    )
    credentials = {}
    if spec.auth_mode is AuthMode.PASSWORD:
        credentials = {"username": names.USER_APPLICATION, "password": passwords.application}
    connection = _secret(ref, names.connection_secret(ref.name), _endpoint(ref, credentials) | credentials)
    if not credentials:
        return mounted, connection
    return _secret(ref, names.auth_secret(ref.name), credentials), mounted, connection


def _users_files(auth: AuthMode, passwords: Passwords) -> dict[str, str]:
    """For every family that a node may be of, now or after an upgrade; its configuration says which ones it reads."""
    files = {}
    for version in EngineVersion:
        files[names.users_file(version)] = acl.users_file(version, auth, passwords)
        files[names.quarantine_file(version)] = acl.quarantine_file(version, auth, passwords)
    return files


def _endpoint(ref: ClusterRef, credentials: Mapping[str, str]) -> dict[str, str]:
    host = f"{names.endpoint_service(ref.name)}.{ref.namespace}.svc"
    login = f"{credentials['username']}:{quote(credentials['password'], safe='')}@" if credentials else ""
    return {
        "uri": f"redis://{login}{host}:{names.CACHE_PORT}",
        "host": host,
        "port": str(names.CACHE_PORT),
        "nodes": f"{names.nodes_service(ref.name)}.{ref.namespace}.svc",
    }


def _secret(ref: ClusterRef, name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(ref, name),
        "type": "Opaque",
        "data": {key: b64encode(value.encode()).decode() for key, value in sorted(data.items())},
    }
