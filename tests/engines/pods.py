"""Nodes that run as the operator's pods do: its scripts, configuration and Secrets in the image's root file system.

Each node has a mount namespace of its own with the paths of a real pod: a read-only root, `/etc/cachecluster`, `/data`,
`/dev/termination-log`; and it runs as uid 999. Only the address is the harness's (see `harness.binaries`).
"""

import asyncio
import shutil
import sys
from base64 import b64decode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis, RedisCluster

from cachecluster.api import names
from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.memory import memory_limit
from cachecluster.domain.slots import share
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.manifests import Facts, Passwords, build
from tests.engines.harness.addresses import PORT
from tests.engines.harness.cluster import ProcessCluster, is_ok
from tests.engines.harness.node import CALL_TIMEOUT_SECONDS, NodeProcess
from tests.engines.harness.waiting import until

ENGINE_UID: Final = 999
PASSWORDS: Final = Passwords("application-#1 pw", 'operator-"2"\\pw', 'replication "3" #\\pw', "node-$4 'pw")
SYSTEM_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"

# Arguments: root directory, engine's /usr, pod directory (bin, config, live, acl, cgroup, data, termination-log),
# python, program.
SANDBOX: Final = """
set -eu
root=$1 usr=$2 pod=$3
mount -t tmpfs tmpfs "$root"
cd "$root"
mkdir -p usr bin dev proc sys/fs/cgroup data etc/cachecluster/config etc/cachecluster/live etc/cachecluster/acl
rmdir bin
for name in bin sbin lib lib64; do ln -s "usr/$name" "$name"; done
mkdir pod
touch dev/null dev/urandom dev/termination-log
mount --bind "$usr" usr
mount --rbind /proc proc
for name in null urandom; do mount --bind "/dev/$name" "dev/$name"; done
mount --bind "$pod/termination-log" dev/termination-log
mount --bind "$pod/bin" pod
mount --bind "$pod/config" etc/cachecluster/config
mount --bind "$pod/live" etc/cachecluster/live
mount --bind "$pod/acl" etc/cachecluster/acl
mount --bind "$pod/cgroup" sys/fs/cgroup
mount --bind "$pod/data" data
mount -o remount,ro "$root"
exec "$4" -c "$5" "$root"
"""
# Drops root, asks again to die with the test (forgotten when the uid changes), and becomes the start script.
ENTER: Final = f"""
import ctypes, os, sys
os.chroot(sys.argv[1]); os.chdir("/data")
os.setgroups([]); os.setgid({ENGINE_UID}); os.setuid({ENGINE_UID})
ctypes.CDLL(None).prctl(1, 9)
environment = {{**os.environ, "PATH": "/pod:/usr/bin:/bin"}}
os.execve("/pod/sh", ["sh", "/etc/cachecluster/config/start.sh"], environment)
"""
SERVER: Final = """#!/bin/sh
exec /usr/bin/valkey-server "$@" --bind "$NODE_ADDRESS" --bind-source-addr "$NODE_ADDRESS"
"""


class Pods:
    """The pods of one CacheCluster, by shard and ordinal. `tuned` replaces lines of the generated configuration.

    `live` and `acl` are what a pod that starts from now on finds in the ConfigMap of live parameters and in the Secret
    of users, `cgroup` what it can read of its container's limits.
    """

    def __init__(
        self,
        cluster: ProcessCluster,
        spec: Mapping[str, Any],
        *,
        uid: str = "7e1f3a52-0000-4000-8000-000000000001",
        tuned: Mapping[str, str] | None = None,
        passwords: Passwords = PASSWORDS,
    ) -> None:
        self.cluster = cluster
        self.ref = ClusterRef("shop", "cart", uid)
        self.spec = CacheClusterSpec.parse(dict(spec))
        self.passwords = passwords
        self._tuned = dict(tuned or {})
        children = build(self.spec, Facts(self.ref, "cachecluster-system", passwords))
        by_name = {(c["kind"], c["metadata"]["name"]): c for c in children}
        live_name = names.live_config_map(self.ref.name, self.spec.version)
        self.live: dict[str, str] = dict(by_name["ConfigMap", live_name]["data"])
        self._config = next(
            c["data"] for (kind, name), c in by_name.items() if kind == "ConfigMap" and name != live_name
        )
        self.cgroup: dict[str, str] = {"memory.max": f"{memory_limit(self.spec)}\n"}
        secret = by_name["Secret", names.acl_secret(self.ref.name)]["data"]
        self.acl = {key: b64decode(value) for key, value in secret.items()}
        self.nodes = {
            (shard, ordinal): self._add(shard, ordinal)
            for shard in range(self.spec.topology.shards)
            for ordinal in range(self.spec.members_per_shard)
        }

    def __getitem__(self, place: tuple[int, int]) -> NodeProcess:
        return self.nodes[place]

    async def start(self) -> None:
        """Start every pod that does not run."""
        await asyncio.gather(*(node.start() for node in self.nodes.values() if not node.running))

    async def form(self) -> None:
        """Start all and introduce them; slots to ordinal 0, the others its replicas; wait until all serves."""
        await self.start()
        bus = names.bus_port(self.ref.namespace, self.ref.name)
        nodes = list(self.nodes.values())
        for epoch, node in enumerate(nodes, start=1):
            await node.call("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for one in nodes:
            await one.calls(*(("CLUSTER", "MEET", other.address, PORT, bus) for other in nodes if other is not one))
        await until(self._all_know_all, "all know all")
        for shard, slots in enumerate(share(self.spec.topology.shards)):
            await self[shard, 0].call("CLUSTER", "ADDSLOTSRANGE", *(end for ends in slots.ranges for end in ends))
            primary = await self[shard, 0].call("CLUSTER", "MYID")
            for ordinal in range(1, self.spec.members_per_shard):
                await self[shard, ordinal].call("CLUSTER", "REPLICATE", primary)
        for (shard, _), node in self.nodes.items():
            users = (names.user_of(names.USER_REPLICATION, shard), names.USER_APPLICATION)
            await node.calls(*(("ACL", "SETUSER", user, "on") for user in users))
        for node in nodes:
            await until(lambda node=node: is_ok(node), f"cluster_state ok at {node.name}")  # type: ignore[misc]
            await until(lambda node=node: is_ready(node), f"{node.name} is ready\n{node.log_end()}")  # type: ignore[misc]

    def application(self, node: NodeProcess) -> Redis:
        """A client of one node as the application's user."""
        return Redis(
            host=node.address,
            port=PORT,
            username=names.USER_APPLICATION,
            password=self.passwords.application,
            socket_timeout=CALL_TIMEOUT_SECONDS,
            decode_responses=True,
        )

    def cluster_client(self, node: NodeProcess) -> RedisCluster:
        """An ordinary cluster client as the application's user."""
        return RedisCluster(
            host=node.address,
            port=PORT,
            username=names.USER_APPLICATION,
            password=self.passwords.application,
            socket_timeout=CALL_TIMEOUT_SECONDS,
            decode_responses=True,
        )

    async def _all_know_all(self) -> bool:
        tables = await asyncio.gather(*(node.call("CLUSTER", "NODES") for node in self.nodes.values()))
        rows = [[line.split() for line in table.splitlines()] for table in tables]
        settled = [sum("handshake" not in row[2] and row[7] == "connected" for row in table) for table in rows]
        return settled == [len(self.nodes)] * len(self.nodes)

    def _add(self, shard: int, ordinal: int) -> NodeProcess:
        name = names.pod_name(self.ref.name, shard, ordinal)
        return self.cluster.add(
            f"{self.ref.uid[-4:]}-{name}",
            command=lambda node: self._command(node, shard),
            username=names.USER_OPERATOR,
            password=self.passwords.operator,
        )

    def _command(self, node: NodeProcess, shard: int) -> Sequence[str]:
        for part in ("root", "bin", "config", "live", "acl", "cgroup", "data"):
            (node.directory / part).mkdir(parents=True, exist_ok=True)
        termination_log(node).write_text("")
        termination_log(node).chmod(0o666)
        for path in (node.data, *node.data.rglob("*")):
            shutil.chown(path, ENGINE_UID, ENGINE_UID)
        for name, text in self._config.items():
            (node.directory / "config" / name).write_text(tune(text, self._tuned))
        for name, text in self.live.items():
            (node.directory / "live" / name).write_text(tune(text, self._tuned))
        shutil.rmtree(node.directory / "cgroup")
        (node.directory / "cgroup").mkdir()
        for name, text in self.cgroup.items():
            (node.directory / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
            (node.directory / "cgroup" / name).write_text(text)
        for name, content in self.acl.items():
            (node.directory / "acl" / name).write_bytes(content)
            (node.directory / "acl" / name).chmod(0o444)
        _programs(node)
        unshare, shell = shutil.which("unshare") or "unshare", shutil.which("sh") or "sh"
        arguments = [
            str(node.directory / "root"),
            str(node.binary.root / "usr"),
            str(node.directory),
            sys.executable,
            ENTER,
        ]
        script = f"PATH={SYSTEM_PATH}\nexport SHARD={shard}\n{SANDBOX}"
        return [unshare, "--mount", "--propagation", "private", shell, "-c", script, "pod", *arguments]


def tune(text: str, tuned: Mapping[str, str]) -> str:
    """`text` with the value of each line `key value` or `key=value` replaced where `tuned` has the key."""
    lines = []
    for line in text.splitlines(keepends=True):
        for separator in (" ", "="):
            key, found, _ = line.partition(separator)
            if found and key in tuned:
                line = f"{key}{separator}{tuned[key]}\n"  # noqa: PLW2901
        lines.append(line)
    return "".join(lines)


def _programs(node: NodeProcess) -> None:
    """The shell of the image: busybox's as in Alpine; for one family dash and mawk, as in Debian's images."""
    programs = node.directory / "bin"
    if (programs / "sh").exists():
        return
    (programs / "valkey-server").write_text(SERVER)
    (programs / "valkey-server").chmod(0o755)
    if node.binary.family == "8.0":
        shutil.copy2("/usr/bin/dash", programs / "sh")
        shutil.copy2("/usr/bin/mawk", programs / "awk")
    else:
        shutil.copy2(node.binary.root / "usr/bin/busybox", programs / "sh")


def termination_log(node: NodeProcess) -> Path:
    """What the kubelet would report as the container's termination message."""
    return node.directory / "termination-log"


async def run_in_pod(node: NodeProcess, script: str) -> tuple[int, str]:
    """Run one of the pod's scripts as a probe or hook of the kubelet; its exit status and output."""
    environment = {"PATH": "/pod:/usr/bin:/bin", "POD_IP": node.address, "NODE_ADDRESS": node.address}
    process = await asyncio.create_subprocess_exec(
        shutil.which("nsenter") or "nsenter",
        f"--target={node.pid}",
        "--mount",
        "--root",
        "--wd",
        f"--setuid={ENGINE_UID}",
        f"--setgid={ENGINE_UID}",
        "/pod/sh",
        f"/etc/cachecluster/config/{script}",
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, output.decode()


async def is_ready(node: NodeProcess) -> bool:
    """Whether the pod's own readiness probe says so."""
    return (await run_in_pod(node, "ready.sh"))[0] == 0


async def field_of(node: NodeProcess, section: str, name: str) -> str:
    """One field of INFO."""
    lines: str = await node.call("INFO", section)
    return next(line.partition(":")[2] for line in lines.splitlines() if line.startswith(f"{name}:"))
