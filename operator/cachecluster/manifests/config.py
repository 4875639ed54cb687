"""ConfigMaps of a cluster: an immutable one with engine configuration and pod scripts, named after its own content, and
one with the parameters that change without a restart."""

from collections.abc import Collection
from functools import cache
from importlib import resources
from typing import Any, Final

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.drift import fingerprint
from cachecluster.domain.live_parameters import FILE, wanted
from cachecluster.domain.memory import MAXMEMORY_PERCENT
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests.amounts import HOLD_SECONDS, SILENT_HOLD_SECONDS
from cachecluster.manifests.metadata import metadata
from cachecluster.manifests.valkey_conf import live_conf, valkey_conf

SCRIPTS: Final = ("common.sh", "start.sh", "ready.sh", "handover.sh")
_HASH_LENGTH: Final = 10


def config_map(spec: CacheClusterSpec, ref: ClusterRef) -> Manifest:
    """ConfigMap ``<name>-config-<hash>``: a pod sees only the one that its template names, whatever came after."""
    data = {"valkey.conf": valkey_conf(spec, ref), "settings.sh": _settings(spec, ref)}
    data |= {name: script(name) for name in SCRIPTS}
    manifest: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(ref, names.config_map(ref.name, fingerprint(data)[:_HASH_LENGTH])),
        "immutable": True,
        "data": dict(sorted(data.items())),
    }
    return manifest


def live_config_map(spec: CacheClusterSpec, ref: ClusterRef, remembered: Collection[str]) -> Manifest:
    """ConfigMap ``<name>-live-<version>``: read by every node of that family when it starts, changed while it runs.

    The file has what the spec asks for; what is ``remembered`` beside it is only noted, for running nodes.
    """
    annotations = {names.ANNOTATION_LIVE_NAMES: " ".join(wanted(spec, remembered))}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(ref, names.live_config_map(ref.name, spec.version), annotations=annotations),
        "data": {FILE: live_conf(wanted(spec))},
    }


@cache
def script(name: str) -> str:
    """Text of a pod script: POSIX sh that needs nothing beyond busybox and the engine's own tools."""
    return resources.files("cachecluster.manifests").joinpath("scripts", name).read_text(encoding="utf-8")


def _settings(spec: CacheClusterSpec, ref: ClusterRef) -> str:
    """What the scripts have to know of the cluster, as shell assignments. All values are plain words."""
    return (
        f"CLUSTER_UID={ref.uid}\n"
        f"PERSISTENCE={spec.persistence_mode}\n"
        f"PORT={names.CACHE_PORT}\n"
        f"NODE_USER={names.USER_NODE}\n"
        f"REPLICATION_USER={names.USER_REPLICATION}\n"
        f"USERS={names.users_file(spec.version)}\n"
        f"QUARANTINE={names.quarantine_file(spec.version)}\n"
        f"HOLD_SECONDS={HOLD_SECONDS}\n"
        f"SILENT_HOLD_SECONDS={SILENT_HOLD_SECONDS}\n"
        f"MAXMEMORY_PERCENT={MAXMEMORY_PERCENT}\n"
    )
