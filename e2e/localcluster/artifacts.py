"""Files that are expensive to make are made once: under a lock, shown as they go, and never seen half-written.

Knows nothing of what it makes; the root file systems, image archives and the operator image are built through it.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from e2e.localcluster.processes import kill_all, session

PROGRESS_SECONDS: Final = 10.0
LOG_LINES_SHOWN: Final = 30


class BuildError(Exception):
    """A build step failed; the message ends with the last lines that it printed."""


def cache_root() -> Path:
    """Where artifacts are kept between runs: `$XDG_CACHE_HOME/cachecluster/images`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cachecluster" / "images"


def digest_of(parts: Iterable[str | bytes]) -> str:
    """Short hash of a recipe; each part is length-prefixed, so that moving text between parts changes it."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]


def build_once(target: Path, label: str, produce: Callable[[Path], None]) -> Path:
    """Return `target`, first made by `produce(temporary_path)` if it is missing.

    Other threads and processes that want the same target wait for the first. `target` appears by a rename, so an
    interrupted build leaves no half artifact behind.
    """
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with exclusive(target.with_name(f".{target.name}.lock")):
        if target.exists():
            return target
        partial = target.with_name(f".{target.name}.partial")
        remove(partial)
        try:
            with progress(label):
                produce(partial)
            partial.rename(target)
        finally:
            remove(partial)
    return target


def remove(path: Path) -> None:
    """Remove a file or a whole tree; it may be missing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def keep_newest(directory: Path, pattern: str, count: int) -> None:
    """Remove all but the `count` most recently made files that match, so that the cache does not grow for ever."""
    found = sorted(directory.glob(pattern), key=lambda path: path.stat().st_mtime, reverse=True)
    for stale in found[count:]:
        remove(stale)


@contextlib.contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a file lock; the kernel releases it when the holder dies."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def progress(label: str) -> Iterator[None]:
    """Say on stderr what is being done, that it still is, and how long it took."""
    started = time.monotonic()
    done = threading.Event()

    def elapsed() -> str:
        return f"{time.monotonic() - started:.0f} s"

    def keep_saying() -> None:
        while not done.wait(PROGRESS_SECONDS):
            print(f"{label} ... {elapsed()}", file=sys.stderr, flush=True)

    print(f"{label} ...", file=sys.stderr, flush=True)
    speaker = threading.Thread(target=keep_saying, daemon=True)
    speaker.start()
    try:
        yield
    except BaseException:
        print(f"{label}: failed after {elapsed()}", file=sys.stderr, flush=True)
        raise
    finally:
        done.set()
        speaker.join()
    print(f"{label}: done in {elapsed()}", file=sys.stderr, flush=True)


def run_logged(argv: Sequence[str], log: Path, timeout_seconds: float, env: Mapping[str, str] | None = None) -> None:
    """Run a build step with its output in `log`; a failure raises `BuildError` with the end of it."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **(env or {})},
        )
        try:
            status = process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            raise BuildError(f"{argv[0]} did not end within {timeout_seconds:.0f} s\n{_end_of(log)}") from error
        finally:
            _end_session(process)
    if status != 0:
        raise BuildError(f"{argv[0]} ended with status {status}; whole output in {log}\n{_end_of(log)}")


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """End the step and whatever it started, also when we are interrupted: what is left of it could still write."""
    while left := session(process.pid):  # again: one of them may have forked while they were counted
        kill_all(left)
    process.wait()


def _end_of(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:])
