"""Container images for the local cluster, built on the machine itself from Debian packages.

Engine images carry the names of the upstream ones, so manifests are the same here and in production. Engine images
have no shell but busybox, which proves that what runs in the pods is POSIX.

    python -m e2e.localcluster.images build [--only NAME] [--json]
"""

import argparse
import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from e2e.localcluster import operator_image
from e2e.localcluster.artifacts import BuildError, build_once, cache_root, digest_of, keep_newest
from e2e.localcluster.docker_archive import ImageConfig, write_docker_archive
from e2e.localcluster.rootfs import RootfsRecipe, rootfs_tar

ENGINE_UID: Final = 999  # the valkey user of the upstream images

# Upstream's entry point has the same effect: bare options and configuration files go to the server.
ENTRYPOINT_SCRIPT: Final = """#!/bin/sh
set -e
case "${1:-}" in
-* | *.conf) set -- valkey-server "$@" ;;
esac
exec "$@"
"""

ENGINE_HOOK: Final = f"""
set -eu
root=$1
chroot "$root" /usr/bin/busybox --list | while read -r applet; do
  [ -e "$root/usr/bin/$applet" ] || [ -e "$root/usr/sbin/$applet" ] || ln -s busybox "$root/usr/bin/$applet"
done
mkdir -p "$root/etc" "$root/tmp" "$root/data" "$root/usr/local/bin"
chmod 1777 "$root/tmp"
chown {ENGINE_UID}:{ENGINE_UID} "$root/data"
chmod 0777 "$root/data"
printf 'root:x:0:0:root:/root:/bin/sh\\nvalkey:x:{ENGINE_UID}:{ENGINE_UID}::/data:/bin/sh\\n' > "$root/etc/passwd"
printf 'root:x:0:\\nvalkey:x:{ENGINE_UID}:\\n' > "$root/etc/group"
printf 'hosts: files dns\\n' > "$root/etc/nsswitch.conf"
cat > "$root/usr/local/bin/docker-entrypoint.sh" <<'SCRIPT'
{ENTRYPOINT_SCRIPT}SCRIPT
chmod 0755 "$root/usr/local/bin/docker-entrypoint.sh"
"""


@dataclass(frozen=True, slots=True)
class EngineRelease:
    """An engine family and the Debian suite that ships it."""

    family: str
    suite: str
    backports: bool = False
    rolling: bool = False

    @property
    def ref(self) -> str:
        """The upstream image's name."""
        return f"valkey/valkey:{self.family}"

    @property
    def recipe(self) -> RootfsRecipe:
        """The root file system; building it fails if the suite has moved on to another family."""
        pattern = f"v={self.family}.".replace(".", "\\.")
        check = (
            f'version=$(chroot "$1" /usr/bin/valkey-server --version) && echo "$version" | grep -q \'{pattern}\' || '
            f"{{ echo \"Debian {self.suite} has '$version', not {self.family}\"; exit 1; }}"
        )
        return RootfsRecipe(
            name=f"valkey-{self.family}",
            suite=self.suite,
            variant="extract",
            packages=("valkey-server", "valkey-tools", "busybox-static"),
            hooks=(ENGINE_HOOK, check),
            backports=self.backports,
            rolling=self.rolling,
        )


ENGINES: Final = (
    EngineRelease("8.0", "bookworm", backports=True),
    EngineRelease("8.1", "trixie"),
    EngineRelease("9.1", "sid", rolling=True),
)

# What the operator's Dockerfile needs of its base, in place of the `python:3.13-slim-trixie` of a registry.
PYTHON_BASE: Final = RootfsRecipe(
    name="python-3.13-trixie",
    suite="trixie",
    variant="essential",
    packages=("python3", "python3-venv", "ca-certificates"),
)
PYTHON_BASE_REF: Final = "cachecluster-base/python:3.13"
OPERATOR_REF: Final = "cachecluster/operator:dev"

ARCHIVES_KEPT: Final = 2
REQUIRED_PACKAGES: Final = {"mmdebstrap": "mmdebstrap", "buildah": "buildah", "busybox": "busybox-static"}


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: `archive` is in `docker save` format and is known as `ref` when it is loaded."""

    name: str
    ref: str
    archive: Path


def missing_packages() -> list[str]:
    """Debian packages that image building needs and that this machine lacks."""
    return [package for command, package in REQUIRED_PACKAGES.items() if shutil.which(command) is None]


def engine_release(family: str) -> EngineRelease:
    """The release of a family such as "8.1"."""
    for release in ENGINES:
        if release.family == family:
            return release
    raise BuildError(f"no Debian suite is known for Valkey {family}; known: {', '.join(r.family for r in ENGINES)}")


def build_engine_image(family: str) -> Image:
    """Image of Valkey `family` ("8.0", "8.1", "9.1") with valkey-server, valkey-cli and busybox; starts as root like
    the upstream one, so pods have to set `runAsUser` themselves."""
    release = engine_release(family)
    config = ImageConfig(
        entrypoint=("docker-entrypoint.sh",),
        cmd=("valkey-server",),
        workdir="/data",
        volumes=("/data",),
        exposed_ports=("6379/tcp",),
    )
    return _image(release.recipe, release.ref, config)


def build_base_image() -> Image:
    """Base image for the operator: Debian with Python 3.13, venv and CA certificates."""
    return _image(PYTHON_BASE, PYTHON_BASE_REF, ImageConfig(cmd=("python3",), env={"LANG": "C.UTF-8"}))


def build_operator_image(repo_root: Path, tag: str = OPERATOR_REF) -> Path:
    """Archive of the operator image, built from the repository's Dockerfile and known as `tag` when it is loaded.

    Built again only when a file that the Dockerfile copies has changed.
    """
    return operator_image.build(repo_root, tag, build_base_image().archive)


def _image(recipe: RootfsRecipe, ref: str, config: ImageConfig) -> Image:
    key = digest_of([recipe.key, ref, json.dumps(config.as_json())])
    archive = cache_root() / f"{recipe.name}-{key}.docker.tar"
    if not archive.exists():
        layer = rootfs_tar(recipe)
        build_once(archive, f"image {ref}", lambda partial: write_docker_archive(layer, partial, ref, config))
        keep_newest(cache_root(), f"{recipe.name}-*.docker.tar", ARCHIVES_KEPT)
    return Image(recipe.name, ref, archive)


def build_images(repo_root: Path, only: str | None = None) -> list[Image]:
    """All images of the local cluster, or the one named `only`."""
    builders = {f"valkey-{release.family}": release.family for release in ENGINES}
    images = [build_engine_image(family) for name, family in builders.items() if only in (None, name)]
    if only == "python":
        images.append(build_base_image())
    if only in (None, "operator"):
        images.append(Image("operator", OPERATOR_REF, build_operator_image(repo_root)))
    return images


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    names = [*(f"valkey-{release.family}" for release in ENGINES), "python", "operator"]
    parser = argparse.ArgumentParser(prog="python -m e2e.localcluster.images", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="build what is missing and print where it is")
    build.add_argument("--only", choices=names, help="one image alone")
    build.add_argument("--json", action="store_true", help="print a JSON list of {name, ref, archive}")
    options = parser.parse_args(argv)
    if missing := missing_packages():
        print(f"missing Debian packages: apt-get install {' '.join(missing)}", file=sys.stderr)
        return 1
    try:
        images = build_images(Path(__file__).resolve().parents[2], options.only)
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps([{"name": image.name, "ref": image.ref, "archive": str(image.archive)} for image in images]))
    else:
        for image in images:
            print(f"{image.ref}\t{image.archive}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
