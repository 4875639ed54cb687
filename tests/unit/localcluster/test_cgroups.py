"""An instance gets the processor like as many programs as it has machines."""

from pathlib import Path

import pytest

from e2e.localcluster import cgroups


@pytest.mark.parametrize(
    ("hierarchy", "file", "weight"), [("cpu,cpuacct", "cpu.shares", 2048), ("", "cpu.weight", 200)]
)
def test_instance_weighs_as_much_as_its_machines(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, hierarchy: str, file: str, weight: int
) -> None:
    for name in ("freezer", hierarchy):
        (tmp_path / name).mkdir(exist_ok=True)
    if not hierarchy:
        (tmp_path / "cgroup.controllers").write_text("cpu")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    cgroups.create("ccl-x", "n0")
    cgroups.create("ccl-x", "n1")
    assert (tmp_path / hierarchy / "ccl-x" / file).read_text() == str(weight)


def test_daemons_share_the_processors_of_their_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("cpu", "cpuacct", "cpuset", "freezer"):
        (tmp_path / name).mkdir()
    for file in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / "cpuset" / file).write_text("0-1")
    monkeypatch.setattr(cgroups, "ROOT", tmp_path)
    cgroups.create("ccl-x", "n0")
    groups = [file.parent for file in cgroups.daemons_files("ccl-x", "n0")]
    assert groups == [tmp_path / name / "ccl-x" / "n0" / "daemons" for name in ("cpu", "cpuacct", "freezer")]
    assert all(group.is_dir() for group in groups)
