"""How images are made: once, whole or not at all, and with this machine's package index but without a trace of it."""

import json
import shlex
import subprocess
import tarfile
import threading
from pathlib import Path
from typing import IO

import pytest

from e2e.localcluster.artifacts import BuildError, build_once, keep_newest, run_logged
from e2e.localcluster.docker_archive import ImageConfig, write_docker_archive
from e2e.localcluster.images import ENGINES, engine_release
from e2e.localcluster.operator_image import build_environment, image_key, pip_configuration
from e2e.localcluster.processes import process


def test_artifact_is_made_once_for_all_who_want_it_at_the_same_time(tmp_path: Path) -> None:
    made: list[Path] = []
    waiting = threading.Barrier(4)

    def produce(partial: Path) -> None:
        made.append(partial)
        partial.write_text("whole")

    def want() -> None:
        waiting.wait(10)
        assert build_once(tmp_path / "thing", "thing", produce).read_text() == "whole"

    threads = [threading.Thread(target=want) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1


def test_failed_build_leaves_nothing_that_looks_made(tmp_path: Path) -> None:
    def produce(partial: Path) -> None:
        partial.write_text("half")
        raise BuildError("no network")

    with pytest.raises(BuildError, match="no network"):
        build_once(tmp_path / "thing", "thing", produce)
    assert [path.name for path in tmp_path.iterdir() if "lock" not in path.name] == []


def test_failed_step_shows_the_end_of_its_output(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"status 3(.|\n)*the reason"):
        run_logged(["sh", "-c", "echo the reason; exit 3"], tmp_path / "log", 30)


def test_step_that_hangs_is_ended_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="did not end"):
        run_logged(["sh", "-c", 'sleep 600 & echo "$!"; wait'], tmp_path / "log", 1)
    child = process(int((tmp_path / "log").read_text()))
    # Whoever adopted the child may not have reaped it yet; what counts is that it no longer runs.
    assert child is None or not child.alive


def test_cache_keeps_only_the_newest(tmp_path: Path) -> None:
    for name in ("a.tar", "b.tar", "c.tar"):
        (tmp_path / name).touch()
    for age, name in enumerate(("c.tar", "a.tar", "b.tar")):
        subprocess.run(["touch", "-d", f"{age + 1} hours ago", str(tmp_path / name)], check=True, timeout=10)
    keep_newest(tmp_path, "*.tar", 2)
    assert {path.name for path in tmp_path.iterdir()} == {"a.tar", "c.tar"}


def test_image_names_its_layer_and_reference(tmp_path: Path) -> None:
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w") as tar:
        tar.addfile(tarfile.TarInfo("data"))
    out, again = tmp_path / "image.tar", tmp_path / "again.tar"
    config = ImageConfig(entrypoint=("docker-entrypoint.sh",), workdir="/data")
    write_docker_archive(layer, out, "valkey/valkey:8.1", config)
    write_docker_archive(layer, again, "valkey/valkey:8.1", config)
    assert out.read_bytes() == again.read_bytes()
    with tarfile.open(out) as archive:
        [manifest] = json.load(_open(archive, "manifest.json"))
        description = json.load(_open(archive, manifest["Config"]))
        assert _open(archive, manifest["Layers"][0]).read() == layer.read_bytes()
    assert manifest["RepoTags"] == ["valkey/valkey:8.1"]
    assert description["rootfs"]["diff_ids"] == [f"sha256:{manifest['Layers'][0].removesuffix('.tar')}"]
    assert description["config"]["Entrypoint"] == ["docker-entrypoint.sh"]


def test_engine_images_have_upstream_names_and_check_what_the_suite_ships() -> None:
    assert [release.ref for release in ENGINES] == ["valkey/valkey:8.0", "valkey/valkey:8.1", "valkey/valkey:9.1"]
    assert any("v=8\\.1\\." in hook for hook in engine_release("8.1").recipe.hooks)
    with pytest.raises(BuildError, match=r"Valkey 7\.2"):
        engine_release("7.2")


def test_build_sees_the_machines_package_index(tmp_path: Path) -> None:
    config = tmp_path / ".config" / "pip" / "pip.conf"
    config.parent.mkdir(parents=True)
    config.write_text("[global]\nindex-url = https://mirror.invalid/simple?a=b c\ntimeout = 5\n")
    exported = build_environment({"PIP_TRUSTED_HOST": "it's", "OTHER": "x"}, pip_configuration({"HOME": str(tmp_path)}))
    words = dict(line.removeprefix("export ").split("=", 1) for line in exported.splitlines())
    assert shlex.split(words["PIP_INDEX_URL"]) == ["https://mirror.invalid/simple?a=b c"]
    assert shlex.split(words["PIP_TRUSTED_HOST"]) == ["it's"]
    assert "OTHER" not in words


def test_environment_wins_over_pips_configuration() -> None:
    exported = build_environment({"PIP_INDEX_URL": "env"}, {"index-url": "file"})
    assert "export PIP_INDEX_URL=env\n" in exported


def test_operator_image_is_built_anew_exactly_when_an_input_changes(tmp_path: Path) -> None:
    source = tmp_path / "operator" / "cachecluster" / "main.py"
    source.parent.mkdir(parents=True)
    source.write_text("one")
    base = tmp_path / "base-1.tar"
    key = image_key(tmp_path, "operator:dev", base)
    cache = source.parent / "__pycache__" / "main.pyc"
    cache.parent.mkdir()
    cache.write_text("compiled")
    (tmp_path / "README.txt").write_text("not copied into the image")
    assert image_key(tmp_path, "operator:dev", base) == key
    source.write_text("two")
    assert image_key(tmp_path, "operator:dev", base) != key
    source.write_text("one")
    assert image_key(tmp_path, "operator:next", base) != key
    assert image_key(tmp_path, "operator:dev", tmp_path / "base-2.tar") != key


def _open(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    member = archive.extractfile(name)
    assert member is not None
    return member
