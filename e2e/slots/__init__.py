"""How many slots have left the primaries of the beginning, at every moment of a scenario."""

from e2e.slots.watch import SlotWatch

__all__ = ["SlotWatch"]
