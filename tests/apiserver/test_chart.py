"""The Helm chart on a real API server: it is accepted as rendered, and the operator needs no more than its rights."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from cachecluster.api import names
from e2e.localcluster.build import programs
from tests.apiserver.conftest import Clusters
from tests.apiserver.server import ApiServer
from tests.unit.api.cases import VALID

CHART: Final = Path(__file__).resolve().parents[2] / "helm" / "cachecluster-operator"
RELEASE: Final = "cachecluster-operator"
SYSTEM: Final = "cachecluster-system"
PATIENCE: Final = 60.0
RIGHTS_SECONDS: Final = 10.0
SERVICE_ACCOUNT: Final = f"system:serviceaccount:{SYSTEM}:{RELEASE}"

Obj = dict[str, Any]


def render(*values: str) -> list[Obj]:
    """Every object of the chart, hooks too."""
    settings = [word for value in values for word in ("--set", value)]
    argv = [str(programs().helm), "template", RELEASE, str(CHART), "-n", SYSTEM, "--kube-version", "1.34.0", *settings]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return [o for o in yaml.safe_load_all(done.stdout) if o]


def scoped(*namespaces: str) -> str:
    """The value that restricts the operator to some namespaces."""
    return f"watchNamespaces={{{','.join(namespaces)}}}"


def apply(server: ApiServer, obj: Obj, *, dry_run: bool = False) -> None:
    """Server-side apply, with unknown fields refused."""
    path = f"{_collection(obj)}/{obj['metadata']['name']}?fieldManager=helm&force=true&fieldValidation=Strict"
    answer = server.call(
        "PATCH", path + ("&dryRun=All" if dry_run else ""), obj, content_type="application/apply-patch+yaml"
    )
    assert answer.accepted, f"{obj['kind']} {obj['metadata']['name']}: {answer}"


def _collection(obj: Obj) -> str:
    version, kind = obj["apiVersion"], obj["kind"]
    plural = "networkpolicies" if kind == "NetworkPolicy" else f"{kind.lower()}s"
    root = f"/apis/{version}" if "/" in version else f"/api/{version}"
    cluster_wide = kind in {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition", "Node"}
    return f"{root}/{plural}" if cluster_wide else f"{root}/namespaces/{obj['metadata']['namespace']}/{plural}"


@pytest.fixture(scope="module")
def system(clusters: Clusters) -> ApiServer:
    """The operator's namespace, for restricted pods only; and two more for caches."""
    strict = {"pod-security.kubernetes.io/enforce": "restricted"}
    for namespace, labels in ((SYSTEM, strict), ("team-a", {}), ("team-b", {})):
        apply(
            clusters.server,
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}},
        )
    account = {"name": "default", "namespace": SYSTEM}
    apply(clusters.server, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
    return clusters.server


@pytest.mark.parametrize(
    "values",
    [(), (scoped("team-a", "team-b"), "replicas=1"), ("imagePullSecrets[0].name=x", "networkPolicy.enabled=true")],
)
def test_api_server_accepts_every_object_and_pods_are_restricted(system: ApiServer, values: tuple[str, ...]) -> None:
    objects = render(*values)
    for obj in sorted(objects, key=lambda o: o["kind"] != "ServiceAccount"):
        apply(system, obj, dry_run=obj["kind"] != "ServiceAccount")
    (deployment,) = (o for o in objects if o["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {**template["metadata"], "name": "like-the-operators", "namespace": SYSTEM},
        "spec": template["spec"],
    }
    apply(system, pod, dry_run=True)
    (container,) = template["spec"]["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert {"livenessProbe", "readinessProbe", "resources"} <= container.keys()


def test_budget_exists_only_where_another_replica_can_take_over() -> None:
    budgets = [[o for o in render(f"replicas={n}") if o["kind"] == "PodDisruptionBudget"] for n in (1, 2)]
    assert [len(found) for found in budgets] == [0, 1]


def test_crd_is_kept_at_uninstallation_unless_told_otherwise() -> None:
    def definitions(*values: str) -> list[Obj]:
        return [o for o in render(*values) if o["kind"] == "CustomResourceDefinition"]

    assert definitions("crds.enabled=false") == []
    (kept,), (dropped,) = definitions(), definitions("crds.keep=false")
    assert kept["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "helm.sh/resource-policy" not in dropped["metadata"].get("annotations", {})
    assert kept["spec"] == dropped["spec"]


@pytest.mark.parametrize("values", [(), (scoped("team-a"),)])
def test_s12_rights_have_no_wildcard_no_exec_and_no_way_to_more_rights(values: tuple[str, ...]) -> None:
    bound = {o["roleRef"]["name"] for o in render(*values) if o["kind"].endswith("RoleBinding")}
    roles = [o for o in render(*values) if o["kind"] in {"Role", "ClusterRole"} and o["metadata"]["name"] in bound]
    rules = [rule for role in roles for rule in role["rules"]]
    words = {word for rule in rules for words in rule.values() for word in words}
    assert "*" not in words
    assert not words & {"pods/exec", "pods/attach", "pods/portforward", "escalate", "bind", "impersonate", "roles"}
    secrets = {verb for rule in rules if "secrets" in rule["resources"] for verb in rule["verbs"]}
    assert secrets == {"get", "list", "watch", "create", "patch"}


@dataclass(frozen=True, slots=True)
class Scope:
    """One way to install the operator."""

    server: ApiServer
    namespaces: tuple[str, ...]

    def grants(self, verb: str, group: str, resource: str, namespace: str | None, user: str = SERVICE_ACCOUNT) -> bool:
        """Whether the operator's service account may, or another user."""
        return self._says(True, _review(user, verb, group, resource, namespace))

    def refuses(self, verb: str, group: str, resource: str, namespace: str | None, user: str = SERVICE_ACCOUNT) -> bool:
        """Whether it may not."""
        return self._says(False, _review(user, verb, group, resource, namespace))

    def _says(self, allowed: bool, review: Obj) -> bool:
        """The API server judges by its watch of roles and bindings, which sees what was written or deleted a moment
        later: it has some seconds to say so.
        """
        deadline = time.monotonic() + RIGHTS_SECONDS
        path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
        while self.server.call("POST", path, review).body["status"]["allowed"] is not allowed:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True


def _review(user: str, verb: str, group: str, resource: str, namespace: str | None) -> Obj:
    resource, _, subresource = resource.partition("/")
    attributes = {"verb": verb, "group": group, "resource": resource, "subresource": subresource}
    if namespace is not None:
        attributes["namespace"] = namespace
    return {"spec": {"user": user, "resourceAttributes": attributes}}


@pytest.fixture(params=[(), ("team-a",)], ids=["cluster-wide", "one-namespace"])
def scope(request: pytest.FixtureRequest, system: ApiServer) -> Iterator[Scope]:
    """The chart's rights, granted in one scope and taken away again."""
    namespaces: tuple[str, ...] = request.param
    kinds = {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    objects = [o for o in render(*([scoped(*namespaces)] if namespaces else [])) if o["kind"] in kinds]
    for obj in objects:
        apply(system, obj)
    yield Scope(system, namespaces)
    for obj in objects:
        system.call("DELETE", f"{_collection(obj)}/{obj['metadata']['name']}")


def test_rights_reach_no_further_than_their_scope(scope: Scope) -> None:
    everywhere = not scope.namespaces
    for namespace, granted in (("team-a", True), ("team-b", everywhere)):
        for verb, group, resource in (
            ("list", "", "secrets"),
            ("patch", "apps", "statefulsets"),
            ("patch", "", "pods"),
            ("delete", "", "pods"),
            ("patch", "", "pods/resize"),
            ("patch", "", "persistentvolumeclaims"),
            ("create", "", "events"),
            ("list", "", "events"),
            ("watch", names.GROUP, names.PLURAL),
            ("patch", names.GROUP, f"{names.PLURAL}/status"),
        ):
            judges = scope.grants if granted else scope.refuses
            assert judges(verb, group, resource, namespace), (verb, resource, namespace)
    assert scope.grants("watch", "", "nodes", None)
    assert scope.grants("get", "storage.k8s.io", "storageclasses", None)
    assert scope.refuses("patch", "storage.k8s.io", "storageclasses", None)
    for verb, group, resource in (
        ("create", "", "pods/exec"),
        ("create", "", "pods"),
        ("delete", "", "secrets"),
        ("update", "", "pods/resize"),
        ("create", "", "persistentvolumeclaims"),
        ("update", names.GROUP, names.PLURAL),
        ("create", names.GROUP, names.PLURAL),
        ("get", "coordination.k8s.io", "leases"),
        ("create", "rbac.authorization.k8s.io", "rolebindings"),
    ):
        assert scope.refuses(verb, group, resource, "team-a"), (verb, resource)
    assert scope.refuses("patch", "", "nodes", None)


def test_who_may_edit_may_scale_and_who_may_view_may_look(scope: Scope) -> None:
    for user in ("edit", "view"):
        binding = {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": user, "namespace": "team-a"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": f"{RELEASE}-{user}"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }
        apply(scope.server, binding)

    scale = (names.GROUP, f"{names.PLURAL}/scale", "team-a")
    assert scope.grants("update", *scale, "edit")
    assert scope.grants("patch", *scale, "edit")
    assert scope.grants("get", *scale, "view")
    assert scope.refuses("patch", *scale, "view")


class RunningOperator:
    """The operator's own program, as the service account of the chart."""

    def __init__(self, scope: Scope, directory: Path) -> None:
        token = scope.server.call(
            "POST",
            f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/{RELEASE}/token",
            {"spec": {"expirationSeconds": 3600}},
        ).body["status"]["token"]
        kubeconfig = json.loads(scope.server.kubeconfig.read_text())
        kubeconfig["users"][0]["user"] = {"token": token}
        (directory / "kubeconfig").write_text(json.dumps(kubeconfig))
        self._health, metrics = _free_ports()
        self._log = directory / "log"
        argv = [sys.executable, "-m", "cachecluster.cli", "run", "--log-format=text", "--log-level=debug"]
        argv += [
            f"--kubeconfig={directory / 'kubeconfig'}",
            f"--health-port={self._health}",
            f"--metrics-port={metrics}",
        ]
        argv += [f"--namespace={n}" for n in scope.namespaces]
        environment = {**os.environ, "POD_NAMESPACE": SYSTEM, "POD_NAME": "operator-0"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text()

    @property
    def ready(self) -> bool:
        """Whether the readiness probe passes."""
        assert self._process.poll() is None, self.log
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._health}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (OSError, urllib.error.HTTPError):
            return False

    def stop(self) -> None:
        """SIGTERM, as the kubelet does."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(PATIENCE)


def _free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        return one.getsockname()[1], two.getsockname()[1]


def until(condition: Callable[[], bool], what: str, operator: RunningOperator) -> None:
    """Wait for it; on failure show the operator's log."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}\n{operator.log}"
        time.sleep(0.1)


def test_operator_lives_with_the_charts_rights(scope: Scope, tmp_path: Path) -> None:
    """From the lease to every child, status, Events and deletion: nothing is forbidden to it. (There are no pods.)"""
    server = scope.server
    clusters = f"/apis/{names.API_VERSION}/namespaces/team-a/{names.PLURAL}"
    operator = RunningOperator(scope, tmp_path)
    try:
        until(lambda: operator.ready, "the operator is ready", operator)
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "cart"}, "spec": VALID}
        created = server.call("POST", clusters, body)
        assert created.accepted, created

        def reported() -> bool:
            status = server.call("GET", f"{clusters}/cart").body.get("status", {})
            return bool(status.get("conditions"))

        def made(path: str, name: str) -> Callable[[], bool]:
            return lambda: server.call("GET", f"{path}/{name}").accepted

        core, shard = "/api/v1/namespaces/team-a", names.shard_name("cart", 0)
        until(reported, "conditions are written", operator)
        until(made("/apis/apps/v1/namespaces/team-a/statefulsets", shard), "a shard's StatefulSet exists", operator)
        until(made("/apis/networking.k8s.io/v1/namespaces/team-a/networkpolicies", "cart"), "a policy exists", operator)
        until(made(f"{core}/services", "cart"), "the service exists", operator)
        until(made(f"{core}/secrets", names.connection_secret("cart")), "the connection Secret exists", operator)
        until(lambda: bool(server.call("GET", f"{core}/events").body["items"]), "an Event is posted", operator)
        drifted = server.call("DELETE", f"{core}/services/cart")
        assert drifted.accepted, drifted
        until(made(f"{core}/services", "cart"), "the deleted service is back", operator)
        server.call("DELETE", f"{clusters}/cart")
        until(lambda: server.call("GET", f"{clusters}/cart").code == 404, "the CacheCluster is gone", operator)
        secret = server.call("GET", f"{core}/secrets/{names.system_secret('cart')}")
        assert secret.code == 404 or not secret.body["metadata"].get("finalizers")
    finally:
        operator.stop()
    assert "orbidden" not in operator.log
    assert " 403" not in operator.log


def test_s12_log_of_a_whole_life_holds_no_password(scope: Scope, tmp_path: Path) -> None:
    server = scope.server
    operator = RunningOperator(scope, tmp_path)
    try:
        until(lambda: operator.ready, "the operator is ready", operator)
        clusters = f"/apis/{names.API_VERSION}/namespaces/team-a/{names.PLURAL}"
        body = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": "secretive"}, "spec": VALID}
        assert server.call("POST", clusters, body).accepted
        path = f"/api/v1/namespaces/team-a/secrets/{names.connection_secret('secretive')}"
        until(lambda: server.call("GET", path).accepted, "the connection Secret exists", operator)
        system = server.call("GET", f"/api/v1/namespaces/team-a/secrets/{names.system_secret('secretive')}").body
        events = json.dumps(server.call("GET", "/api/v1/namespaces/team-a/events").body)
        status = json.dumps(server.call("GET", f"{clusters}/secretive").body)
        server.call("DELETE", f"{clusters}/secretive")
        until(lambda: server.call("GET", f"{clusters}/secretive").code == 404, "the CacheCluster is gone", operator)
    finally:
        operator.stop()
    passwords = [base64.b64decode(value).decode() for value in system["data"].values()]
    assert len(passwords) == 4
    for text in (operator.log, events, status):
        assert not any(password in text for password in passwords)
