"""Quantities in the API server's own notation, and the sizes and times that follow from the memory limit.

An amount is always written in one way, so that "1Gi" and "1024Mi" give the same pod template and no restart.
"""

from fractions import Fraction
from math import ceil
from typing import Final

from cachecluster.api.spec import CacheClusterSpec, PersistenceMode
from cachecluster.domain.memory import memory_limit
from cachecluster.domain.quantity import exact, to_bytes

_BINARY: Final = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")
_DECIMAL: Final = ("m", "", "k", "M", "G", "T", "P", "E")

HOLD_SECONDS: Final = 30
"""Longest time for which the start guard keeps a former primary down (S5)."""
SILENT_HOLD_SECONDS: Final = 10
"""The same when no other node answers at all: twice the node timeout, by when an election has begun."""
DISK_BYTES_PER_SECOND: Final = 32 * 2**20
"""What we count on when a node writes its data at the end or reads it at the start: a slow network volume."""
_CALM_SECONDS: Final = 30
"""Hand-over (at most 12 s), then the engine's own wait for its replicas (shutdown-timeout, 10 s), and some air."""


def memory(text: str) -> str:
    """Bytes in the canonical notation; raises ValueError."""
    amount = to_bytes(text)
    power = 0
    while amount and amount % 1024 == 0 and power < len(_BINARY) - 1:
        amount, power = amount // 1024, power + 1
    return f"{amount}{_BINARY[power]}" if power else _decimal(Fraction(amount))


def cpu(text: str) -> str:
    """Cores, rounded up to thousandths, in the canonical notation; raises ValueError."""
    return _decimal(Fraction(ceil(exact(text) * 1000), 1000))


def _decimal(amount: Fraction) -> str:
    thousandths, power = int(amount * 1000), 0
    while thousandths and thousandths % 1000 == 0 and power < len(_DECIMAL) - 1:
        thousandths, power = thousandths // 1000, power + 1
    return f"{thousandths}{_DECIMAL[power]}" if thousandths else "0"


def grace_seconds(spec: CacheClusterSpec) -> int:
    """terminationGracePeriodSeconds: 30 s, with persistence also 1 s for each 32 MiB of the memory limit."""
    return _CALM_SECONDS + _disk_seconds(spec)


def startup_seconds(spec: CacheClusterSpec) -> int:
    """Longest time until the cache port listens: the hold, twice over, and a disk slow to give up the first bytes.

    The engine listens before it loads, so the data size counts only for what a full disk queue may add.
    """
    return 2 * HOLD_SECONDS + _CALM_SECONDS + _disk_seconds(spec)


def _disk_seconds(spec: CacheClusterSpec) -> int:
    if spec.persistence_mode is PersistenceMode.NONE:
        return 0
    return ceil(memory_limit(spec) / DISK_BYTES_PER_SECOND)
