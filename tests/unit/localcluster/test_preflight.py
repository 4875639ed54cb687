"""What stands in the way of a local cluster is said before anything is touched."""

import shutil
import socket
from pathlib import Path
from typing import NamedTuple

import pytest

from e2e.localcluster import build, preflight
from e2e.localcluster.__main__ import main
from e2e.localcluster.artifacts import BuildError
from e2e.localcluster.cluster import LocalCluster
from e2e.localcluster.instance import STATE_ROOT_VARIABLE, Instance, LocalClusterError


class Usage(NamedTuple):
    """What `shutil.disk_usage` returns, in bytes."""

    total: float
    used: float
    free: float


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Instance:
    """A machine on which nothing is missing."""
    monkeypatch.setenv(STATE_ROOT_VARIABLE, str(tmp_path / "state"))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 50e9, 50e9))
    monkeypatch.setattr(preflight, "CNI_PROGRAMS", ())
    limit = tmp_path / "max_user_instances"
    limit.write_text("128\n")
    monkeypatch.setattr(preflight, "INOTIFY_LIMIT", limit)
    return Instance("unit-preflight")


def test_fit_machine_has_no_obstacles(fit: Instance) -> None:
    assert list(preflight.obstacles(fit)) == []


def test_limit_of_file_watches_is_raised_and_never_lowered(fit: Instance) -> None:
    preflight.require_ready_machine(fit)
    assert int(preflight.INOTIFY_LIMIT.read_text()) == preflight.INOTIFY_INSTANCES

    preflight.INOTIFY_LIMIT.write_text("65536\n")
    preflight.require_ready_machine(fit)
    assert preflight.INOTIFY_LIMIT.read_text() == "65536\n"


def test_all_obstacles_are_said_at_once(fit: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 97e9, 3e9))
    with socket.create_server(("127.0.0.1", fit.port)):
        assert len(list(preflight.obstacles(fit))) == 2


def test_other_systems_and_other_users_are_told_what_to_do(fit: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert [line for line in preflight.obstacles(fit) if "not root" in line and "sudo" in line]

    monkeypatch.setattr("platform.system", lambda: "Darwin")
    [line] = preflight.obstacles(fit)
    assert "Darwin" in line
    assert "CLUSTER=kind" in line


def test_missing_programs_are_named_by_their_packages(fit: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name in ("ctr", "ipset") else f"/usr/bin/{name}")
    monkeypatch.setattr(preflight, "CNI_PROGRAMS", ("no-such-plugin",))

    with pytest.raises(LocalClusterError, match="missing: containerd containernetworking-plugins ipset"):
        preflight.require_ready_machine(fit)


def test_full_disk_is_noticed(fit: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100e9, 97e9, 3e9))

    with pytest.raises(LocalClusterError, match=r"3\.0 GB free and 10 GB are needed"):
        preflight.require_ready_machine(fit)


def test_taken_port_is_noticed(fit: Instance) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", fit.port))
        taken.listen()
        with pytest.raises(LocalClusterError, match=f"port {fit.port} of 127.0.0.1 is taken"):
            preflight.require_ready_machine(fit)


def test_instance_with_the_same_port_is_named(fit: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    (fit.state.parent / "twin").mkdir(parents=True)
    monkeypatch.setattr("e2e.localcluster.instance.PORTS", 1)  # now all names lead to one port

    with pytest.raises(LocalClusterError, match="local cluster twin has port"):
        preflight.require_ready_machine(Instance("unit-other"))


@pytest.mark.parametrize("script", [None, "echo \"go: invalid go version '1.24.0'\" >&2; exit 1"])
def test_without_a_new_enough_go_debian_s_own_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str | None
) -> None:
    old = tmp_path / "go"
    old.write_text(f"#!/bin/sh\n{script}\n")
    old.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(old) if script else None)
    monkeypatch.setattr(build, "USUAL_GO", tmp_path / "no-such-go")
    monkeypatch.setattr(build, "rootfs_tree", lambda _: Path("/unpacked"))

    go = build.toolchain()

    assert go.program == Path("/unpacked/usr/lib/go-1.24/bin/go")
    assert go.environment["GOROOT"] == "/unpacked/usr/lib/go-1.24"


def test_new_enough_go_of_the_machine_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    new = tmp_path / "go"
    new.write_text("#!/bin/sh\necho localcluster\n")
    new.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda _: str(new))

    assert build.toolchain() == build.Go(new)


def test_go_that_fetches_nothing_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def unreachable() -> build.Go:
        raise BuildError("mmdebstrap ended with status 1")

    monkeypatch.setattr(build, "toolchain", unreachable)
    monkeypatch.setattr(build, "cache_root", lambda: tmp_path / "images")

    with pytest.raises(LocalClusterError, match="programs could not be built: mmdebstrap ended with status 1"):
        build.programs()


def test_instance_that_is_half_there_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(STATE_ROOT_VARIABLE, str(tmp_path))
    (tmp_path / "unit").mkdir()

    with pytest.raises(LocalClusterError, match="local cluster unit is half there: `down --name unit` removes it"):
        LocalCluster("unit").up()


def test_command_line_reports_errors_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(STATE_ROOT_VARIABLE, str(tmp_path))

    assert main(["status", "--name", "unit"]) == 1
    assert main(["up", "--name", "No!"]) == 1

    first, second = capsys.readouterr().err.splitlines()
    assert first == "error: there is no local cluster unit: `up --name unit` makes it"
    assert second.startswith("error: 'No!' is not a name for a local cluster: use 1 to 20 lower-case letters")
