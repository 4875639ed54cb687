"""Where the end-to-end tests, the demo and the benchmarks run."""

from e2e.platform.base import Access, Faults, Platform, PlatformError
from e2e.platform.choose import CHOICES, choose
from e2e.platform.traffic import Direction, Traffic

__all__ = ["CHOICES", "Access", "Direction", "Faults", "Platform", "PlatformError", "Traffic", "choose"]
