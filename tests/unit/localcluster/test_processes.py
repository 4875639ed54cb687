"""Processes that outlive who started them, and the lock that keeps two changers apart."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from e2e.localcluster.commands import attempt, run, wait_until
from e2e.localcluster.instance import LocalClusterError
from e2e.localcluster.processes import Process, Service, end_of, exclusive, kill_all, load_services, process, start

SECONDS = 30.0


def test_started_program_is_found_again_by_its_record_and_killed(tmp_path: Path) -> None:
    start("sleeper", ["sleep", "600"], tmp_path / "log", forks=False).save(tmp_path / "records")

    [found] = load_services(tmp_path / "records")
    assert found.main.alive
    kill_all(found.processes)

    assert not found.main.alive


def test_program_lives_until_its_last_thread_has_ended(tmp_path: Path) -> None:
    """The first thread of a program that is killed may end before those that keep its ports."""
    script = "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(60,)).start(); "
    script += "ctypes.CDLL(None).pthread_exit(None)"
    service = start("threads", [sys.executable, "-c", script], tmp_path / "log", forks=False)
    stat = Path(f"/proc/{service.main.pid}/stat")
    wait_until("its first thread has ended", lambda: ") Z " in stat.read_text(), SECONDS)

    assert service.main.alive
    kill_all(service.processes)

    assert not service.main.alive


def test_started_program_lets_go_of_what_its_starter_inherited(tmp_path: Path) -> None:
    read, write = os.pipe()
    os.set_inheritable(write, True)
    service = start("sleeper", ["sleep", "60"], tmp_path / "log", forks=False)
    os.close(write)
    try:
        assert select.select([read], [], [], 10)[0], "a pipe's end stayed open in a program that outlives its starter"
        assert os.read(read, 1) == b""
    finally:
        service.main.signal(signal.SIGKILL)
        os.close(read)


def test_child_is_the_one_that_matters_of_a_program_that_forks(tmp_path: Path) -> None:
    service = start("shell", ["sh", "-c", "sleep 600 & wait"], tmp_path / "log", forks=True)

    try:
        assert service.main != service.carrier
        assert Path(f"/proc/{service.main.pid}/cmdline").read_bytes().startswith(b"sleep\0") or service.main.alive
    finally:
        kill_all(service.processes)


def test_program_that_ends_at_once_shows_what_it_said(tmp_path: Path) -> None:
    with pytest.raises(LocalClusterError, match=r"(?s)shell has ended at once.*no such luck"):
        start("shell", ["sh", "-c", "echo no such luck"], tmp_path / "log", forks=True)


def test_number_that_has_gone_to_another_process_is_neither_alive_nor_signalled(tmp_path: Path) -> None:
    service = start("sleeper", ["sleep", "600"], tmp_path / "log", forks=False)
    try:
        earlier = Process(service.main.pid, service.main.started - 1)
        assert not earlier.alive
        kill_all([earlier])
        assert service.main.alive
    finally:
        kill_all(service.processes)


def test_zombie_has_ended(tmp_path: Path) -> None:
    child = subprocess.Popen(["true"])
    wait_until("it ends", lambda: (found := process(child.pid)) is not None and not found.alive, SECONDS)
    child.wait()


def test_log_is_shown_from_its_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {number}\n" for number in range(1000)))

    assert end_of(log).endswith("line 998\nline 999")
    assert "line 900" not in end_of(log)
    assert "no log" in end_of(tmp_path / "other")


def test_ended_service_says_so_with_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("panic: out of luck\n")
    gone = Process(pid=2**22 + 1, started=1)

    assert "kubelet has ended" in Service("kubelet", gone, gone, log).ended
    assert "panic: out of luck" in Service("kubelet", gone, gone, log).ended


def test_lock_is_held_once_and_leaves_no_file(tmp_path: Path) -> None:
    lock = tmp_path / "root" / ".dev.lock"
    with (
        exclusive(lock, who="dev"),
        pytest.raises(LocalClusterError, match="dev is being changed by another process"),
        exclusive(lock, who="dev"),
    ):
        pass

    assert not lock.exists()
    with exclusive(lock, who="dev"):
        assert lock.exists()


def test_failing_command_says_what_it_complained_about() -> None:
    with pytest.raises(LocalClusterError, match=r"`sh -c .*` failed with status 3: broken"):
        run("sh", "-c", "echo broken >&2; exit 3")
    with pytest.raises(LocalClusterError, match="no-such-program is not installed"):
        run("no-such-program")
    with pytest.raises(LocalClusterError, match="did not end within 0 s"):
        attempt(["sleep", "60"], timeout=0.1)


def test_waiting_ends_early_when_there_is_nothing_to_wait_for() -> None:
    def check() -> None:
        raise LocalClusterError("it has died")

    with pytest.raises(LocalClusterError, match="it has died"):
        wait_until("never", lambda: False, SECONDS, check)
    with pytest.raises(LocalClusterError, match="never: not within 0 s"):
        wait_until("never", lambda: False, 0.0)
