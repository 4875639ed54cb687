"""Programs that run to their end, and waiting with an end."""

import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Final

from e2e.localcluster.instance import LocalClusterError

COMMAND_SECONDS: Final = 60.0
POLL_SECONDS: Final = 0.1


def run(*argv: str, stdin: str | None = None, timeout: float = COMMAND_SECONDS) -> str:
    """Run a program to its end and return what it printed; raises LocalClusterError with its complaint."""
    done = attempt(argv, stdin=stdin, timeout=timeout)
    if done.returncode != 0:
        raise LocalClusterError(
            f"`{' '.join(argv)}` failed with status {done.returncode}: {(done.stderr or done.stdout).strip()}"
        )
    return done.stdout


def attempt(
    argv: Sequence[str], stdin: str | None = None, timeout: float = COMMAND_SECONDS
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end, whatever its status; raises LocalClusterError if it is missing or does not end."""
    try:
        return subprocess.run(
            argv, input=stdin or "", capture_output=True, text=True, errors="replace", timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise LocalClusterError(f"{argv[0]} is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise LocalClusterError(f"`{' '.join(argv)}` did not end within {timeout:.0f} s") from error


def wait_until(what: str, probe: Callable[[], bool], seconds: float, check: Callable[[], None] | None = None) -> None:
    """Return when `probe` holds; `check` may raise earlier, when there is nothing to wait for any more.

    Raises:
        LocalClusterError: not within `seconds`.
    """
    end = time.monotonic() + seconds
    while not probe():
        if check is not None:
            check()
        if time.monotonic() > end:
            raise LocalClusterError(f"{what}: not within {seconds:.0f} s")
        time.sleep(POLL_SECONDS)
