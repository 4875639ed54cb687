"""The control plane, on the machine called `fabric`: etcd, API server, controllers, scheduler, DNS, volumes, metrics,
and the door through which this machine's user reaches the API server.
"""

import shutil
from typing import Any, Final

from e2e.localcluster.api import Api
from e2e.localcluster.build import Programs
from e2e.localcluster.commands import wait_until
from e2e.localcluster.instance import FABRIC, Instance
from e2e.localcluster.machine import Machine
from e2e.localcluster.metrics import METRICS_SERVER, metrics_server_flags
from e2e.localcluster.network import NETNS_DIRECTORY
from e2e.localcluster.pki import API_PORT, CONTROLLER_MANAGER, FRONT_PROXY, INFRASTRUCTURE, SCHEDULER, Pki

API_SERVER: Final = "kube-apiserver"
PROVISIONER: Final = "cachecluster.dev/local"
READY_SECONDS: Final = 300.0
AUTOSCALER_SECONDS: Final = 5
"""Kubernetes' own default of 15 adds nothing to a test but waiting."""
CLUSTER_DOMAIN: Final = "cluster.local"


class ControlPlane:
    """Starts the control plane's programs and knows which are running."""

    def __init__(self, instance: Instance, programs: Programs) -> None:
        self._instance = instance
        self._kubenode = str(programs.kubenode)
        self._pki = Pki(instance)
        self.machine: Final = Machine(instance, FABRIC)

    def start(self) -> None:
        """Start all of it and return when the API server is ready.

        Raises:
            LocalClusterError: a part has ended, with the end of its log, or the API server does not become ready.
        """
        self.machine.boot()
        self._start_etcd()
        self._start_api_server()
        self._start_forwarder()
        self._await_api_server()
        for name in (CONTROLLER_MANAGER, SCHEDULER):
            self.machine.start(name, [self._kubenode, name, *self._flags(name)])
        self.machine.start(METRICS_SERVER, [self._kubenode, METRICS_SERVER, *metrics_server_flags(self._pki)])
        self._start_dns()
        self._start_provisioner()

    def stop_api_server(self) -> None:
        """SIGKILL the API server."""
        self.machine.stop(API_SERVER)

    def start_api_server(self) -> None:
        """Start it again and wait until it is ready."""
        if not any(s.name == API_SERVER and s.main.alive for s in self.machine.services):
            self._start_api_server()
        self._await_api_server()

    def _await_api_server(self) -> None:
        api = Api(self._instance.kubeconfig)
        wait_until(
            f"the API server is ready (log: {self._instance.logs})", api.is_ready, READY_SECONDS, self.machine.check
        )

    def _start_etcd(self) -> None:
        client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
        self.machine.start(
            "etcd",
            [
                self._kubenode,
                "etcd",
                f"--data-dir={self.machine.disk / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                "--unsafe-no-fsync",  # nothing here has to survive a power failure of the real machine
                "--log-level=warn",
            ],
        )

    def _start_api_server(self) -> None:
        pki, instance = self._pki, self._instance
        self.machine.start(
            API_SERVER,
            [
                self._kubenode,
                API_SERVER,
                "--etcd-servers=http://127.0.0.1:2379",
                f"--service-cluster-ip-range={instance.service_network}",
                f"--advertise-address={instance.control_plane}",
                f"--secure-port={API_PORT}",
                f"--client-ca-file={pki.ca}",
                f"--tls-cert-file={pki.server}",
                f"--tls-private-key-file={pki.server_key}",
                f"--token-auth-file={pki.tokens}",
                f"--kubelet-client-certificate={pki.kubelet_client}",
                f"--kubelet-client-key={pki.kubelet_client_key}",
                "--kubelet-preferred-address-types=InternalIP",
                f"--requestheader-client-ca-file={pki.front_proxy_ca}",
                f"--requestheader-allowed-names={FRONT_PROXY}",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={pki.front_proxy}",
                f"--proxy-client-key-file={pki.front_proxy_key}",
                "--enable-aggregator-routing=true",  # Services lead through a node, and that may be down
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={pki.service_accounts}",
                f"--service-account-signing-key-file={pki.service_accounts_key}",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",  # beside the default ones: PodSecurity is one of them
                "--allow-privileged=true",
            ],
        )

    def _flags(self, name: str) -> list[str]:
        config = self._pki.kubeconfig(name)
        flags = [
            f"--kubeconfig={config}",
            f"--authentication-kubeconfig={config}",
            f"--authorization-kubeconfig={config}",
            "--leader-elect=false",
        ]
        if name == CONTROLLER_MANAGER:
            flags += [
                f"--root-ca-file={self._pki.ca}",
                f"--service-account-private-key-file={self._pki.service_accounts_key}",
                f"--cluster-signing-cert-file={self._pki.ca}",
                f"--cluster-signing-key-file={self._pki.ca_key}",
                "--use-service-account-credentials=true",
                "--controllers=*,-node-ipam-controller,-cloud-node-lifecycle-controller",
                f"--horizontal-pod-autoscaler-sync-period={AUTOSCALER_SECONDS}s",
            ]
        return flags

    def _start_dns(self) -> None:
        corefile = self.machine.disk / "Corefile"
        corefile.write_text(corefile_text(self._pki.kubeconfig(INFRASTRUCTURE).as_posix()))
        self.machine.start("coredns", [self._kubenode, "coredns", "-conf", str(corefile)])

    def _start_provisioner(self) -> None:
        shutil.rmtree(self._instance.volumes, ignore_errors=True)
        self._instance.volumes.mkdir(parents=True)
        self.machine.start(
            "provisioner",
            [
                self._kubenode,
                "provisioner",
                f"--kubeconfig={self._pki.kubeconfig(INFRASTRUCTURE)}",
                f"--provisioner={PROVISIONER}",
                f"--root={self._instance.volumes}",
            ],
        )

    def _start_forwarder(self) -> None:
        instance = self._instance
        argv = [
            self._kubenode,
            "forward",
            f"--listen=127.0.0.1:{instance.port}",
            f"--netns={NETNS_DIRECTORY / instance.netns(FABRIC)}",
            f"--target={instance.control_plane}:{API_PORT}",
        ]
        self.machine.start_outside("forwarder", argv)


def corefile_text(kubeconfig: str) -> str:
    """CoreDNS's configuration: names of the cluster, and no other, because nothing leads out of the fabric."""
    return f""".:53 {{
    errors
    health 127.0.0.1:8080
    ready 127.0.0.1:8181
    cache 5
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        ttl 2
    }}
}}
"""


def base_objects(instance: Instance) -> list[dict[str, Any]]:
    """What every cluster starts with: the DNS Service and the StorageClasses."""
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"},
        "spec": {"clusterIP": str(instance.dns_service), "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-fabric",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": [{"addresses": [str(instance.control_plane)], "conditions": {"ready": True}}],
    }
    standard = _storage_class("standard", "kubernetes.io/hostname", default=True)
    zonal = _storage_class("zonal", "topology.kubernetes.io/zone", default=False)
    return [service, endpoints, standard, zonal]


def _storage_class(name: str, topology_key: str, *, default: bool) -> dict[str, Any]:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": name,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(default).lower()},
        },
        "provisioner": PROVISIONER,
        "parameters": {"topologyKey": topology_key},
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "WaitForFirstConsumer",
    }
