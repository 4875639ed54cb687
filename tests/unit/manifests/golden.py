"""Specs whose manifests are kept as YAML beside the tests; `python -m tests.unit.manifests.golden` writes them anew."""

import hashlib
import json
from base64 import b64decode
from pathlib import Path
from typing import Any, Final

import yaml

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.slots import share
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests import Facts, Passwords, build
from cachecluster.manifests.config import SCRIPTS

DIRECTORY: Final = Path(__file__).parent / "golden"
TEMPLATE_HASHES: Final = DIRECTORY / "template-hashes.json"
UID: Final = "3a0f6c1e-5d1b-4c7e-9a51-0c4e7a9b2d10"
PASSWORDS: Final = Passwords("application-pw", "operator-pw", "replication-pw", "node-pw")

MINIMAL: Final[dict[str, Any]] = {
    "engine": "Valkey",
    "version": "8.1",
    "topology": {"mode": "Cluster", "shards": 1, "replicasPerShard": 0},
    "resources": {"limits": {"memory": "256Mi"}},
}
SPECS: Final[dict[str, dict[str, Any]]] = {
    "minimal": MINIMAL,
    "shopping-cart": {
        **MINIMAL,
        "topology": {"mode": "Cluster", "shards": 3, "replicasPerShard": 1},
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "256Mi"}},
        "placement": {"zones": ["a", "b", "c"], "spread": "Required"},
        "parameters": {"maxmemory-policy": "allkeys-lru"},
    },
    "append-only": {
        **MINIMAL,
        "version": "9.1",
        "topology": {"mode": "Cluster", "shards": 3, "replicasPerShard": 2},
        "resources": {"requests": {"cpu": "0.5", "memory": "2Gi"}, "limits": {"memory": "2048Mi"}},
        "persistence": {"mode": "AppendOnly", "size": "8Gi"},
        "durability": {"mode": "AtLeastOneReplica"},
    },
    "every-option": {
        **MINIMAL,
        "image": "example.com/caches/valkey:8.1.4",
        "imagePullSecrets": [{"name": "second"}, {"name": "first"}],
        "topology": {"mode": "Cluster", "shards": 1, "replicasPerShard": 1},
        "resources": {"requests": {"cpu": "1000m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1024Mi"}},
        "persistence": {"mode": "Snapshot", "size": "4096Mi", "storageClassName": "zonal"},
        "placement": {
            "zones": ["b", "a"],
            "spread": "Preferred",
            "topologyKey": "example.com/rack",
            "nodeSelector": {"pool": "caches", "disk": "fast"},
            "tolerations": [
                {"key": "workload", "operator": "Equal", "value": "cache", "effect": "NoSchedule"},
                {"key": "arm", "operator": "Exists"},
            ],
        },
        "parameters": {"save": "900 1", "maxmemory-policy": "allkeys-lfu", "slowlog-max-len": 64},
        "auth": {"mode": "Disabled"},
        "network": {
            "policy": "Enabled",
            "allowFrom": [
                {"namespaceSelector": {"matchLabels": {"team": "shop"}}, "podSelector": {}},
                {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            ],
        },
        "pod": {
            "labels": {"team": "shop"},
            "annotations": {"example.com/owner": "shop"},
            "priorityClassName": "important",
        },
        "deletionPolicy": "Delete",
    },
}


def manifests(name: str) -> tuple[Manifest, ...]:
    """Everything built for one of the specs; the first shard of `append-only` is known to have held data."""
    spec = CacheClusterSpec.parse(SPECS[name])
    formed = {0: share(spec.topology.shards)[0]} if name == "append-only" else {}
    return build(spec, Facts(ClusterRef("shop", "cart", UID), "cachecluster-system", PASSWORDS, formed))


def as_yaml(name: str) -> str:
    """The manifests as a reviewer reads them."""
    documents = [_readable(m) for m in manifests(name)]
    return yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=120)


def template_hashes() -> dict[str, list[str]]:
    """The hash of the pod template of each shard, by spec."""
    return {
        name: [
            m["metadata"]["annotations"][names.ANNOTATION_TEMPLATE]
            for m in manifests(name)
            if m["kind"] == "StatefulSet"
        ]
        for name in SPECS
    }


class _Plain(yaml.SafeDumper):
    """Without references, and with texts of several lines as such."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Plain.add_representer(str, _text)


def _readable(manifest: Manifest) -> Manifest:
    """Secrets decoded; scripts, which have files of their own, shortened to their hash."""
    match manifest["kind"]:
        case "Secret":
            return {**manifest, "data": {k: f"(base64) {b64decode(v).decode()}" for k, v in manifest["data"].items()}}
        case "ConfigMap" if "immutable" in manifest:
            hashes = {n: f"sha256 {hashlib.sha256(manifest['data'][n].encode()).hexdigest()}" for n in SCRIPTS}
            return {**manifest, "data": {**manifest["data"], **hashes}}
        case _:
            return manifest


if __name__ == "__main__":
    for spec_name in SPECS:
        (DIRECTORY / f"{spec_name}.yaml").write_text(as_yaml(spec_name))
    TEMPLATE_HASHES.write_text(json.dumps(template_hashes(), indent=2) + "\n")
