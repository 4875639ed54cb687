"""Properties of the manifests, each of which guards against a known failure (design §2)."""

from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachecluster.api import names
from cachecluster.api.owned_parameters import owned_by_operator
from cachecluster.api.spec import CacheClusterSpec, EngineVersion, PodOverlay
from cachecluster.domain.memory import maxmemory
from cachecluster.domain.quantity import same
from cachecluster.domain.snapshot import ClusterRef, Manifest
from cachecluster.manifests import Facts, Passwords, build, system_secret
from cachecluster.manifests.amounts import cpu, grace_seconds, memory, startup_seconds
from cachecluster.manifests.config import SCRIPTS, live_config_map, script
from cachecluster.manifests.valkey_conf import directive_value, valkey_conf
from tests.unit.manifests.golden import MINIMAL, PASSWORDS, SPECS, UID, manifests

REF = ClusterRef("shop", "cart", UID)
FACTS = Facts(REF, "cachecluster-system", PASSWORDS)


def spec_with(**changes: Any) -> CacheClusterSpec:
    return CacheClusterSpec.parse(MINIMAL | changes)


def topology(shards: int, replicas: int) -> dict[str, Any]:
    return {"mode": "Cluster", "shards": shards, "replicasPerShard": replicas}


def of_kind(built: tuple[Manifest, ...], kind: str) -> list[Manifest]:
    return [m for m in built if m["kind"] == kind]


def template_of(spec: CacheClusterSpec) -> Mapping[str, Any]:
    template: Mapping[str, Any] = of_kind(build(spec, FACTS), "StatefulSet")[0]["spec"]["template"]
    return template


def matches(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    return selector.items() <= labels.items()


@pytest.mark.parametrize("name", SPECS)
def test_every_child_belongs_to_its_cluster(name: str) -> None:
    for manifest in manifests(name):
        metadata = manifest["metadata"]
        assert metadata["namespace"] == "shop"
        assert metadata["labels"][names.LABEL_CLUSTER] == "cart"
        (owner,) = metadata["ownerReferences"]
        assert (owner["kind"], owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (
            "CacheCluster",
            UID,
            True,
            True,
        )


@given(st.integers(1, 6), st.integers(0, 5))
def test_no_pod_is_under_two_budgets(shards: int, replicas: int) -> None:
    built = build(spec_with(topology=topology(shards, replicas)), FACTS)
    budgets = of_kind(built, "PodDisruptionBudget")
    assert bool(budgets) == (replicas > 0)
    for statefulset, role in product(of_kind(built, "StatefulSet"), (names.ROLE_PRIMARY, names.ROLE_REPLICA, None)):
        labels = dict(statefulset["spec"]["template"]["metadata"]["labels"])
        if role is not None:
            labels[names.LABEL_ROLE] = role
        over = [b for b in budgets if matches(b["spec"]["selector"]["matchLabels"], labels)]
        assert len(over) == (1 if replicas and role is not None else 0)


def test_budgets_let_no_primary_go_and_one_replica_of_each_shard() -> None:
    built = build(spec_with(topology=topology(3, 2)), FACTS)
    available = {b["metadata"]["name"]: b["spec"]["minAvailable"] for b in of_kind(built, "PodDisruptionBudget")}
    assert available == {"cart-primaries": 3, "cart-0-replicas": 1, "cart-1-replicas": 1, "cart-2-replicas": 1}
    assert {b["spec"]["unhealthyPodEvictionPolicy"] for b in of_kind(built, "PodDisruptionBudget")} == {"AlwaysAllow"}


def test_no_pod_moves_to_a_new_template_before_the_operator_says_so() -> None:
    for statefulset in manifests("append-only")[-3:]:
        assert statefulset["spec"]["updateStrategy"] == {"type": "RollingUpdate", "rollingUpdate": {"partition": 3}}
        assert statefulset["spec"]["replicas"] == 3
        assert statefulset["spec"]["podManagementPolicy"] == "Parallel"


@pytest.mark.parametrize("name", SPECS)
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    for statefulset in of_kind(manifests(name), "StatefulSet"):
        pod = statefulset["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] > 0
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
                "readOnlyRootFilesystem": True,
            }


def test_equal_wishes_in_other_words_give_the_same_pod() -> None:
    one = spec_with(
        resources={"limits": {"cpu": "1000m", "memory": "1Gi"}},
        placement={"zones": ["a", "b"], "tolerations": [{"key": "x"}, {"key": "y"}]},
        parameters={"maxclients": 100, "maxmemory-policy": "allkeys-lru"},
        imagePullSecrets=[{"name": "p"}, {"name": "q"}],
    )
    other = spec_with(
        resources={"limits": {"memory": "1048576Ki", "cpu": "1"}},
        placement={"tolerations": [{"key": "y"}, {"key": "x"}], "zones": ["b", "a"]},
        parameters={"maxmemory-policy": "allkeys-lru", "maxclients": "100"},
        imagePullSecrets=[{"name": "q"}, {"name": "p"}],
    )
    assert template_of(one) == template_of(other)


def test_users_labels_never_replace_ours() -> None:
    stolen = {names.LABEL_CLUSTER: "other", names.LABEL_SHARD: "9", "team": "shop"}
    overlay = PodOverlay.model_construct(labels=stolen, annotations=None, priority_class_name=None)
    labels = template_of(spec_with().model_copy(update={"pod": overlay}))["metadata"]["labels"]
    assert (labels[names.LABEL_CLUSTER], labels[names.LABEL_SHARD], labels["team"]) == ("cart", "0", "shop")


@pytest.mark.parametrize("spread", [None, "Required", "Preferred"])
@pytest.mark.parametrize("key", [None, "example.com/rack", "kubernetes.io/hostname"])
def test_spread_constraints_never_repeat_a_key_with_the_same_strength(spread: str | None, key: str | None) -> None:
    placement = {k: v for k, v in {"spread": spread, "topologyKey": key}.items() if v is not None}
    pod = template_of(spec_with(placement=placement))["spec"]
    pairs = [(c["topologyKey"], c["whenUnsatisfiable"]) for c in pod["topologySpreadConstraints"]]
    assert len(pairs) == len(set(pairs))
    zone = key or names.ZONE_LABEL
    assert ((zone, "DoNotSchedule") in pairs) == (spread != "Preferred")
    assert (zone, "ScheduleAnyway") in pairs
    assert {c["nodeTaintsPolicy"] for c in pod["topologySpreadConstraints"]} == {"Honor"}
    hard = [c for c in pod["topologySpreadConstraints"] if c["whenUnsatisfiable"] == "DoNotSchedule"]
    assert all(c["labelSelector"]["matchLabels"][names.LABEL_SHARD] == "0" for c in hard)


def _rules(**network: Any) -> list[dict[str, Any]]:
    spec = spec_with(network=network) if network else spec_with()
    (policy,) = of_kind(build(spec, FACTS), "NetworkPolicy")
    rules: list[dict[str, Any]] = policy["spec"]["ingress"]
    return rules


OWN = {"podSelector": {"matchLabels": {names.LABEL_CLUSTER: "cart"}}}
OPERATOR = {
    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "cachecluster-system"}},
    "podSelector": {"matchLabels": {"app.kubernetes.io/name": "cachecluster-operator"}},
}


def test_cache_port_is_open_for_the_own_namespace_by_default_and_for_nobody_if_the_list_is_empty() -> None:
    assert _rules()[0]["from"] == [OWN, OPERATOR, {"podSelector": {}}]
    assert _rules(allowFrom=[])[0]["from"] == [OWN, OPERATOR]
    peer = {"namespaceSelector": {"matchLabels": {"team": "shop"}}}
    assert _rules(allowFrom=[peer])[0]["from"] == [OWN, OPERATOR, peer]
    assert _rules(allowFrom=[{"namespaceSelector": {"matchLabels": {}}}])[0]["from"][-1] == {"namespaceSelector": {}}


def test_bus_port_is_open_for_the_clusters_own_pods_alone() -> None:
    bus = names.bus_port("shop", "cart")
    for rules in (_rules(), _rules(allowFrom=[{"ipBlock": {"cidr": "0.0.0.0/0"}}])):
        assert [r["from"] for r in rules if {"port": bus, "protocol": "TCP"} in r["ports"]] == [[OWN]]
        assert all(r["from"] for r in rules), "an empty list of peers would let everybody in"


def test_no_policy_where_it_is_disabled() -> None:
    assert of_kind(build(spec_with(network={"policy": "Disabled"}), FACTS), "NetworkPolicy") == []


@pytest.mark.parametrize("name", SPECS)
def test_s12_no_password_outside_of_secrets_and_only_hashes_in_the_users_files(name: str) -> None:
    every = ("application-pw", "operator-pw", "replication-pw", "node-pw")
    for manifest in manifests(name):
        if manifest["kind"] != "Secret":
            assert not any(password in str(manifest) for password in every)
    (acl,) = [m for m in manifests(name) if m["metadata"]["name"] == "cart-acl"]
    files = [text for file, text in acl["data"].items() if file.startswith("users-")]
    assert len(files) == 2 * len(EngineVersion)
    assert not any(password in b64decode(text).decode() for text in files for password in every)
    assert "application-pw" not in repr(PASSWORDS) + repr(FACTS)


def test_quarantine_switches_off_the_application_and_replication_alone() -> None:
    (acl,) = [m for m in manifests("minimal") if m["metadata"]["name"] == "cart-acl"]
    on = b64decode(acl["data"]["users-8.1.acl"]).decode().splitlines()
    off = b64decode(acl["data"]["users-8.1-quarantine.acl"]).decode().splitlines()
    changed = {a.split()[1]: b.split()[2] for a, b in zip(on, off, strict=True) if a != b}
    assert changed == {names.USER_APPLICATION: "off", names.USER_REPLICATION: "off"}
    assert [a.replace(" on ", " off ", 1) for a in on if a.split()[1] in changed] == [
        b for b in off if b.split()[1] in changed
    ]


def test_users_files_of_all_families_are_there_whatever_the_version() -> None:
    """A node of the old family that restarts during an upgrade refuses a file with commands of the new one."""
    secrets = [of_kind(build(spec_with(version=v), FACTS), "Secret")[1] for v in EngineVersion]
    assert all(secret == secrets[0] for secret in secrets)
    configs = [of_kind(build(spec_with(version=v), FACTS), "ConfigMap")[0] for v in EngineVersion]
    for version, config in zip(EngineVersion, configs, strict=True):
        assert f"USERS=users-{version}.acl\n" in config["data"]["settings.sh"]
        syncs = "+cluster|syncslots" in b64decode(secrets[0]["data"][f"users-{version}.acl"]).decode()
        assert syncs == (version >= EngineVersion.V9_0)


def test_secrets_are_left_out_until_the_passwords_exist() -> None:
    without = build(spec_with(), Facts(REF, "cachecluster-system", None))
    assert of_kind(without, "Secret") == []
    assert [m["metadata"]["name"] for m in of_kind(build(spec_with(), FACTS), "Secret")] == [
        "cart-auth",
        "cart-acl",
        "cart-connection",
    ]


def test_system_secret_is_read_back_as_it_was_written_and_cannot_be_edited() -> None:
    passwords = Passwords("ä/:@ 1", "2", "3", "4")
    secret = system_secret(REF, passwords)
    assert Passwords.from_secret(secret) == passwords
    assert secret["immutable"] is True
    assert secret["metadata"]["finalizers"] == [names.SYSTEM_SECRET_FINALIZER]
    broken = {**secret, "data": {k: v for k, v in secret["data"].items() if k != "node-password"}}
    with pytest.raises(ValueError, match="node-password"):
        Passwords.from_secret(broken)


def test_connection_secret_survives_any_password() -> None:
    facts = Facts(REF, "cachecluster-system", Passwords("p/w:@?#% ä", "o", "r", "n"))
    (secret,) = [m for m in build(spec_with(), facts) if m["metadata"]["name"] == "cart-connection"]
    data = {k: b64decode(v).decode() for k, v in secret["data"].items()}
    uri = urlsplit(data["uri"])
    assert (uri.hostname, str(uri.port)) == (data["host"], data["port"]) == ("cart.shop.svc", "6379")
    assert data["nodes"] == "cart-nodes.shop.svc"
    assert (uri.username, unquote(uri.password or "")) == (data["username"], data["password"])


def test_nobody_is_told_a_password_that_is_not_asked_for() -> None:
    built = build(spec_with(auth={"mode": "Disabled"}), FACTS)
    data = {m["metadata"]["name"]: set(m["data"]) for m in of_kind(built, "Secret")}
    assert "cart-auth" not in data
    assert data["cart-connection"] == {"uri", "host", "port", "nodes"}


def test_s6_a_deleted_statefulset_never_takes_its_volumes_along() -> None:
    def retention(**changes: Any) -> Any:
        (statefulset,) = of_kind(build(spec_with(**changes), FACTS), "StatefulSet")
        return statefulset["spec"].get("persistentVolumeClaimRetentionPolicy")

    persistent = {"persistence": {"mode": "AppendOnly", "size": "8Gi"}}
    assert retention() is None
    for policy in ({}, {"deletionPolicy": "Retain"}, {"deletionPolicy": "Delete"}):
        assert retention(**persistent, **policy) == {"whenDeleted": "Retain", "whenScaled": "Retain"}


def test_config_map_is_named_after_its_content_and_named_in_the_template() -> None:
    def names_of(spec: CacheClusterSpec) -> tuple[str, str]:
        built = build(spec, FACTS)
        (config, live), (statefulset, *_) = of_kind(built, "ConfigMap"), of_kind(built, "StatefulSet")
        assert config["immutable"] is True
        assert "immutable" not in live
        volumes = {v["name"]: v for v in statefulset["spec"]["template"]["spec"]["volumes"]}
        assert volumes["live"]["configMap"]["name"] == live["metadata"]["name"] == "cart-live-8.1"
        return config["metadata"]["name"], volumes["config"]["configMap"]["name"]

    plain, mounted = names_of(spec_with())
    changed, changed_mounted = names_of(spec_with(parameters={"io-threads": 2}))
    assert plain == mounted
    assert changed == changed_mounted != plain


def live_file(**spec: Any) -> str:
    """What a starting node reads besides the immutable configuration."""
    facts = replace(FACTS, remembered=frozenset({"timeout", "not-of-this-version"}))
    (_, live) = of_kind(build(spec_with(**spec), facts), "ConfigMap")
    text = str(live["data"]["live.conf"])
    noted = live["metadata"]["annotations"][names.ANNOTATION_LIVE_NAMES].split()
    assert noted == sorted({"timeout", *(line.split()[0] for line in text.splitlines())})
    return text


def test_parameters_that_need_no_restart_leave_the_pod_template_alone() -> None:
    given = {"hz": "050", "slowlog-max-len": 64, "repl-backlog-size": "64mb", "io-threads": 2}
    assert live_file(parameters=given) == (
        "commandlog-slow-execution-max-len 64\nhz 50\nmaxmemory 161061273\nrepl-backlog-size 67108864\n"
    )
    assert template_of(spec_with(parameters=given)) == template_of(spec_with(parameters={"io-threads": "02"}))
    assert template_of(spec_with(parameters=given)) != template_of(spec_with())


def test_save_points_are_a_matter_of_snapshots() -> None:
    assert "save" not in live_file()
    persistence = {"mode": "Snapshot", "size": "1Gi"}
    assert "save 3600 1 300 100 60 10000\n" in live_file(persistence=persistence)
    assert "save 900 1\n" in live_file(persistence=persistence, parameters={"save": "900  1"})


@pytest.mark.parametrize("persistence", ["None", "Snapshot", "AppendOnly"])
@pytest.mark.parametrize("version", ["8.0", "9.1"])
def test_users_cannot_set_what_the_operator_would_override(persistence: str, version: str) -> None:
    size = {} if persistence == "None" else {"size": "1Gi"}
    spec = spec_with(version=version, persistence={"mode": persistence, **size})
    keys = [line.split()[0] for line in valkey_conf(spec, REF).splitlines()]
    assert keys.pop(0) == "include", "the live parameters come first, so that the operator's own win"
    assert {key for key in keys if owned_by_operator(key) is None} <= {"save"}
    assert len(keys) == len(set(keys)), "a repeated directive would leave it to chance which one counts"


@given(st.text())
def test_no_value_of_a_parameter_can_begin_another_directive(value: str) -> None:
    line = directive_value(value)
    assert line
    assert all(" " <= c < "\x7f" for c in line)
    if line.startswith('"'):
        inner = line[1:-1].replace("\\\\", "")
        assert '"' not in inner.replace('\\"', "")
    else:
        assert line == value
        assert not set(line) & set("\"'\\#\n")


@pytest.mark.parametrize(("replicas", "persistence"), [(0, "None"), (1, "None"), (0, "Snapshot"), (2, "AppendOnly")])
def test_maxmemory_leaves_room_for_what_a_fork_copies(replicas: int, persistence: str) -> None:
    size = {} if persistence == "None" else {"size": "8Gi"}
    spec = spec_with(
        topology=topology(1, replicas),
        resources={"limits": {"memory": "1Gi"}},
        persistence={"mode": persistence, **size},
    )
    assert maxmemory(spec) == 2**30 * 60 // 100
    assert f"maxmemory {maxmemory(spec)}\n" in live_config_map(spec, REF, ())["data"]["live.conf"]
    assert "maxmemory " not in valkey_conf(spec, REF), "an edit of the limit would need other pods"


def test_times_grow_with_the_data_that_has_to_be_written() -> None:
    def seconds(limit: str, persistence: str) -> tuple[int, int]:
        size = {} if persistence == "None" else {"size": "128Gi"}
        spec = spec_with(resources={"limits": {"memory": limit}}, persistence={"mode": persistence, **size})
        return grace_seconds(spec), startup_seconds(spec)

    assert seconds("64Gi", "None") == (30, 90)
    assert seconds("1Gi", "AppendOnly") == (62, 122)
    assert seconds("64Gi", "Snapshot") == (2078, 2138)


@given(st.integers(0, 2**50), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi"]))
def test_memory_has_one_notation(number: int, suffix: str) -> None:
    text = f"{number % 2**20}{suffix}"
    assert same(memory(text), text)
    assert memory(memory(text)) == memory(text)


@given(st.integers(0, 10**6))
def test_cpu_has_one_notation(thousandths: int) -> None:
    assert same(cpu(f"{thousandths}m"), f"{thousandths}m")
    assert cpu(cpu(f"{thousandths}m")) == cpu(f"{thousandths / 1000}")


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_are_plain_posix(name: str) -> None:
    text = script(name)
    assert text.isascii()
    for bashism in ("[[", "function ", "local ", "<<<", "$'", "source ", "==", "&>"):
        assert bashism not in _without_awk(text), bashism


def _without_awk(text: str) -> str:
    """Shell code alone: what stands between single quotes is another language."""
    return "".join(text.split("'")[::2])


@pytest.mark.parametrize("overlay", [None, {"annotations": {"example.com/owner": "shop"}}])
def test_a_restart_changes_the_template_of_its_shard_and_nothing_else(overlay: dict[str, Any] | None) -> None:
    spec = spec_with(topology=topology(2, 1), **({"pod": overlay} if overlay else {}))
    before, after = build(spec, FACTS), build(spec, replace(FACTS, restarts={1: "2026-01-31T12:00:00Z"}))
    changed = [b["metadata"]["name"] for a, b in zip(before, after, strict=True) if a != b]
    assert changed == ["cart-1"]
    old, new = (of_kind(built, "StatefulSet")[1] for built in (before, after))
    annotations = {names.ANNOTATION_RESTARTED: "2026-01-31T12:00:00Z", **((overlay or {}).get("annotations") or {})}
    found = new["spec"]["template"]["metadata"]["annotations"]
    assert {k: v for k, v in found.items() if k != names.ANNOTATION_FIXED} == annotations
    hashes = [o["metadata"]["annotations"][names.ANNOTATION_TEMPLATE] for o in (old, new)]
    assert hashes[0] != hashes[1]
    assert old["spec"]["template"]["spec"] == new["spec"]["template"]["spec"]
