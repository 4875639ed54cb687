"""A user's own cluster is used only by its name, and images are renamed whole."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from bench.statistics import percentiles
from e2e.platform import PlatformError, choose
from e2e.platform.archives import retagged


@pytest.fixture
def kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A kubeconfig whose current context is somebody's production."""
    clusters = [{"name": name, "cluster": {"server": f"https://{name}.invalid"}} for name in ("production", "play")]
    contexts = [{"name": c["name"], "context": {"cluster": c["name"], "user": "me"}} for c in clusters]
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "production",
        "clusters": clusters,
        "contexts": contexts,
        "users": [{"name": "me", "user": {"token": "t"}}],
    }
    path = tmp_path / "config"
    path.write_text(json.dumps(content))
    monkeypatch.setenv("KUBECONFIG", str(path))
    for program in ("kubectl", "helm"):
        (tmp_path / program).write_text("#!/bin/sh\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return path


def test_current_context_is_never_used_unless_named(kubeconfig: Path) -> None:
    with pytest.raises(PlatformError, match=f"--context; contexts in {kubeconfig}: production, play"):
        choose("existing", None, "registry/operator:1").up()


def test_unknown_context_is_refused(kubeconfig: Path) -> None:
    with pytest.raises(PlatformError, match=f"{kubeconfig} has no context prod; it has production, play"):
        choose("existing", "prod", "registry/operator:1").up()


def test_existing_cluster_needs_an_image_that_it_can_pull(kubeconfig: Path) -> None:
    assert kubeconfig
    with pytest.raises(PlatformError, match="--image is needed"):
        choose("existing", "play", None).up()


def test_named_context_is_in_every_command_line(kubeconfig: Path) -> None:
    access = choose("existing", "play", "registry/operator:1").up()
    assert access.kubeconfig == kubeconfig
    assert access.kubectl[1:] == ("--kubeconfig", str(kubeconfig), "--context", "play")
    assert access.helm[1:] == ("--kubeconfig", str(kubeconfig), "--kube-context", "play")


def test_context_belongs_to_existing_clusters_alone() -> None:
    with pytest.raises(PlatformError, match="belong to the platform `existing`"):
        choose("local", "production", None)


def test_renamed_image_is_the_same_image(tmp_path: Path) -> None:
    manifest = [{"Config": "c.json", "RepoTags": ["a/b:1"], "Layers": ["l.tar"]}]
    members = {"l.tar": b"layer", "c.json": b"{}", "manifest.json": json.dumps(manifest).encode(), "repositories": b"x"}
    with tarfile.open(tmp_path / "in.tar", "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    with tarfile.open(retagged(tmp_path / "in.tar", "a/b:2", tmp_path / "out.tar")) as archive:
        found = {m.name: content.read() for m in archive if (content := archive.extractfile(m)) is not None}
    assert json.loads(found.pop("manifest.json")) == [{**manifest[0], "RepoTags": ["a/b:2"]}]
    assert found == {"l.tar": b"layer", "c.json": b"{}"}


def test_percentiles_are_samples() -> None:
    assert percentiles(float(n) for n in range(1, 201)).p99 == 198
    few = percentiles([30.0, 10.0, 20.0])
    assert (few.p50, few.p99, few.smallest, few.largest) == (20, 30, 10, 30)
