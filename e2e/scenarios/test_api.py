"""What users meet first: messages that say what to write instead, columns, `kubectl explain`."""

import json
import subprocess
from typing import Any

import pytest

from e2e.cluster import Cluster, refusal, small_spec
from e2e.install import REPOSITORY
from e2e.kube import Kube, Obj, condition

WRONG: tuple[tuple[dict[str, Any], str], ...] = (
    ({"engine": "Redis"}, "spec.engine"),
    ({"version": "7.2"}, "spec.version"),
    ({"topology": {"mode": "Cluster", "shards": 0, "replicasPerShard": 1}}, "spec.topology.shards"),
    ({"topology": {"mode": "Cluster", "shards": 500, "replicasPerShard": 2}}, "at most 1000 nodes"),
    ({"resources": {"limits": {"memory": "1Mi"}}}, "at least 64Mi"),
    ({"persistence": {"mode": "AppendOnly"}}, "write its size"),
    ({"parameters": {"appendonly": "yes"}}, "follows from persistence.mode"),
    ({"parameters": {"requirepass": "guessed"}}, "belongs to the users and passwords"),
    ({"network": {"policy": "Disabled", "allowFrom": []}}, "remove allowFrom"),
    ({"deletionPolicy": "Retain"}, "no volumes to retain"),
    ({"image": "valkey/valkey:8.1 --port 1"}, "valkey/valkey:8.1"),
)

FIXED: tuple[tuple[dict[str, Any], str], ...] = (
    ({"persistence": {"mode": "AppendOnly", "size": "1Gi"}}, "only its size can grow"),
    ({"placement": {"spread": "Preferred"}}, "the placement"),
    ({"auth": {"mode": "Disabled"}}, "the authentication"),
)


@pytest.mark.parametrize(("change", "message"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_wrong_spec_is_refused_with_advice(kube: Kube, shared_namespace: str, change: Obj, message: str) -> None:
    cluster = Cluster(kube, shared_namespace, "wrong")
    assert message in refusal(lambda: cluster.apply({**small_spec(), **change}))
    assert kube.find("CacheCluster", shared_namespace, "wrong") is None


@pytest.mark.parametrize(("change", "message"), FIXED, ids=lambda value: value if isinstance(value, str) else "")
def test_edit_that_would_not_be_followed_is_refused(kube: Kube, cart: Cluster, change: Obj, message: str) -> None:
    before = cart.read()["spec"]
    assert message in refusal(lambda: cart.edit(change))
    assert cart.read()["spec"] == before
    assert kube.find("CacheCluster", cart.namespace, cart.name) is not None


def test_parameter_that_the_engine_does_not_know_is_explained(cart: Cluster) -> None:
    pods = cart.uids()
    cart.edit({"parameters": {"maxmemory-polizy": "allkeys-lru"}})
    found = cart.until_condition("Stalled", "True", "InvalidSpec")
    assert "maxmemory-polizy" in found["message"]
    cart.edit({"parameters": None})
    cart.until_whole()
    assert condition(cart.read(), "Stalled")["status"] == "False"
    assert cart.uids() == pods


def test_columns_say_what_matters(kube: Kube, cart: Cluster) -> None:
    lines = kubectl(kube, "get", "cc", "-n", cart.namespace).splitlines()
    table = dict(zip(lines[0].split(), lines[1].split(), strict=True))
    assert table == {
        "NAME": "cart",
        "ENGINE": "Valkey",
        "VERSION": table["VERSION"],
        "SHARDS": "3",
        "REPLICAS": "1",
        "READY": "6/6",
        "STATUS": "ClusterReady",
        "AGE": table["AGE"],
    }
    assert table["VERSION"].startswith("8.1")
    assert "cachecluster.cachecluster.dev/cart" in kubectl(kube, "get", "all", "-n", cart.namespace)


def test_explain_describes_every_field(kube: Kube) -> None:
    assert kube
    text = kubectl(kube, "explain", "cachecluster.spec", "--recursive=false")
    for field in ("engine", "version", "topology", "resources", "persistence", "placement", "parameters", "auth"):
        assert f"  {field}\t<" in text, text
    assert "hash slots" in kubectl(kube, "explain", "cachecluster.spec.topology")


def test_unknown_field_is_refused(kube: Kube, here: str) -> None:
    wrong = json.dumps(Cluster(kube, here, "wrong").manifest({**small_spec(), "shards": 3}))
    argv = [*kube.kubectl, "apply", "-f", "-"]
    done = subprocess.run(argv, input=wrong, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert 'unknown field "spec.shards"' in done.stderr


def test_examples_are_accepted(kube: Kube, here: str) -> None:
    examples = sorted((REPOSITORY / "examples").glob("*.yaml"))
    assert examples
    for example in examples:
        kubectl(kube, "apply", "--server-side", "--dry-run=server", "-n", here, "-f", str(example))


def kubectl(kube: Kube, *arguments: str) -> str:
    """Output of a kubectl command that must succeed."""
    done = subprocess.run([*kube.kubectl, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
