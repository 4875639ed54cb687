"""Engines of each family as ordinary programs on this machine, whatever release of Debian it runs.

Valkey in the families that the operator offers, and Redis, whose slots move the same way, as Debian ships it.

They come out of the very root file systems that the container images are made of and run by their own dynamic linker
with their own libraries. Scripts find `valkey-server`, `valkey-cli` and busybox's applets on the PATH, as in a pod.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.localcluster.artifacts import build_once, cache_root, digest_of
from e2e.localcluster.images import ENGINE_HOOK, ENGINES, engine_release
from e2e.localcluster.rootfs import RootfsRecipe, rootfs_tree

FAMILIES: Final = tuple(release.family for release in ENGINES)
REDIS_SUITES: Final = {"7.0": "bookworm", "8.0": "trixie"}
"""The Debian suite that ships a family of Redis."""

# A pod has its network to itself; here all share the loopback, so a server is held to its own address, both for
# listening and for what peers see as the source of its connections. NODE_ADDRESS is set by NodeProcess.
SERVER_WRAPPER: Final = """#!/bin/sh
case "${{1:-}}" in
-v | --version | -h | --help) ;;
*) [ -z "${{NODE_ADDRESS:-}}" ] || set -- "$@" --bind "$NODE_ADDRESS" --bind-source-addr "$NODE_ADDRESS" ;;
esac
exec {program} "$@"
"""
CLI_WRAPPER: Final = """#!/bin/sh
[ -z "${{NODE_ADDRESS:-}}" ] || set -- -h "$NODE_ADDRESS" "$@"
exec {program} "$@"
"""


@dataclass(frozen=True, slots=True)
class EngineBinary:
    """An engine of one family: `root` is its root file system, `bin_dir` has wrappers of its server and its client,
    which are called valkey-server and valkey-cli whatever the engine.
    """

    family: str
    root: Path
    bin_dir: Path
    name: str = "valkey"

    @property
    def search_path(self) -> str:
        """PATH that finds the engine's programs and busybox's applets, and nothing of this machine."""
        return f"{self.bin_dir}:{self.root}/usr/bin"

    def server_argv(self, *arguments: str) -> list[str]:
        """Command line of valkey-server; bound to `NODE_ADDRESS` if the environment has it."""
        return [str(self.bin_dir / "valkey-server"), *arguments]

    def cli_argv(self, *arguments: str) -> list[str]:
        """Command line of valkey-cli; its default host is `NODE_ADDRESS` if the environment has it."""
        return [str(self.bin_dir / "valkey-cli"), *arguments]

    def shell_argv(self, script: Path, *arguments: str) -> list[str]:
        """Command line that runs a script as the image's own `sh` does: busybox's, a plain POSIX shell."""
        return [str(self.root / "usr/bin/busybox"), "sh", str(script), *arguments]


def engine_binary(family: str) -> EngineBinary:
    """The engine of a family ("8.0", "8.1", "9.1"); its packages are fetched on first use and cached.

    Raises:
        BuildError: the packages could not be had.
    """
    return _binary("valkey", family, engine_release(family).recipe)


def redis_binary(family: str) -> EngineBinary:
    """Redis of a family ("7.0", "8.0"), likewise."""
    recipe = RootfsRecipe(
        name=f"redis-{family}",
        suite=REDIS_SUITES[family],
        variant="extract",
        packages=("redis-server", "redis-tools", "busybox-static"),
        hooks=(ENGINE_HOOK, f'chroot "$1" /usr/bin/redis-server --version | grep -q "v={family}\\."'),
    )
    return _binary("redis", family, recipe)


def _binary(name: str, family: str, recipe: RootfsRecipe) -> EngineBinary:
    root = rootfs_tree(recipe)
    wrappers = {
        "valkey-server": SERVER_WRAPPER.format(program=_linked(root, f"{name}-server")),
        "valkey-cli": CLI_WRAPPER.format(program=_linked(root, f"{name}-cli")),
    }

    def produce(partial: Path) -> None:
        partial.mkdir()
        for program, script in wrappers.items():
            (partial / program).write_text(script)
            (partial / program).chmod(0o755)

    target = cache_root() / "wrappers" / f"{root.name}-{digest_of(wrappers.values())}"
    return EngineBinary(family, root, build_once(target, f"wrappers of {name} {family}", produce), name)


def _linked(root: Path, program: str) -> str:
    """Shell words that start a program of `root` by the dynamic linker and the libraries of `root`."""
    linkers = sorted(root.glob("usr/lib/*-linux-gnu/ld-linux-*.so.*"))
    if len(linkers) != 1:
        raise FileNotFoundError(f"expected one dynamic linker below {root}/usr/lib, found {linkers}")
    linker = linkers[0]
    words = [str(linker), "--library-path", str(linker.parent), "--argv0", program, str(root / "usr/bin" / program)]
    return shlex.join(words)
