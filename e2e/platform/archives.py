"""The same image under another name, for tests of what a new operator image does."""

import io
import json
import tarfile
from pathlib import Path


def retagged(archive: Path, reference: str, out: Path) -> Path:
    """Copy an archive in `docker save` format whose only image gets the name `reference`; returns `out`."""
    with tarfile.open(archive) as source, tarfile.open(out, "w") as target:
        for member in source:
            content = source.extractfile(member)
            if member.name == "manifest.json" and content is not None:
                manifest = json.load(content)
                manifest[0]["RepoTags"] = [reference]
                changed = json.dumps(manifest).encode()
                member.size = len(changed)
                target.addfile(member, io.BytesIO(changed))
            elif member.name != "repositories":
                target.addfile(member, content)
    return out
