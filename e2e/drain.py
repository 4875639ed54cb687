"""`kubectl drain` as people type it, of one cluster's pods or the operator's: the applications beside them stay."""

import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

from e2e.cluster import CLUSTER_LABEL, Cluster
from e2e.diagnosis import OPERATOR_SELECTOR
from e2e.kube import Kube

DRAIN_SECONDS: Final = 180


def drain(cart: Cluster, node: str, *, evict: bool = True) -> None:
    """Drain a node to the end; `evict=False` deletes the pods instead, past all budgets (`--disable-eviction`)."""
    _drain(cart.kube, node, f"{CLUSTER_LABEL}={cart.name}", *([] if evict else ["--disable-eviction"]))


def drain_operator(kube: Kube, node: str) -> None:
    """Drain a node of the operator's pods, to the end."""
    _drain(kube, node, OPERATOR_SELECTOR)


def _drain(kube: Kube, node: str, selector: str, *forced: str) -> None:
    options = [f"--pod-selector={selector}", "--ignore-daemonsets", "--delete-emptydir-data", *forced]
    argv = [*kube.kubectl, "drain", node, *options, f"--timeout={DRAIN_SECONDS}s"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DRAIN_SECONDS + 30, check=False)
    assert done.returncode == 0, f"the drain of {node} did not end:\n{done.stdout}{done.stderr}"


@contextmanager
def draining(cart: Cluster, *nodes: str) -> Iterator[None]:
    """Drains of several nodes, side by side, under way within the block; at its end each must have ended well."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        drains = [pool.submit(drain, cart, node) for node in nodes]
        yield
        for under_way in drains:
            under_way.result()


@contextmanager
def cordoned(kube: Kube, *nodes: str) -> Iterator[None]:
    """These nodes take no new pods within the block, and may be drained; at its end all of them are back."""
    try:
        for node in nodes:
            cordon(kube, node)
        yield
    finally:
        for node in nodes:
            uncordon(kube, node)


def cordon(kube: Kube, node: str) -> None:
    """`kubectl cordon`."""
    kube.patch("Node", "", node, {"spec": {"unschedulable": True}})


def uncordon(kube: Kube, node: str) -> None:
    """`kubectl uncordon`."""
    kube.patch("Node", "", node, {"spec": {"unschedulable": None}})
