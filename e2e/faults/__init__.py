"""The fault suite: what can happen to a cluster that applications write to, and what it may cost."""

from e2e.faults.classes import CLASSES, Case, FaultClass, left_out, matrix, sample
from e2e.faults.stage import Reach, Stage, set_up

__all__ = ["CLASSES", "Case", "FaultClass", "Reach", "Stage", "left_out", "matrix", "sample", "set_up"]
