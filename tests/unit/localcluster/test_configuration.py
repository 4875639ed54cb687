"""Configuration that the local cluster writes for its programs."""

import base64
import json
import stat
import tarfile
import tomllib
from pathlib import Path

import pytest
from cryptography import x509

from e2e.localcluster import pause
from e2e.localcluster.controlplane import PROVISIONER, base_objects, corefile_text
from e2e.localcluster.instance import STATE_ROOT_VARIABLE, Instance, Layout, layout
from e2e.localcluster.metrics import metrics_objects, metrics_server_flags
from e2e.localcluster.node import cni_config, containerd_config, kubelet_config
from e2e.localcluster.pki import Pki

DISK = Path("/disk")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Layout:
    monkeypatch.setenv(STATE_ROOT_VARIABLE, str(tmp_path))
    return layout(Instance("unit"), 3, 3)


def test_containerd_is_configured_below_the_nodes_disk(made: Layout) -> None:
    config = tomllib.loads(containerd_config(DISK))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]

    assert {config["root"], config["state"], config["grpc"]["address"], cri["cni"]["conf_dir"]} == {
        "/disk/containerd",
        "/disk/run",
        "/disk/containerd.sock",
        "/disk/cni",
    }
    assert cri["restrict_oom_score_adj"] is True
    assert cri["sandbox_image"] == pause.PAUSE_REF


def test_pods_get_addresses_of_their_nodes_range(made: Layout) -> None:
    ranges = [cni_config(node, DISK)["plugins"][0]["ipam"]["ranges"] for node in made.nodes]

    assert ranges == [[[{"subnet": str(node.pods)}]] for node in made.nodes]


def test_kubelets_have_cgroups_of_their_own(made: Layout) -> None:
    configs = [kubelet_config(made, node, DISK, Path("/ca")) for node in made.nodes]

    assert [config["cgroupRoot"] for config in configs] == ["/ccl-unit/n0", "/ccl-unit/n1", "/ccl-unit/n2"]
    assert {tuple(config["clusterDNS"]) for config in configs} == {(str(made.instance.dns_service),)}


def test_dns_serves_the_cluster_and_forwards_nothing() -> None:
    text = corefile_text("/some/kubeconfig")

    assert "kubeconfig /some/kubeconfig" in text
    assert "forward" not in text


def test_one_storage_class_is_the_default_and_both_wait_for_the_pod(made: Layout) -> None:
    classes = {o["metadata"]["name"]: o for o in base_objects(made.instance) if o["kind"] == "StorageClass"}
    default = "storageclass.kubernetes.io/is-default-class"

    assert {name: c["metadata"]["annotations"][default] for name, c in classes.items()} == {
        "standard": "true",
        "zonal": "false",
    }
    assert {name: c["parameters"]["topologyKey"] for name, c in classes.items()} == {
        "standard": "kubernetes.io/hostname",
        "zonal": "topology.kubernetes.io/zone",
    }
    assert {c["volumeBindingMode"] for c in classes.values()} == {"WaitForFirstConsumer"}
    assert {c["provisioner"] for c in classes.values()} == {PROVISIONER}


def test_credentials_are_for_root_alone_and_differ(made: Layout) -> None:
    pki = Pki(made.instance)
    pki.create(made)

    files = [*pki.directory.iterdir(), made.instance.kubeconfig]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    tokens = [line.split(",")[0] for line in pki.tokens.read_text().splitlines()]
    assert len(tokens) == len(set(tokens)) == 5 + len(made.nodes)


def test_user_reaches_the_api_server_on_loopback_and_nodes_inside(made: Layout) -> None:
    pki = Pki(made.instance)
    pki.create(made)

    def server(path: Path) -> str:
        return str(json.loads(path.read_text())["clusters"][0]["cluster"]["server"])

    assert server(made.instance.kubeconfig) == f"https://127.0.0.1:{made.instance.port}"
    assert server(pki.node_kubeconfig("n2")) == f"https://{made.instance.control_plane}:6443"
    certificate = x509.load_pem_x509_certificate(pki.server.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    addresses = {str(address) for address in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"127.0.0.1", str(made.instance.control_plane), str(made.instance.kubernetes_service)}


def test_metrics_are_served_by_whom_the_cas_vouch_for(made: Layout) -> None:
    pki = Pki(made.instance)
    pki.create(made)

    objects = {o["kind"]: o for o in metrics_objects(made.instance, pki.ca.read_bytes())}
    service, slice_ = objects["Service"], objects["EndpointSlice"]
    spec = objects["APIService"]["spec"]
    assert base64.b64decode(spec["caBundle"]) == pki.ca.read_bytes()
    assert spec["service"] == service["metadata"]
    assert slice_["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
    assert f"--secure-port={slice_['ports'][0]['port']}" in metrics_server_flags(pki)
    certificate = x509.load_pem_x509_certificate(pki.metrics.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["{name}.{namespace}.svc".format(**spec["service"])]


def test_no_other_certificate_passes_for_the_api_server_s_own(made: Layout) -> None:
    pki = Pki(made.instance)
    pki.create(made)

    authorities = {path: x509.load_pem_x509_certificate(path.read_bytes()) for path in (pki.ca, pki.front_proxy_ca)}
    front_proxy = x509.load_pem_x509_certificate(pki.front_proxy.read_bytes())
    front_proxy.verify_directly_issued_by(authorities[pki.front_proxy_ca])
    for path in (pki.server, pki.kubelet_client, pki.metrics):
        x509.load_pem_x509_certificate(path.read_bytes()).verify_directly_issued_by(authorities[pki.ca])


def test_pause_image_has_busybox_under_all_its_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "busybox"
    program.write_text("#!/bin/sh\necho busybox\necho sh\necho wget\n")
    program.chmod(0o755)
    monkeypatch.setattr(pause, "BUSYBOX", (program,))
    monkeypatch.setattr("e2e.localcluster.docker_archive.debian_architecture", lambda: "amd64")

    pause.write_pause_image(tmp_path / "image.tar")

    with tarfile.open(tmp_path / "image.tar") as image:
        layer = next(name for name in image.getnames() if name.endswith(".tar"))
        content = image.extractfile(layer)
        assert content is not None
        with tarfile.open(fileobj=content) as files:
            names = {member.name: member for member in files}
    assert names["bin/busybox"].mode == 0o755
    assert {names["bin/sh"].linkname, names["bin/wget"].linkname} == {"busybox"}
