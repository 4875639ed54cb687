"""Hash tags: keys that contain one lie in a slot of the test's choice."""

import itertools
from typing import Final

from redis.crc import key_slot

_NUMBERS: Final = itertools.count()
_FOUND: Final[dict[int, bytes]] = {}


def tag(slot: int) -> bytes:
    """The smallest number in braces that lies in the slot; whatever is found on the way to it is kept."""
    while slot not in _FOUND:
        candidate = b"{%d}" % next(_NUMBERS)
        _FOUND.setdefault(key_slot(candidate), candidate)
    return _FOUND[slot]
