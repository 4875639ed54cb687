"""The local cluster itself: what a scenario takes for granted about the Kubernetes under it.

Uses a small instance of its own, beside the one of the other scenarios. The order is that of the file: the last test
takes the instance down.
"""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from e2e.localcluster import cgroups, network
from e2e.localcluster.__main__ import main
from e2e.localcluster.cluster import LocalCluster
from e2e.localcluster.commands import run, wait_until
from e2e.localcluster.instance import FABRIC, LocalClusterError
from e2e.localcluster.machine import Machine
from e2e.localcluster.processes import process
from e2e.localcluster.status import node_statuses, problems
from e2e.webservers import (
    SECONDS,
    USER,
    ZONE_LABEL,
    allow_only,
    apply,
    fetch,
    get,
    inside,
    kubectl,
    node_of,
    pod,
    started,
    until_ready,
    web_service,
    web_statefulset,
)

NAME: Final = "selftest"
NODES: Final = 3
ZONES: Final = 3


@pytest.fixture(scope="module")
def cluster(request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """Three nodes in three zones."""
    if request.config.getoption("--platform") != "local":
        pytest.skip("this tests the local cluster, and another platform was asked for")
    if os.geteuid() != 0:
        pytest.skip("the local cluster needs root")
    made = LocalCluster(NAME)
    made.down()
    made.up(NODES, ZONES)
    yield made
    made.down()


@pytest.fixture(scope="module")
def web(cluster: LocalCluster) -> None:
    """A web server in each zone, with a volume each, as a user that is not root."""
    apply(cluster, web_service(), web_statefulset(ZONES))
    until_ready(cluster, "web-0", "web-1", "web-2")


@pytest.fixture(scope="module")
def client(cluster: LocalCluster) -> str:
    """A Pod to call from."""
    apply(cluster, pod("client"))
    until_ready(cluster, "client")
    return "client"


def test_nodes_are_ready_in_their_zones(cluster: LocalCluster) -> None:
    labels = {
        node["metadata"]["name"]: node["metadata"]["labels"][ZONE_LABEL] for node in get(cluster, "nodes")["items"]
    }

    assert labels == {"n0": "a", "n1": "b", "n2": "c"} == {name: cluster.zone_of(name) for name in cluster.node_names}
    assert problems(cluster.layout) == []


def test_only_the_control_plane_answers_for_its_address(cluster: LocalCluster) -> None:
    instance = cluster.instance

    def ip(machine: str, *words: str) -> list[dict[str, str]]:
        answer: list[dict[str, str]] = json.loads(run("ip", "-n", instance.netns(machine), "-json", *words))
        return answer

    own = ip(FABRIC, "link", "show", network.CORE)[0]["address"]
    address = str(instance.control_plane)
    learned = [row.get("lladdr") for node in cluster.layout.nodes for row in ip(node.name, "neigh", "show", address)]
    assert learned == [own] * NODES


def test_up_again_changes_nothing(cluster: LocalCluster) -> None:
    before = [service.main for service in Machine(cluster.instance, FABRIC).services]

    cluster.up(NODES, ZONES)

    assert [service.main for service in Machine(cluster.instance, FABRIC).services] == before
    with pytest.raises(LocalClusterError, match="is up with 3 nodes in 3 zones"):
        cluster.up(NODES + 1, ZONES)


def test_second_changer_is_refused_while_the_first_is_at_work(cluster: LocalCluster) -> None:
    script = (
        "import sys; from e2e.localcluster.cluster import LocalCluster; "
        f"c = LocalCluster({NAME!r}); cm = c._locked(); cm.__enter__(); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"  # noqa: PT018 -- one handshake

    with pytest.raises(LocalClusterError, match="being changed by another process"):
        cluster.partition("n0")
    holder.communicate("")

    assert all(status.joined for status in node_statuses(cluster.layout))


@pytest.mark.usefixtures("web")
def test_pods_spread_over_zones(cluster: LocalCluster) -> None:
    nodes = [item["spec"]["nodeName"] for item in get(cluster, "pods", "-l", "app=web")["items"]]

    assert sorted(cluster.zone_of(node) for node in nodes) == ["a", "b", "c"]


@pytest.mark.usefixtures("web")
def test_names_lead_to_pods_of_other_nodes(cluster: LocalCluster, client: str) -> None:
    for name in ("web-0", "web-1", "web-2"):
        assert name in fetch(cluster, client, f"{name}.web.default.svc.cluster.local")


@pytest.mark.usefixtures("web")
def test_service_address_leads_to_pods(cluster: LocalCluster, client: str) -> None:
    apply(cluster, web_service(name="front", headless=False))
    wait_until("the Service works", lambda: "web-" in fetch(cluster, client, "front"), SECONDS)

    address = get(cluster, "service", "front")["spec"]["clusterIP"]
    answer = cluster.run_in_fabric(["busybox", "timeout", "5", "busybox", "wget", "-qO-", f"http://{address}:8080/"])
    assert "web-" in answer.stdout, answer.stderr


@pytest.mark.usefixtures("web")
def test_network_policy_denies_and_allows(cluster: LocalCluster, client: str) -> None:
    apply(cluster, pod("stranger"), allow_only("client"))
    until_ready(cluster, "stranger")

    wait_until("strangers are refused", lambda: fetch(cluster, "stranger", "web-1.web") == "", SECONDS)
    assert "web-1" in fetch(cluster, client, "web-1.web")

    kubectl(cluster, "delete", "networkpolicy", "web")
    wait_until("strangers are let in", lambda: "web-1" in fetch(cluster, "stranger", "web-1.web"), SECONDS)


@pytest.mark.usefixtures("web")
def test_volume_outlives_its_pod_and_serves_a_user_that_is_not_root(cluster: LocalCluster) -> None:
    before = inside(cluster, "web-0", "cat", "/data/index.html")
    assert inside(cluster, "web-0", "id", "-u") == str(USER)

    kubectl(cluster, "delete", "pod", "web-0")
    until_ready(cluster, "web-0")

    after = inside(cluster, "web-0", "cat", "/data/index.html")
    assert after.startswith(before)
    assert len(after.splitlines()) == len(before.splitlines()) + 1


def test_zonal_volume_is_bound_to_the_zone_and_goes_with_its_claim(cluster: LocalCluster) -> None:
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "zonal"},
        "spec": {
            "storageClassName": "zonal",
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Mi"}},
        },
    }
    user = pod("zonal")
    user["spec"]["nodeSelector"] = {ZONE_LABEL: "b"}
    user["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "zonal"}}]
    user["spec"]["containers"][0]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    apply(cluster, claim, user)
    until_ready(cluster, "zonal")
    inside(cluster, "zonal", "touch", "/data/written")  # with no fsGroup and no root

    volume = get(cluster, "pv", get(cluster, "pvc", "zonal")["spec"]["volumeName"])
    [term] = volume["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [{"key": ZONE_LABEL, "operator": "In", "values": ["b"]}]
    directory = Path(volume["spec"]["local"]["path"])
    assert (directory / "written").exists()

    kubectl(cluster, "delete", "pod,pvc", "zonal")
    wait_until("the volume's directory is removed", lambda: not directory.exists(), SECONDS)


def test_pod_security_admission_refuses_a_privileged_pod(cluster: LocalCluster) -> None:
    space = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "strict", "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    apply(cluster, space)
    wild = pod("wild")
    wild["metadata"]["namespace"] = "strict"
    wild["spec"]["containers"][0]["securityContext"] = {"privileged": True}

    refused = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(wild))

    assert refused.returncode != 0
    assert "violates PodSecurity" in refused.stderr


@pytest.mark.usefixtures("web")
def test_kill_container_hits_the_first_process_alone(cluster: LocalCluster, client: str) -> None:
    stamp = started(cluster, "web-1")
    others = {name: started(cluster, name) for name in ("web-0", "web-2", client)}
    assert any("httpd" in line for line in cluster.processes("default", "web-1"))

    cluster.kill_container("default", "web-1", "web")

    wait_until("web-1 runs again", lambda: started(cluster, "web-1") not in (stamp, None), SECONDS)
    assert {name: started(cluster, name) for name in others} == others
    with pytest.raises(LocalClusterError, match="no running container 'nothing'; running: web"):
        cluster.kill_container("default", "web-1", "nothing")


@pytest.mark.usefixtures("web")
def test_stopped_container_is_silent_and_goes_on(cluster: LocalCluster, client: str) -> None:
    wait_until("web-1 answers", lambda: "web-1" in fetch(cluster, client, "web-1.web"), SECONDS)

    cluster.kill_container("default", "web-1", "web", signal.SIGSTOP)
    assert fetch(cluster, client, "web-1.web") == ""

    cluster.kill_container("default", "web-1", "web", signal.SIGCONT)
    wait_until("web-1 answers again", lambda: "web-1" in fetch(cluster, client, "web-1.web"), SECONDS)


@pytest.mark.usefixtures("web")
def test_use_of_nodes_and_pods_is_measured(cluster: LocalCluster) -> None:
    def measured(kind: str) -> dict[str, list[str]]:
        lines = cluster.kubectl("top", kind, "--no-headers").stdout.splitlines()
        return {name: figures for name, *figures in map(str.split, lines)}

    wait_until("all nodes are measured", lambda: measured("nodes").keys() == {"n0", "n1", "n2"}, SECONDS)
    wait_until("all pods are measured", lambda: measured("pods").keys() >= {"web-0", "web-1", "web-2"}, SECONDS)
    cpu, memory = measured("pods")["web-0"]
    assert cpu.endswith("m")
    assert memory.endswith("Mi")


@pytest.mark.parametrize("fault", ["freeze", "partition"])
@pytest.mark.usefixtures("web")
def test_node_falls_silent_and_comes_back(cluster: LocalCluster, fault: str) -> None:
    node = node_of(cluster, "web-2")
    far = next(name for name in ("web-0", "web-1") if node_of(cluster, name) != node)
    stamp = started(cluster, "web-2")

    assert main(["node", fault, "--name", NAME, node]) == 0
    status = next(s for s in node_statuses(cluster.layout) if s.node.name == node)
    assert status.summary == {"freeze": "frozen", "partition": "partitioned"}[fault]
    assert problems(cluster.layout) == []  # a fault that was asked for is none
    assert fetch(cluster, far, "web-2.web") == ""

    assert main(["node", {"freeze": "thaw", "partition": "heal"}[fault], "--name", NAME, node]) == 0
    wait_until("web-2 answers again", lambda: "web-2" in fetch(cluster, far, "web-2.web"), SECONDS)
    assert started(cluster, "web-2") == stamp


def test_zone_can_be_cut_off(cluster: LocalCluster) -> None:
    cluster.partition_zone("c")
    assert [s.summary == "partitioned" for s in node_statuses(cluster.layout)] == [False, False, True]

    cluster.heal_zone("c")
    assert all(s.joined for s in node_statuses(cluster.layout))


@pytest.mark.usefixtures("web")
def test_node_loses_power_and_comes_back_with_its_data(cluster: LocalCluster) -> None:
    node = node_of(cluster, "web-2")
    stamp = started(cluster, "web-2")
    before = inside(cluster, "web-2", "cat", "/data/index.html")
    victims = cgroups.members(cluster.instance.cgroup, node)
    assert victims

    cluster.power_off(node)
    assert not any(victim.alive for victim in victims)
    assert cluster.instance.netns(node) not in network.namespaces_of(cluster.instance)
    with pytest.raises(LocalClusterError, match="is switched off"):
        cluster.freeze(node)

    cluster.power_on(node)
    wait_until("web-2 was started again", lambda: started(cluster, "web-2") not in (stamp, None), SECONDS)
    assert inside(cluster, "web-2", "cat", "/data/index.html").startswith(before)
    assert problems(cluster.layout) == []


def test_api_server_stops_and_comes_back_while_watches_are_open(cluster: LocalCluster) -> None:
    command = [str(cluster.programs.kubectl), f"--kubeconfig={cluster.kubeconfig}", "get", "pods", "--watch"]
    watches = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(5)]
    for watch in watches:
        assert watch.stdout is not None
        assert watch.stdout.readline()  # connected

    cluster.stop_api_server()
    assert any("kube-apiserver" in problem for problem in problems(cluster.layout))
    cluster.start_api_server()

    for watch in watches:
        watch.kill()
        watch.communicate(timeout=SECONDS)
    assert problems(cluster.layout) == []


def test_status_names_the_dead_part_and_shows_its_log(
    cluster: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(cluster.instance, "n1")
    proxy = machine.service("kube-proxy").main
    proxy.signal(signal.SIGKILL)
    wait_until("kube-proxy has ended", lambda: not proxy.alive, SECONDS)

    assert main(["status", "--name", NAME]) == 1

    text = capsys.readouterr().out
    assert "PROBLEM: on n1, kube-proxy has ended" in text
    assert f"end of {cluster.instance.logs}/n1-kube-proxy.log" in text
    with pytest.raises(LocalClusterError, match="is there but not whole: on n1, kube-proxy has ended"):
        cluster.up(NODES, ZONES)


def test_neighbour_instance_lives_and_dies_alone(cluster: LocalCluster) -> None:
    other = LocalCluster(f"{NAME}-b")
    other.down()
    try:
        other.up(1, 1)
        assert other.node_names == ["n0"]
        assert get(other, "pods")["items"] == []
        assert get(cluster, "nodes")["items"][-1]["metadata"]["name"] == "n2"
    finally:
        other.down()

    assert leftovers(other) == []
    assert get(cluster, "nodes")["items"][-1]["metadata"]["name"] == "n2"


def test_down_leaves_nothing_behind_even_of_broken_machines(cluster: LocalCluster) -> None:
    cluster.freeze("n0")
    cluster.power_off("n2")
    mine = cgroups.members(cluster.instance.cgroup, "")
    assert len(mine) > NODES * 4

    assert main(["down", "--name", NAME]) == 0

    assert leftovers(cluster) == []
    assert not any(victim.alive for victim in mine)
    assert main(["down", "--name", NAME]) == 0  # once more is no mistake
    with pytest.raises(LocalClusterError, match="there is no local cluster"):
        cluster.kubectl("version")


def leftovers(cluster: LocalCluster) -> list[str]:
    """Whatever on this machine still has the instance's name."""
    instance = cluster.instance
    found = [str(path) for path in (instance.state, instance.lock) if path.exists()]
    found += network.namespaces_of(instance)
    found += [
        str(path) for root in cgroups.hierarchies() for path in root.rglob(f"*{instance.cgroup}") if path.exists()
    ]
    found += [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"{instance.state}/" in line]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (running := process(int(entry.name))) is not None and running.alive:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if f"{instance.state}/" in command or instance.netns("") in command:
                found.append(command)
    return found
