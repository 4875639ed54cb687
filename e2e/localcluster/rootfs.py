"""Root file systems made of Debian packages alone, by `mmdebstrap`: no registry, no Docker.

The container images and the engine tests take their valkey-server from the same trees, so what the tests prove about
an engine version holds in the cluster too.
"""

import shlex
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from e2e.localcluster.artifacts import BuildError, build_once, cache_root, digest_of, run_logged

MERGED_USR_HOOKS: Final = "/usr/share/mmdebstrap/hooks/merged-usr"
MMDEBSTRAP_TIMEOUT_SECONDS: Final = 1800.0

# Nothing at run time reads these, and every node of the local cluster unpacks the image.
DROP_DOCUMENTATION: Final = """
for path in doc man info locale lintian bug gcc perl5; do rm -rf "$1/usr/share/$path"; done
rm -rf "$1"/usr/lib/*/gconv "$1"/var/cache/debconf "$1"/var/log/*.log "$1"/var/log/apt
"""


@dataclass(frozen=True, slots=True)
class RootfsRecipe:
    """What goes into a root file system.

    `variant` is mmdebstrap's: `extract` unpacks packages without running their scripts (small, no shell of its own),
    `essential` installs them properly on top of Debian's essential packages. `hooks` are shell snippets that run on
    the host when all is unpacked, with the root directory as `$1`.
    """

    name: str
    suite: str
    variant: Literal["extract", "essential"]
    packages: tuple[str, ...]
    hooks: tuple[str, ...] = ()
    backports: bool = False
    rolling: bool = False

    @property
    def key(self) -> str:
        """Hash of everything that decides the content, but the state of the Debian archive."""
        return digest_of(self.argv(Path("out.tar")))

    def argv(self, out: Path) -> list[str]:
        """The mmdebstrap command line; the mirror is mmdebstrap's default for the suite."""
        argv = ["mmdebstrap", f"--variant={self.variant}", f"--include={','.join(self.packages)}", "--format=tar"]
        argv += ["--skip=output/dev"]
        if self.variant == "extract":
            argv += [f"--hook-dir={MERGED_USR_HOOKS}"]
        if self.rolling:
            # The Release file of a rolling suite may have expired on a mirror that lags behind.
            argv += ['--aptopt=Acquire::Check-Valid-Until "false"']
        if self.backports:
            backports = f"{self.suite}-backports"
            # The main archive's own line, once more for the backports, so that no mirror has to be named here.
            add_suite = f"s/^deb \\(.*\\) {self.suite} main$/deb \\1 {backports} main/p"
            sources = '"$1/etc/apt/sources.list"'
            argv += [
                f'--setup-hook=line=$(sed -n {shlex.quote(add_suite)} {sources}) && echo "$line" >> {sources}',
                f'--aptopt=APT::Default-Release "{backports}"',
            ]
        # Where nothing is installed, nothing is customised either: the last stage is that of extraction.
        stage = "extract" if self.variant == "extract" else "customize"
        argv += [f"--{stage}-hook={hook.strip()}" for hook in (*self.hooks, DROP_DOCUMENTATION)]
        return [*argv, self.suite, str(out)]


def rootfs_tar(recipe: RootfsRecipe) -> Path:
    """Tar of the recipe's root file system, made on first use (4-30 s with a near mirror).

    Raises:
        BuildError: mmdebstrap failed (no network, a package that the suite lacks, a hook's check).
    """
    target = cache_root() / "rootfs" / f"{recipe.name}-{recipe.key}.tar"

    def produce(partial: Path) -> None:
        if shutil.which("mmdebstrap") is None:
            raise BuildError("mmdebstrap is missing: apt-get install mmdebstrap")
        run_logged(recipe.argv(partial), target.with_suffix(".log"), MMDEBSTRAP_TIMEOUT_SECONDS)

    return build_once(target, f"root file system {recipe.name} (Debian {recipe.suite})", produce)


def rootfs_tree(recipe: RootfsRecipe) -> Path:
    """Directory with the recipe's root file system unpacked, for running its programs without a container."""
    archive = rootfs_tar(recipe)

    def produce(partial: Path) -> None:
        with tarfile.open(archive) as tar:
            tar.extractall(partial, filter="tar")

    return build_once(archive.with_suffix(""), f"unpacking {recipe.name}", produce)
