"""An application that costs the primaries processor time."""

from e2e.load.load import Load

__all__ = ["Load"]
