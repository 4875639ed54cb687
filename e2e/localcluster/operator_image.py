"""Builds the operator image from the repository's own Dockerfile with Debian's buildah: no Docker daemon, no registry.

The machine's package index and certificates reach the build as a secret file: they are never part of the image.
"""

import configparser
import os
import shlex
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from e2e.localcluster.artifacts import (
    BuildError,
    build_once,
    cache_root,
    digest_of,
    exclusive,
    keep_newest,
    remove,
    run_logged,
)

BUILD_TIMEOUT_SECONDS: Final = 1800.0
ARCHIVES_KEPT: Final = 4
CERTIFICATES: Final = "/etc/ssl/certs"
CERTIFICATE_BUNDLE: Final = f"{CERTIFICATES}/ca-certificates.crt"

INDEX_VARIABLES: Final[tuple[str, ...]] = (
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "PIP_DEFAULT_TIMEOUT",
    "UV_DEFAULT_INDEX",
    "UV_INDEX",
    "UV_INDEX_URL",
    "UV_EXTRA_INDEX_URL",
    "UV_INSECURE_HOST",
    "UV_HTTP_TIMEOUT",
)
CERTIFICATE_VARIABLES: Final[tuple[str, ...]] = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")


def build(repo_root: Path, tag: str, base_archive: Path) -> Path:
    """Archive of the image, known as `tag`; made anew only when an input has changed.

    Raises:
        BuildError: a step of the Dockerfile failed; the message ends with its output.
    """
    target = cache_root() / f"operator-{image_key(repo_root, tag, base_archive)}.docker.tar"
    archive = build_once(
        target, f"operator image {tag}", lambda partial: _buildah(repo_root, tag, base_archive, partial)
    )
    archive.touch()
    keep_newest(cache_root(), "operator-*.docker.tar", ARCHIVES_KEPT)
    return archive


def image_key(repo_root: Path, tag: str, base_archive: Path) -> str:
    """Hash of everything that decides the content of the image and its name."""
    return digest_of(_inputs(repo_root, tag, base_archive))


def _inputs(repo_root: Path, tag: str, base_archive: Path) -> Iterator[str | bytes]:
    yield tag
    yield base_archive.name  # carries the hash of its recipe
    names = ["Dockerfile", ".dockerignore", "pyproject.toml", "uv.lock", "README.md", "LICENSE"]
    sources = sorted(path for path in (repo_root / "operator").rglob("*") if "__pycache__" not in path.parts)
    for path in [*(repo_root / name for name in names), *sources]:
        if path.is_file():
            yield str(path.relative_to(repo_root))
            yield path.read_bytes()


def _buildah(repo_root: Path, tag: str, base_archive: Path, out: Path) -> None:
    """Build with storage of our own; it goes away afterwards, for the archive is all that is needed."""
    storage = cache_root() / "buildah"
    with exclusive(cache_root() / ".buildah.lock"), tempfile.TemporaryDirectory(prefix="cachecluster-") as scratch:
        secret = Path(scratch) / "build-env"
        secret.touch(mode=0o600)
        secret.write_text(build_environment(os.environ, pip_configuration(os.environ)))
        buildah = [
            *("buildah", "--root", str(storage / "root"), "--runroot", str(storage / "run")),
            *("--storage-driver", "vfs"),
        ]
        bud = [
            *("bud", "--isolation", "chroot", "--network", "host", "--layers=false"),
            *("--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro", "--secret", f"id=build-env,src={secret}"),
            *("--build-arg", f"BASE_IMAGE=docker-archive:{base_archive}", "--tag", tag),
            *("--file", str(repo_root / "Dockerfile"), str(repo_root)),
        ]
        log = cache_root() / "operator-image.log"
        scratch_env = {"TMPDIR": scratch}
        try:
            run_logged([*buildah, *bud], log, BUILD_TIMEOUT_SECONDS, scratch_env)
            push = ["push", "--quiet", tag, f"docker-archive:{out}:{tag}"]
            run_logged([*buildah, *push], log.with_suffix(".push.log"), BUILD_TIMEOUT_SECONDS, scratch_env)
        finally:
            _remove_storage(storage)


def _remove_storage(storage: Path) -> None:
    """Remove buildah's storage, but never through a mount that a killed build left in it: it could be of the host."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    if left := [mount for mount in mounts if mount.startswith(f"{storage}/")]:
        raise BuildError(f"the build left mounts behind; unmount them and remove {storage}: {', '.join(left)}")
    remove(storage)


def build_environment(environ: Mapping[str, str], pip: Mapping[str, str]) -> str:
    """Shell assignments that give the build this machine's package index and certificates.

    `environ` wins over `pip`, the options of pip's own configuration files (`index-url`, ...).
    """
    values = {f"PIP_{name.upper().replace('-', '_')}": value for name, value in pip.items()}
    values |= environ
    exported = {name: values[name] for name in INDEX_VARIABLES if name in values}
    exported |= dict.fromkeys(CERTIFICATE_VARIABLES, CERTIFICATE_BUNDLE)
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in exported.items())


def pip_configuration(environ: Mapping[str, str]) -> dict[str, str]:
    """Options of pip's configuration files in its own order, later ones winning: machine, user, `PIP_CONFIG_FILE`."""
    home = Path(environ.get("HOME", "/"))
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"]
    if explicit := environ.get("PIP_CONFIG_FILE"):
        files.append(Path(explicit))
    parser = configparser.RawConfigParser()
    parser.read(files)
    return {
        name: value.replace("\n", " ").strip()
        for section in ("global", "install")
        if parser.has_section(section)
        for name, value in parser.items(section)
    }
