"""What runs on a node: containerd, kubelet, kube-proxy and the agent that enforces NetworkPolicies."""

import json
import shutil
from pathlib import Path
from typing import Any, Final

from e2e.localcluster import network
from e2e.localcluster.build import Programs
from e2e.localcluster.commands import run, wait_until
from e2e.localcluster.controlplane import CLUSTER_DOMAIN
from e2e.localcluster.instance import Layout, Node
from e2e.localcluster.machine import Machine
from e2e.localcluster.pause import PAUSE_REF
from e2e.localcluster.pki import INFRASTRUCTURE, PROXY, Pki

CONTAINERD_SECONDS: Final = 180.0
IMPORT_SECONDS: Final = 300.0
IMAGE_NAMESPACE: Final = "k8s.io"
CNI_PLUGINS: Final = Path("/usr/lib/cni")
REGION: Final = "local"
POD_NETWORK: Final = "pods"


class NodeMachine:
    """One node of a cluster."""

    def __init__(self, layout: Layout, node: Node, programs: Programs) -> None:
        self._layout = layout
        self._kubenode = str(programs.kubenode)
        self._pki = Pki(layout.instance)
        self.node: Final = node
        self.machine: Final = Machine(layout.instance, node.name)

    @property
    def _socket(self) -> Path:
        return self.machine.disk / "containerd.sock"

    def power_on(self, sandbox_image: Path) -> None:
        """Plug it in, boot it, start its programs except the policy agent, which needs the Node object."""
        network.plug_in(self._layout, self.node)
        self.machine.boot()
        self._start_containerd()
        self.import_image(sandbox_image)
        self._start_kubelet()
        self._start_proxy()

    def power_off(self) -> None:
        """Cut the wire first, so that no goodbye gets out, then kill everything."""
        network.cut_node(self._layout.instance, self.node)
        self.machine.power_off()
        network.unplug(self._layout.instance, self.node)

    def start_policy_agent(self) -> None:
        """Enforce NetworkPolicies from now on."""
        self.machine.start(
            "netpol",
            [
                self._kubenode,
                "netpol",
                f"--kubeconfig={self._pki.kubeconfig(INFRASTRUCTURE)}",
                f"--node={self.node.name}",
                f"--service-cidr={self._layout.instance.service_network}",
            ],
        )

    def import_image(self, archive: Path) -> None:
        """Load an image in `docker save` or OCI format."""
        self._ctr("images", "import", str(archive), timeout=IMPORT_SECONDS)

    def _ctr(self, *argv: str, timeout: float) -> str:
        return run("ctr", "--address", str(self._socket), "--namespace", IMAGE_NAMESPACE, *argv, timeout=timeout)

    def _start_containerd(self) -> None:
        disk = self.machine.disk
        for directory in ("cni", "cni-data", "containerd"):
            (disk / directory).mkdir(exist_ok=True)
        shutil.rmtree(disk / "run", ignore_errors=True)  # as a boot does
        self._socket.unlink(missing_ok=True)
        (disk / "cni" / "10-pods.conflist").write_text(json.dumps(cni_config(self.node, disk)))
        config = disk / "containerd.toml"
        config.write_text(containerd_config(disk))
        self.machine.start("containerd", ["containerd", "--config", str(config), "--log-level", "warn"])

        def serving() -> bool:
            return self._socket.exists() and bool(self._ctr("version", timeout=CONTAINERD_SECONDS))

        wait_until(f"containerd of {self.node.name} answers", serving, CONTAINERD_SECONDS, self.machine.check)

    def _start_kubelet(self) -> None:
        disk = self.machine.disk
        (disk / "resolv.conf").touch()
        config = disk / "kubelet.json"
        config.write_text(json.dumps(kubelet_config(self._layout, self.node, disk, self._pki.ca), indent=2))
        labels = f"topology.kubernetes.io/zone={self.node.zone},topology.kubernetes.io/region={REGION}"
        self.machine.start(
            "kubelet",
            [
                self._kubenode,
                "kubelet",
                f"--config={config}",
                f"--kubeconfig={self._pki.node_kubeconfig(self.node.name)}",
                f"--cert-dir={disk / 'kubelet-pki'}",
                f"--hostname-override={self.node.name}",
                f"--node-ip={self.node.address}",
                f"--node-labels={labels}",
            ],
        )

    def _start_proxy(self) -> None:
        self.machine.start(
            "kube-proxy",
            [
                self._kubenode,
                "kube-proxy",
                f"--kubeconfig={self._pki.kubeconfig(PROXY)}",
                f"--hostname-override={self.node.name}",
                "--proxy-mode=iptables",
                f"--cluster-cidr={self._layout.instance.pod_network}",
                # These sysctls can't be written from a network namespace.
                "--conntrack-max-per-core=0",
                "--conntrack-tcp-timeout-established=0",
                "--conntrack-tcp-timeout-close-wait=0",
                "--iptables-min-sync-period=0s",
                "--iptables-sync-period=30s",
            ],
        )


def address_book(disk: Path) -> Path:
    """Where host-local keeps the addresses that it has given to Pods."""
    return disk / "cni-data" / POD_NETWORK


def cni_config(node: Node, disk: Path) -> dict[str, Any]:
    """Pods get addresses of the node's own range and one wire each."""
    ipam = {
        "type": "host-local",
        "dataDir": str(address_book(disk).parent),
        "ranges": [[{"subnet": str(node.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {
        "cniVersion": "1.0.0",
        "name": POD_NETWORK,
        "plugins": [
            {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam},
            {"type": "portmap", "capabilities": {"portMappings": True}},
        ],
    }


def containerd_config(disk: Path) -> str:
    """containerd 1.6 and 1.7, without what a machine in a namespace cannot have."""
    unused = ["snapshotter.v1.aufs", "snapshotter.v1.devmapper", "snapshotter.v1.zfs", "snapshotter.v1.btrfs"]
    disabled = json.dumps([f"io.containerd.{plugin}" for plugin in unused])
    return f"""version = 2
root = "{disk}/containerd"
state = "{disk}/run"
disabled_plugins = {disabled}

[grpc]
  address = "{disk}/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_REF}"
  disable_apparmor = true
  # Without CAP_SYS_RESOURCE a lower score cannot be set, and every sandbox would fail.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{disk}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""


def kubelet_config(layout: Layout, node: Node, disk: Path, ca: Path) -> dict[str, Any]:
    """A kubelet with a cgroup of its own and no opinion on the real machine's memory and disk."""
    instance = layout.instance
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{instance.cgroup}/{node.name}",
        "cgroupsPerQOS": True,
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{disk}/containerd.sock",
        "clusterDNS": [str(instance.dns_service)],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": str(disk / "resolv.conf"),
        # The nodes share the real machine's disk and memory; none of them may evict for what the others use.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "4s",
        "syncFrequency": "10s",
        "volumeStatsAggPeriod": "10s",  # a minute by default, and no pod is evicted for what it writes before that
        "maxPods": 110,
        "serializeImagePulls": False,
    }
