"""The image that holds pods' sandboxes, which is busybox: it also serves as an image for tests."""

import io
import subprocess
import tarfile
from pathlib import Path
from typing import Final

from e2e.localcluster.docker_archive import ImageConfig, write_docker_archive
from e2e.localcluster.instance import LocalClusterError

PAUSE_REF: Final = "cachecluster-local/busybox:1"
BUSYBOX: Final = (Path("/bin/busybox"), Path("/usr/bin/busybox"))


def busybox() -> Path:
    """The machine's statically linked busybox; raises LocalClusterError."""
    for path in BUSYBOX:
        if path.exists():
            return path
    raise LocalClusterError("busybox is missing: apt-get install busybox-static")


def write_pause_image(archive: Path) -> None:
    """Write the image. With no command it sleeps; its commands are busybox's."""
    program = busybox()
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True, timeout=30).stdout.split()
    layer = archive.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        _file(tar, "bin/busybox", program.read_bytes(), 0o755)
        for applet in sorted(set(applets) - {"busybox"}):
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        _file(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n", 0o644)
        _file(tar, "etc/group", b"root:x:0:\nnogroup:x:65534:\n", 0o644)
        tmp = tarfile.TarInfo("tmp")
        tmp.type, tmp.mode = tarfile.DIRTYPE, 0o1777
        tar.addfile(tmp)
    write_docker_archive(layer, archive, PAUSE_REF, ImageConfig(cmd=("sleep", "2147483647")))
    layer.unlink()


def _file(tar: tarfile.TarFile, name: str, content: bytes, mode: int) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    tar.addfile(member, io.BytesIO(content))
