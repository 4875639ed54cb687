"""Writes container images in the `docker save` format, which `ctr images import`, kind and Docker all load.

One layer, no base: the image is the root file system that it is given.
"""

import hashlib
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

SEARCH_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The run-time part of an image, as in a Dockerfile."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    user: str = ""
    workdir: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()

    def as_json(self) -> dict[str, object]:
        """The `config` object of the OCI image specification."""
        env = {"PATH": SEARCH_PATH, **self.env}
        return {
            "Entrypoint": list(self.entrypoint) or None,
            "Cmd": list(self.cmd) or None,
            "User": self.user,
            "WorkingDir": self.workdir,
            "Env": [f"{name}={value}" for name, value in env.items()],
            "Volumes": {path: {} for path in self.volumes} or None,
            "ExposedPorts": {port: {} for port in self.exposed_ports} or None,
        }


def write_docker_archive(layer: Path, out: Path, ref: str, config: ImageConfig) -> None:
    """Write an image named `ref` with the tar `layer` as its only layer. The same input gives the same bytes."""
    with layer.open("rb") as handle:
        diff_id = hashlib.file_digest(handle, "sha256").hexdigest()
    description = json.dumps(
        {
            "architecture": debian_architecture(),
            "os": "linux",
            "config": config.as_json(),
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{diff_id}"]},
            "history": [{"created_by": "Debian packages, unpacked by mmdebstrap"}],
        }
    ).encode()
    image_id = hashlib.sha256(description).hexdigest()
    manifest = json.dumps([{"Config": f"{image_id}.json", "RepoTags": [ref], "Layers": [f"{diff_id}.tar"]}]).encode()
    with tarfile.open(out, "w") as archive:
        with layer.open("rb") as handle:
            member = tarfile.TarInfo(f"{diff_id}.tar")
            member.size = layer.stat().st_size
            archive.addfile(member, handle)
        _add(archive, f"{image_id}.json", description)
        _add(archive, "manifest.json", manifest)


def debian_architecture() -> str:
    """This machine's architecture; Debian's names (amd64, arm64) are those of the image specification too."""
    dpkg = shutil.which("dpkg")
    if dpkg is None:
        raise FileNotFoundError("dpkg is missing: images are built from Debian packages, on Debian")
    return subprocess.run(
        [dpkg, "--print-architecture"], check=True, capture_output=True, text=True, timeout=30
    ).stdout.strip()


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))
