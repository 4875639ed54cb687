"""Names in a message, so many that a person still reads them."""

from collections.abc import Sequence
from typing import Final

SHOWN: Final = 5


def listed(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + rest
