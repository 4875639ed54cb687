"""Log lines for people (text) or collectors (JSON), with the cluster that they are about as a field of its own."""

import json
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Final, Literal

Format = Literal["json", "text"]

_FIELDS: Final = ("cluster", "reason")
_cluster: ContextVar[str] = ContextVar("cluster", default="")


@contextmanager
def about(cluster: str) -> Iterator[None]:
    """Everything logged inside is about this cluster, whoever logs it."""
    token = _cluster.set(cluster)
    try:
        yield
    finally:
        _cluster.reset(token)


def configure(style: Format, level: str) -> None:
    """Send all logs to stderr; to be called once, at the start of the process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(RepeatFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # Kopf reports every handled event at INFO, and its DEBUG lines may quote objects: not for Secrets' watchers.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


class JsonFormatter(logging.Formatter):
    """One JSON object for each line: time, level, logger, message, cluster, reason, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        line = {"time": _time(record), "level": record.levelname.lower(), "logger": record.name}
        line |= _fields(record) | {"message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """``time LEVEL cluster: message (reason)``."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter."""
        fields = _fields(record)
        where = f"{fields['cluster']}: " if "cluster" in fields else ""
        why = f" ({fields['reason']})" if "reason" in fields else ""
        line = f"{_time(record)} {record.levelname:<8} {where}{record.getMessage()}{why}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class RepeatFilter(logging.Filter):
    """Passes a warning of a library on once a minute: its retries differ only by their number."""

    def __init__(self, libraries: tuple[str, ...] = ("kopf", "aiohttp"), seconds: float = 60.0) -> None:
        """``libraries`` are top-level logger names."""
        super().__init__()
        self._libraries = libraries
        self._seconds = seconds
        self._last: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """See logging.Filter."""
        if record.levelno < logging.WARNING or record.name.partition(".")[0] not in self._libraries:
            return True
        now = time.monotonic()
        key = (record.name, re.sub(r"\d+", "#", record.getMessage())[:60])
        if now < self._last.get(key, float("-inf")) + self._seconds:
            return False
        self._last = {k: at for k, at in self._last.items() if now < at + self._seconds} | {key: now}
        return True


def _fields(record: logging.LogRecord) -> dict[str, str]:
    found = {name: str(getattr(record, name)) for name in _FIELDS if getattr(record, name, None)}
    bound = _cluster.get()
    return ({"cluster": bound} if bound else {}) | found


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
