"""Specs that must be refused, with the field and the words of the message, for every judge: models and API server."""

from dataclasses import dataclass
from typing import Any, Final

VALID: Final[dict[str, Any]] = {
    "engine": "Valkey",
    "version": "8.1",
    "topology": {"mode": "Cluster", "shards": 3, "replicasPerShard": 1},
    "resources": {"limits": {"memory": "256Mi"}},
}


@dataclass(frozen=True, slots=True)
class Refused:
    """A change to the valid spec that no judge lets pass."""

    change: dict[str, Any]
    at: str
    message: str
    """Part of the message of a rule; empty where the API server's own words for types and bounds serve."""

    @property
    def spec(self) -> dict[str, Any]:
        """The whole spec; a key changed to None is left out."""
        return {k: v for k, v in {**VALID, **self.change}.items() if v is not None}

    def __str__(self) -> str:
        return f"{self.at}: {str(self.change)[:100]}"


def _limits(memory: Any, /, **requests: Any) -> dict[str, Any]:
    return {"resources": {"limits": {"memory": memory}, **({"requests": requests} if requests else {})}}


def _topology(**change: Any) -> dict[str, Any]:
    return {"topology": {**VALID["topology"], **change}}


def _peer(**peer: Any) -> dict[str, Any]:
    return {"network": {"allowFrom": [peer]}}


def _parameter(**parameter: Any) -> dict[str, Any]:
    return {"parameters": {name.replace("_", "-"): value for name, value in parameter.items()}}


def _toleration(**toleration: Any) -> dict[str, Any]:
    return {"placement": {"tolerations": [toleration]}}


REFUSED: Final = (
    Refused({"engine": None}, "engine", ""),
    Refused({"engine": "Redis"}, "engine", ""),
    Refused({"engine": "Memcached"}, "engine", ""),
    Refused({"version": "7.2"}, "version", ""),
    Refused({"version": 8.1}, "version", ""),
    Refused({"topology": None}, "topology", ""),
    Refused(_topology(mode="Replication"), "topology.mode", ""),
    Refused(_topology(shards=0), "topology.shards", ""),
    Refused(_topology(shards=501), "topology.shards", ""),
    Refused(_topology(shards="3"), "topology.shards", ""),
    Refused(_topology(shards=True), "topology.shards", ""),
    Refused(_topology(replicasPerShard=6), "topology.replicasPerShard", ""),
    Refused(_topology(replicasPerShard=-1), "topology.replicasPerShard", ""),
    Refused(_topology(shards=500, replicasPerShard=2), "topology", "at most 1000 nodes"),
    Refused({"resources": None}, "resources", ""),
    Refused({"resources": {"limits": {}}}, "resources.limits.memory", ""),
    Refused(_limits("1Mi"), "resources.limits.memory", "at least 64Mi"),
    Refused(_limits(1024), "resources.limits.memory", "at least 64Mi"),
    Refused(_limits("128m"), "resources.limits.memory", "write an amount such as 512Mi or 2Gi"),
    Refused(_limits("1 Gi"), "resources.limits.memory", "write an amount such as 512Mi or 2Gi"),
    Refused(_limits(""), "resources.limits.memory", "write an amount such as 512Mi or 2Gi"),
    Refused(_limits("0"), "resources.limits.memory", "more than 0"),
    Refused(_limits(1.5), "resources.limits.memory", ""),
    Refused(_limits("1Gi", memory="2Gi"), "resources.requests.memory", "must not exceed limits.memory"),
    Refused(_limits("1Gi", cpu="two"), "resources.requests.cpu", "write an amount such as 500m or 2"),
    Refused(
        {"resources": {"limits": {"memory": "1Gi", "cpu": "500m"}, "requests": {"cpu": 1}}},
        "resources.requests.cpu",
        "must not exceed limits.cpu",
    ),
    Refused({"persistence": {"mode": "Sometimes"}}, "persistence.mode", ""),
    Refused({"persistence": {"mode": "Snapshot"}}, "persistence.size", "write its size"),
    Refused({"persistence": {"mode": "AppendOnly"}}, "persistence.size", "write its size"),
    Refused({"persistence": {"mode": "None", "size": "1Gi"}}, "persistence", "mode None has no volume"),
    Refused({"persistence": {"mode": "None", "storageClassName": "ssd"}}, "persistence", "mode None has no volume"),
    Refused({"persistence": {"mode": "Snapshot", "size": "255Mi"}}, "persistence.size", "better twice that"),
    Refused(
        {"persistence": {"mode": "Snapshot", "size": "1Gi", "storageClassName": "Fast SSD"}},
        "persistence.storageClassName",
        "name of a Kubernetes object",
    ),
    Refused({"durability": {}}, "durability.mode", ""),
    Refused({"durability": {"mode": "Quorum"}}, "durability.mode", ""),
    Refused(
        {"durability": {"mode": "AtLeastOneReplica"}},
        "durability.mode",
        "write topology.replicasPerShard: 2 or more, or durability.mode: Default",
    ),
    Refused({"recovery": {}}, "recovery.onDataLoss", ""),
    Refused({"recovery": {"onDataLoss": "Retry"}}, "recovery.onDataLoss", ""),
    Refused({"deletionPolicy": "Keep"}, "deletionPolicy", ""),
    Refused({"deletionPolicy": "Retain"}, "deletionPolicy", "no volumes to retain"),
    Refused({"image": ""}, "image", "valkey/valkey:8.1"),
    Refused({"image": "valkey/valkey:8.1 --port 1"}, "image", "valkey/valkey:8.1"),
    Refused({"image": "-valkey"}, "image", "valkey/valkey:8.1"),
    Refused({"imagePullSecrets": [{"name": "A"}]}, "imagePullSecrets[0].name", "name of a Kubernetes object"),
    Refused({"placement": {"zones": []}}, "placement.zones", ""),
    Refused({"placement": {"zones": ["a", "a"]}}, "placement.zones", ""),
    Refused({"placement": {"zones": [""]}}, "placement.zones[0]", "name of a zone"),
    Refused({"placement": {"spread": "Always"}}, "placement.spread", ""),
    Refused({"placement": {"topologyKey": "a/b/c"}}, "placement.topologyKey", "label key"),
    Refused({"placement": {"nodeSelector": {"a b": "c"}}}, "placement.nodeSelector", "a b: is not a label key"),
    Refused({"placement": {"nodeSelector": {"a": "b c"}}}, "placement.nodeSelector", "a label's value"),
    Refused(_toleration(operator="Sometimes"), "placement.tolerations[0].operator", ""),
    Refused(_toleration(operator="Equal"), "placement.tolerations[0].operator", "must be Exists"),
    Refused(_toleration(), "placement.tolerations[0].operator", "must be Exists"),
    Refused(_toleration(key="a", operator="Exists", value="b"), "placement.tolerations[0].value", "has no value"),
    Refused(
        _toleration(key="a", effect="NoSchedule", tolerationSeconds=5),
        "placement.tolerations[0].tolerationSeconds",
        "effect: NoExecute",
    ),
    Refused({"placement": {"nodeLossGraceSeconds": 9}}, "placement.nodeLossGraceSeconds", ""),
    Refused({"placement": {"nodeLossGraceSeconds": 86401}}, "placement.nodeLossGraceSeconds", ""),
    Refused({"placement": {"nodeLossGraceSeconds": "60"}}, "placement.nodeLossGraceSeconds", ""),
    Refused(_parameter(maxmemory="1gb"), "parameters", "maxmemory: follows from the memory limit"),
    Refused(_parameter(appendonly="yes"), "parameters", "appendonly: follows from persistence.mode"),
    Refused(_parameter(min_replicas_to_write=1), "parameters", "min-replicas-to-write: follows from durability.mode"),
    Refused(_parameter(min_replicas_max_lag=5), "parameters", "min-replicas-max-lag: follows from durability.mode"),
    Refused(_parameter(requirepass="x"), "parameters", "requirepass: belongs to the users and passwords"),
    Refused(_parameter(tls_port=6380), "parameters", "tls-port: belongs to TLS"),
    Refused(_parameter(port=6380), "parameters", "port: decides where a node listens"),
    Refused(_parameter(cluster_enabled="no"), "parameters", "cluster-enabled: decides how nodes form a cluster"),
    Refused(_parameter(replicaof="a 1"), "parameters", "replicaof: decides how replicas follow"),
    Refused(_parameter(logfile="/tmp/x"), "parameters", "logfile: decides how the process runs"),
    Refused(_parameter(loadmodule="/tmp/x.so"), "parameters", "loadmodule: would let clients or files"),
    Refused({"parameters": {"MaxMemory-Policy": "x"}}, "parameters", "MaxMemory-Policy: is not the name"),
    Refused({"parameters": {"hz 10\nport": "1"}}, "parameters", "is not the name of a parameter"),
    Refused(_parameter(hz="10\nport 1"), "parameters.hz", "a parameter's value is one line"),
    Refused(_parameter(hz="1" * 1025), "parameters.hz", "1024"),
    Refused(_parameter(hz=True), "parameters.hz", ""),
    Refused(_parameter(hz=1.5), "parameters.hz", ""),
    Refused({"auth": {"mode": "None"}}, "auth.mode", ""),
    Refused({"auth": {}}, "auth.mode", ""),
    Refused({"network": {"policy": "Off"}}, "network.policy", ""),
    Refused({"network": {"policy": "Disabled", "allowFrom": []}}, "network.allowFrom", "remove allowFrom"),
    Refused(_peer(), "network.allowFrom[0]", "a peer needs namespaceSelector, podSelector or ipBlock"),
    Refused(
        _peer(podSelector={}, ipBlock={"cidr": "10.0.0.0/8"}), "network.allowFrom[0]", "cannot stand beside selectors"
    ),
    Refused(_peer(ipBlock={"cidr": "10.0.0.0"}), "network.allowFrom[0].ipBlock.cidr", "10.0.0.0/8"),
    Refused(_peer(ipBlock={"cidr": "300.0.0.0/8"}), "network.allowFrom[0].ipBlock.cidr", "10.0.0.0/8"),
    Refused(
        _peer(podSelector={"matchLabels": {"a": "-"}}),
        "network.allowFrom[0].podSelector.matchLabels",
        "a label's value",
    ),
    Refused(
        _peer(podSelector={"matchExpressions": [{"key": "a", "operator": "In"}]}),
        "network.allowFrom[0].podSelector.matchExpressions[0].values",
        "In and NotIn need values",
    ),
    Refused(
        _peer(podSelector={"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
        "network.allowFrom[0].podSelector.matchExpressions[0].values",
        "Exists and DoesNotExist have none",
    ),
    Refused({"pod": {"labels": {"app.kubernetes.io/name": "x"}}}, "pod.labels", "is set by Kubernetes or the operator"),
    Refused({"pod": {"labels": {"cachecluster.dev/shard": "1"}}}, "pod.labels", "use keys of your own"),
    Refused({"pod": {"annotations": {"cachecluster.dev/x": "1"}}}, "pod.annotations", "use keys of your own"),
    Refused({"pod": {"annotations": {"": "1"}}}, "pod.annotations", "is not a label key"),
    Refused({"pod": {"priorityClassName": ""}}, "pod.priorityClassName", "name of a Kubernetes object"),
    Refused({"paused": "yes"}, "paused", ""),
)

CODE_ONLY: Final = (
    Refused(
        _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}),
        "network.allowFrom[0].ipBlock",
        "is not a part of 10.0.0.0/8",
    ),
    Refused(
        _peer(ipBlock={"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8"]}),
        "network.allowFrom[0].ipBlock",
        "is not a part of 10.0.0.0/8",
    ),
    Refused(_peer(ipBlock={"cidr": "1::2::3/64"}), "network.allowFrom[0].ipBlock", "write an address block"),
    Refused({"topolgy": {}}, "topolgy", "did you mean topology?"),
    Refused({"backup": {}}, "backup", "remove it"),
)
"""What only the operator sees: the API server takes these (or, unknown fields, drops them) and the status says it."""

FULL: Final[dict[str, Any]] = {
    **VALID,
    "version": "9.1",
    "topology": {"mode": "Cluster", "shards": 3, "replicasPerShard": 2},
    "image": "registry.example.com:5000/cache/valkey:9.1@sha256:" + "0" * 64,
    "imagePullSecrets": [{"name": "registry"}],
    "resources": {"requests": {"cpu": "250m", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "1.5Gi"}},
    "persistence": {"mode": "Snapshot", "size": "8Gi", "storageClassName": "fast"},
    "durability": {"mode": "AtLeastOneReplica"},
    "recovery": {"onDataLoss": "WaitForApproval"},
    "placement": {
        "zones": ["eu-1a", "eu-1b"],
        "spread": "Preferred",
        "topologyKey": "example.com/rack",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [
            {"operator": "Exists"},
            {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute", "tolerationSeconds": 30},
            {"key": "a", "value": "b"},
        ],
        "nodeLossGraceSeconds": 300,
    },
    "parameters": {"maxmemory-policy": "allkeys-lfu", "hz": 20, "save": "900 1", "notify-keyspace-events": ""},
    "auth": {"mode": "Password"},
    "network": {
        "policy": "Enabled",
        "allowFrom": [
            {"podSelector": {}},
            {"namespaceSelector": {"matchLabels": {"team": "shop"}}, "podSelector": {"matchLabels": {"app": ""}}},
            {"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["a", "b"]}]}},
            {"namespaceSelector": {"matchExpressions": [{"key": "team", "operator": "In", "values": ["shop"]}]}},
            {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
            {"ipBlock": {"cidr": "fd00::/8"}},
        ],
    },
    "pod": {
        "labels": {"team": "shop"},
        "annotations": {"example.com/owner": "shop @ example"},
        "priorityClassName": "high",
    },
    "deletionPolicy": "Delete",
    "paused": False,
}
"""Every field used once."""
