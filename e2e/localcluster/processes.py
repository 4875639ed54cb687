"""Processes that outlive us: started, recorded in files, recognised again, killed. Knows nothing of Kubernetes."""

import contextlib
import fcntl
import json
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from e2e.localcluster.commands import COMMAND_SECONDS, wait_until
from e2e.localcluster.instance import LocalClusterError

KILL_SECONDS: Final = 20.0
LOG_LINES: Final = 25
LOG_BYTES: Final = 64 * 1024
STDERR: Final = 2


@dataclass(frozen=True, slots=True)
class Process:
    """A process with its start time, so that a number that Linux has given to another process is not mistaken for it.

    `started` is in clock ticks after boot: field 22 of proc(5) `/proc/PID/stat`.
    """

    pid: int
    started: int

    @property
    def alive(self) -> bool:
        """Whether it exists and has not ended.

        A zombie has, but for one whose other threads are still on their way out: they hold its files and ports.
        """
        facts = _stat(self.pid)
        if facts is None or facts.started != self.started:
            return False
        return facts.state not in ("Z", "X") or facts.threads > 1

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it is still there."""
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    @property
    def children(self) -> list["Process"]:
        """Its children that have not ended."""
        return [Process(pid, facts.started) for pid, facts in _all_stats() if facts.parent == self.pid]


def process(pid: int) -> Process | None:
    """The process that has this number now."""
    facts = _stat(pid)
    return None if facts is None else Process(pid, facts.started)


def session(leader: int) -> list[Process]:
    """The processes of a session, which its leader began by setsid(2); those that have ended are not among them."""
    members = (Process(pid, facts.started) for pid, facts in _all_stats() if facts.session == leader)
    return [member for member in members if member.alive]


@dataclass(frozen=True, slots=True)
class _Stat:
    """What proc(5) `/proc/PID/stat` says of a process."""

    state: str
    parent: int
    session: int
    threads: int
    started: int


def _all_stats() -> Iterator[tuple[int, _Stat]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (facts := _stat(int(entry.name))) is not None:
            yield int(entry.name), facts


def _stat(pid: int) -> _Stat | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold blanks and brackets
    return _Stat(
        state=fields[0], parent=int(fields[1]), session=int(fields[3]), threads=int(fields[17]), started=int(fields[19])
    )


def kill_all(victims: Sequence[Process]) -> None:
    """SIGKILL, and wait until they are gone; raises LocalClusterError if one stays."""
    for victim in victims:
        victim.signal(signal.SIGKILL)

    def gone() -> bool:
        for victim in victims:
            with contextlib.suppress(OSError):
                os.waitpid(victim.pid, os.WNOHANG)  # those that we started ourselves would stay as zombies
        return not any(victim.alive for victim in victims)

    wait_until(f"processes {[victim.pid for victim in victims]} end after SIGKILL", gone, KILL_SECONDS)


@dataclass(frozen=True, slots=True)
class Service:
    """A program that stays, recorded in a file that outlives who started it.

    `carrier` is the process that we started, `main` the program itself; they differ where a program such as nsenter
    stays behind as its parent.
    """

    name: str
    carrier: Process
    main: Process
    log: Path

    @property
    def processes(self) -> tuple[Process, ...]:
        """Both."""
        return (self.carrier,) if self.main == self.carrier else (self.main, self.carrier)

    @property
    def ended(self) -> str:
        """Sentence for one that is no longer alive, with the end of its log."""
        return f"{self.name} has ended\n{end_of(self.log)}"

    def save(self, directory: Path) -> None:
        """Write the record."""
        directory.mkdir(parents=True, exist_ok=True)
        facts = {"carrier": asdict(self.carrier), "main": asdict(self.main), "log": str(self.log)}
        partial = directory / f".{self.name}"
        partial.write_text(json.dumps(facts))
        partial.rename(directory / self.name)


def load_services(directory: Path) -> list[Service]:
    """Records of a directory, which may be missing."""
    found = []
    for path in sorted(directory.iterdir()) if directory.is_dir() else []:
        if not path.name.startswith("."):
            facts = json.loads(path.read_text())
            found.append(Service(path.name, Process(**facts["carrier"]), Process(**facts["main"]), Path(facts["log"])))
    return found


def start(name: str, argv: Sequence[str], log: Path, *, forks: bool) -> Service:
    """Start a program that outlives us, with its output at the end of `log`.

    `forks`: argv names a program (nsenter, unshare) whose child is the one that matters.

    Raises:
        LocalClusterError: it has ended at once.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    files = (
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
        *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _open_descriptors() if descriptor > STDERR),
    )
    # Not subprocess.Popen: it insists on waiting for the end, and this one is meant to outlive us.
    carrier = process(os.posix_spawnp(argv[0], list(argv), os.environ, file_actions=files, setsid=True))
    if carrier is None:
        raise LocalClusterError(f"{name} has ended at once\n{end_of(log)}")
    if not forks:
        return Service(name, carrier, carrier, log)
    children: list[Process] = []

    def born() -> bool:
        children[:] = carrier.children
        return bool(children) or not carrier.alive

    wait_until(f"{name} starts", born, COMMAND_SECONDS)
    if not children:
        raise LocalClusterError(f"{name} has ended at once\n{end_of(log)}")
    return Service(name, carrier, children[0], log)


def _open_descriptors() -> list[int]:
    """What we have open. A program that outlives us must not keep our caller's pipes and locks open with it."""
    return [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]


def end_of(log: Path) -> str:
    """The last lines of a log, with its path."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - LOG_BYTES))
            lines = handle.read().decode(errors="replace").splitlines()[-LOG_LINES:]
    except FileNotFoundError:
        return f"(no log at {log})"
    return "\n".join([f"--- end of {log} ---", *lines])


@contextlib.contextmanager
def exclusive(lock: Path, *, who: str) -> Iterator[None]:
    """Hold a lock file, which is gone afterwards; the kernel releases it when the holder dies.

    Raises:
        LocalClusterError: another process holds it.
    """
    with _locked(lock, who):
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(lock: Path, who: str) -> Iterator[None]:
    while True:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with lock.open("ab") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LocalClusterError(f"{who} is being changed by another process just now; try again") from error
            if _same_file(lock, handle.fileno()):
                yield
                return
        # Its last holder has removed it between our opening and locking it.


def _same_file(path: Path, descriptor: int) -> bool:
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False
