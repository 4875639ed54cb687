"""A plan: what to do now, why, what is held back, and when to look again."""

from dataclasses import dataclass

from cachecluster.api.reasons import Reason
from cachecluster.domain.actions import Action


@dataclass(frozen=True, slots=True)
class Do:
    """An action with its reason and a sentence for people."""

    action: Action
    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do yet; look again after ``seconds`` at the latest."""

    reason: Reason
    message: str
    seconds: float
    stops_rest: bool = False
    """No later policy may act in this pass."""


@dataclass(frozen=True, slots=True)
class Block:
    """Something that the operator must not or cannot resolve; the message says what a person can do."""

    reason: Reason
    message: str
    stops_rest: bool = False
    """No later policy may act in this pass."""


Verdict = Do | Wait | Block


@dataclass(frozen=True, slots=True)
class Plan:
    """What the chain of policies decided, in order."""

    steps: tuple[Do, ...] = ()
    waits: tuple[Wait, ...] = ()
    blocks: tuple[Block, ...] = ()

    @property
    def requeue_seconds(self) -> float | None:
        """The shortest wait asked for."""
        return min((w.seconds for w in self.waits), default=None)

    @property
    def converged(self) -> bool:
        """Nothing to do, to wait for, or held back."""
        return not (self.steps or self.waits or self.blocks)


@dataclass(frozen=True, slots=True)
class Promotion:
    """What the new primary said when it led."""

    elected: bool
    """The nodes had made it one before it was told to."""
    takes_writes: bool


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a step."""

    step: Do
    error: str | None
    """None: done. Else why not, for people."""
    doubt: bool = False
    """A precondition did not hold any more; nothing was done."""
    rejected: bool = False
    """The API server refuses it, and will again until somebody changes something."""
    keys_moved: int = 0
    """By MoveSlots, this time."""
    refused: bool = False
    """The engine refuses to have this set: remembered for a while, and not what a pass is repeated for."""
    promotion: Promotion | None = None
    """What came of a Promote that was done."""
    began: float = 0.0
    ended: float = 0.0
    """By the clock of the failure detector."""
