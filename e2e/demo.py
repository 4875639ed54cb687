"""The product in five minutes: a Kubernetes with three zones, the operator, a cache cluster, and a failure.

python -m e2e.demo [--cluster local|kind|existing] [--context NAME --image REPOSITORY:TAG]
python -m e2e.demo down [--cluster ...]
"""

import argparse
import subprocess
import sys
import time
from functools import partial
from typing import Any, Final

import yaml

from e2e import client
from e2e.client import Client
from e2e.cluster import Cluster
from e2e.install import CRD, REPOSITORY, Installation, attach_kube, install, uninstall
from e2e.kube import ApiError, Kube, Obj, TimedOut, is_true, wait
from e2e.platform import CHOICES, Platform, PlatformError, choose
from e2e.recorder import zones
from e2e.topology import table

EXAMPLE: Final = REPOSITORY / "examples" / "shopping-cart.yaml"
NAMESPACE: Final = "shop"
KEYS: Final = 1000
FAMILY: Final = "8.1"
READY_SECONDS: Final = 300.0
LINE_LENGTH: Final = 110
EDIT: Final = '{"spec":{"parameters":{"maxmemory-policy":"allkeys-lfu"}}}'


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m e2e.demo", description="Show the operator at work.")
    parser.add_argument("command", nargs="?", choices=("up", "down"), default="up")
    parser.add_argument("--cluster", choices=CHOICES, default="local", help="Kubernetes to use (default: local)")
    parser.add_argument("--context", help="with --cluster existing: the kube-context to use")
    parser.add_argument("--image", help="with --cluster existing: operator image that its nodes can pull")
    options = parser.parse_args(argv)
    try:
        platform = choose(options.cluster, options.context, options.image)
        if options.command == "down":
            down(platform)
        else:
            Demo(platform).run()
    except (PlatformError, TimedOut, ApiError, subprocess.SubprocessError, AssertionError) as error:
        print(f"\nThe demo has failed: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; `make demo-down` removes what is there.", file=sys.stderr)
        return 130
    return 0


class Demo:
    """One run; each step says what it does and how long it took."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._started = time.monotonic()

    def run(self) -> None:
        """All steps, in the order of the story."""
        self._say(f"1. Kubernetes ({self._platform.name}), images, and the operator by Helm")
        installation = install(self._platform, (FAMILY,))
        kube = installation.kube
        self._say(f"   the operator runs from {installation.image}")

        self._say(f"2. kubectl apply -f {EXAMPLE.relative_to(REPOSITORY)}")
        cluster = self._apply(kube)
        self._watch(cluster)

        self._say("3. Where everything is (* = primary)")
        print(table(cluster), flush=True)

        self._say(
            f"4. An application in a pod writes {KEYS} keys with the credentials of Secret {cluster.name}-connection"
        )
        application = self._client(installation, cluster)
        application.write(KEYS, "item")
        self._say(f"   and reads {application.count(KEYS, 'item')} of {KEYS} back")

        self._say("5. A primary dies")
        self._break(installation, cluster)
        self._say(f"   of {KEYS} keys {application.count(KEYS, 'item')} are there")
        print(table(cluster), flush=True)
        print(next_steps(installation, cluster), flush=True)

    def _apply(self, kube: Kube) -> Cluster:
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        resource = example()
        there = set(zones(kube))
        asked = set(resource["spec"].get("placement", {}).get("zones", []))
        if not asked <= there:
            self._say(
                f"   this Kubernetes has the zones {', '.join(sorted(there)) or 'none'}: placement.zones is left out"
            )
            resource["spec"]["placement"].pop("zones")
        cluster = Cluster(kube, NAMESPACE, resource["metadata"]["name"])
        cluster.apply(resource["spec"])
        return cluster

    def _watch(self, cluster: Cluster) -> None:
        """Print each change of the headline or of the number of ready pods until the cluster is whole."""
        shown = ""

        def probe() -> bool:
            nonlocal shown
            resource = cluster.read()
            status: dict[str, Any] = resource.get("status", {})
            headline = f"{status.get('reason', 'Pending')}: {status.get('message', 'the operator has not seen it yet')}"
            line = f"{status.get('ready', '0/?'):>5} ready   {headline}"
            if line != shown:
                shown = line
                self._say(f"   {line[:LINE_LENGTH]}")
            return is_true(resource, "Ready") and not is_true(resource, "Reconciling")

        cluster.until("ready", probe, READY_SECONDS)
        cluster.until_whole()

    def _client(self, installation: Installation, cluster: Cluster) -> Client:
        kube = installation.kube
        pod = f"{cluster.name}-client"
        kube.delete("Pod", NAMESPACE, pod, grace_seconds=0)
        wait(f"pod {pod} of an earlier demo is gone", lambda: kube.find("Pod", NAMESPACE, pod) is None, 60)
        return client.start(kube, installation.image, NAMESPACE, cluster.name)

    def _break(self, installation: Installation, cluster: Cluster) -> None:
        victim = cluster.primary_of(0)
        faults = installation.platform.faults
        if faults is not None:
            self._say(f"   SIGKILL to valkey-server in {victim.name}, which has no copy of its memory on disk")
            strike = faults.aim(cluster.namespace, victim.name, "engine")
        else:
            self._say(f"   kubectl delete pod {victim.name}")
            strike = partial(cluster.kube.delete, "Pod", cluster.namespace, victim.name)
        started = time.monotonic()
        strike()
        cluster.until("a replica is promoted", lambda: cluster.primary_of(0).name != victim.name)
        heir = cluster.primary_of(0)
        self._say(f"   {heir.name} in zone {heir.zone} is labelled primary after {time.monotonic() - started:.1f} s")
        cluster.until_whole()
        self._say(f"   {victim.name} is back as its replica after {time.monotonic() - started:.1f} s")
        failover = cluster.read()["status"].get("lastFailover", {})
        if failover.get("from") == victim.name and "writeUnavailableMilliseconds" in failover:
            self._say(f"   status.lastFailover: writes refused for {failover['writeUnavailableMilliseconds']} ms")

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._started:6.1f} s  {line}", flush=True)


def example() -> Obj:
    """The CacheCluster of the example file."""
    documents = list(yaml.safe_load_all(EXAMPLE.read_text()))
    found: Obj = next(d for d in documents if d and d["kind"] == "CacheCluster")
    return found


def next_steps(installation: Installation, cluster: Cluster) -> str:
    """What to type next."""
    name, victim = cluster.name, cluster.primary_of(1).name
    which = "" if installation.platform.name == "local" else f" CLUSTER={installation.platform.name}"
    return f"""
Try next:

  {installation.platform.advice()}
  kubectl -n {NAMESPACE} get cc {name}
  kubectl -n {NAMESPACE} describe cc {name}
  kubectl -n {NAMESPACE} get pods -L cachecluster.dev/role -o wide
  kubectl -n {NAMESPACE} delete pod {victim}              # a primary: watch its role move first
  kubectl -n {NAMESPACE} patch cc {name} --type=merge -p '{EDIT}'   # in force on every node, no restart
  kubectl -n {NAMESPACE} get events --field-selector involvedObject.kind=CacheCluster
  kubectl explain cachecluster.spec

Remove everything: make demo-down{which}
"""


def down(platform: Platform) -> None:
    """Remove what the demo has made; the user's own cluster stays."""
    if platform.name == "existing":
        access, kube = attach_kube(platform)
        if kube.find("CustomResourceDefinition", "", CRD) is not None:
            kube.delete("CacheCluster", NAMESPACE, example()["metadata"]["name"])
        kube.delete("Namespace", "", NAMESPACE)
        wait(f"namespace {NAMESPACE} is gone", lambda: kube.find("Namespace", "", NAMESPACE) is None, READY_SECONDS)
        uninstall(access)
    platform.down()
    print(f"{platform.name}: nothing is left of the demo")


if __name__ == "__main__":
    sys.exit(main())
