"""Builds the cluster's programs from the Go module beside this file, once for each state of its sources."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.localcluster.artifacts import BuildError, build_once, cache_root, keep_newest, run_logged
from e2e.localcluster.instance import LocalClusterError
from e2e.localcluster.rootfs import RootfsRecipe, rootfs_tree

MODULE: Final = Path(__file__).resolve().parent / "kubenode"
KUBERNETES: Final = (1, 34, 4)
HELM: Final = "helm.sh/helm/v3/cmd/helm"
KUBENODE: Final = "kubenode"
BUILD_SECONDS: Final = 3600.0
VERSION_SECONDS: Final = 300.0
KEPT: Final = 3
FOLLOW_SECONDS: Final = 10.0

# Where Go's own installer puts it; root's PATH often lacks it.
USUAL_GO: Final = Path("/usr/local/go/bin/go")

# A Go for machines that have none, or one too old: Debian's own, unpacked into the cache and installed nowhere.
PACKAGED_GO: Final = RootfsRecipe(
    name="go-1.24", suite="trixie", variant="extract", packages=("golang-1.24-go",), hooks=()
)
PACKAGED_GOROOT: Final = Path("usr/lib/go-1.24")


@dataclass(frozen=True, slots=True)
class Go:
    """A Go toolchain."""

    program: Path
    goroot: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        """Environment to run it in."""
        # Static programs: no C compiler is needed to build them, and they run in any root file system.
        environment = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly"}
        return environment if self.goroot is None else {**environment, "GOROOT": str(self.goroot)}


@dataclass(frozen=True, slots=True)
class Programs:
    """The built programs: a directory that may go into PATH."""

    directory: Path

    @property
    def kubenode(self) -> Path:
        """All of Kubernetes in one file."""
        return self.directory / KUBENODE

    @property
    def kubectl(self) -> Path:
        """The same file by another name."""
        return self.directory / "kubectl"

    @property
    def helm(self) -> Path:
        """Helm 3."""
        return self.directory / "helm"


def programs() -> Programs:
    """The programs, built first if they are not in the cache; a first build takes about ten minutes on two cores.

    Raises:
        LocalClusterError: the build fails, or there is no network to fetch what it needs.
    """
    root = cache_root().parent / KUBENODE
    target = root / _key()
    if not target.exists():
        try:
            go = toolchain()
            build_once(target, "Kubernetes and Helm from source (Go)", lambda partial: _build(go, partial, root))
        except BuildError as error:
            raise LocalClusterError(f"the local cluster's programs could not be built: {error}") from error
        keep_newest(root, "[0-9a-f]*", KEPT)
    return Programs(target)


def toolchain() -> Go:
    """This machine's Go if it can build the module, else Debian's.

    Raises:
        BuildError: Debian's could not be fetched either.
    """
    found = shutil.which("go") or (str(USUAL_GO) if USUAL_GO.exists() else None)
    if found is not None and _can_build(Go(Path(found))):
        return Go(Path(found))
    goroot = rootfs_tree(PACKAGED_GO) / PACKAGED_GOROOT
    return Go(goroot / "bin" / "go", goroot)


def _can_build(go: Go) -> bool:
    """Whether it takes the version that go.mod asks for; from 1.21 on, Go fetches a newer one itself."""
    asked = [str(go.program), "list", "-m"]
    try:
        done = subprocess.run(
            asked, cwd=MODULE, env=go.environment, capture_output=True, timeout=VERSION_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _sources() -> Iterable[Path]:
    return sorted([*MODULE.glob("*.go"), MODULE / "go.mod", MODULE / "go.sum"])


def _key() -> str:
    digest = hashlib.sha256(" ".join([*_flags(), HELM]).encode())
    for path in _sources():
        content = path.read_bytes()
        digest.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:16]


def _flags() -> list[str]:
    major, minor, patch = KUBERNETES
    version = "k8s.io/component-base/version"
    stamps = {"gitVersion": f"v{major}.{minor}.{patch}", "gitMajor": major, "gitMinor": minor}
    linker = ["-s", "-w", *(f"-X {version}.{name}={value}" for name, value in stamps.items())]
    return ["-buildvcs=false", f"-ldflags={' '.join(linker)}"]


def _build(go: Go, directory: Path, root: Path) -> None:
    directory.mkdir()
    for name, package in ((KUBENODE, "."), ("helm", HELM)):
        argv = [str(go.program), "build", "-C", str(MODULE), "-v", *_flags(), "-o", str(directory / name), package]
        log = root / f"{name}.log"
        with _following(log):
            run_logged(argv, log, BUILD_SECONDS, go.environment)
    (directory / "kubectl").symlink_to(KUBENODE)


@contextlib.contextmanager
def _following(log: Path) -> Iterator[None]:
    """Show now and then which package Go has come to."""
    ended = threading.Event()
    log.unlink(missing_ok=True)

    def follow() -> None:
        while not ended.wait(FOLLOW_SECONDS):
            packages = log.read_text(errors="replace").split() if log.exists() else []
            if packages:
                print(f"  compiled {len(packages)} packages, now {packages[-1]}", file=sys.stderr, flush=True)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield
    finally:
        ended.set()
        follower.join()
