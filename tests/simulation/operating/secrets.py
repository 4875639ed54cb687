"""Rule S12: no password, nor a hash of one, in anything that people or other programs see."""

from typing import TYPE_CHECKING

from tests.simulation.kubernetes.container import digest
from tests.simulation.kubernetes.store import Key, Object

if TYPE_CHECKING:
    from tests.simulation.world import World


class Secrets:
    """Looks at what is new since the last time."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self._written: dict[Key, Object] = {}
        self._seen = [0, 0, 0]
        """How many events, log lines and notes of the trace have been looked at."""
        world.store.watchers.append(self._changed)

    def _changed(self, key: Key, body: Object | None) -> None:
        if key.kind != "Secret" and body is not None:
            self._written[key] = body

    def look(self) -> None:
        """After everything that the operator does."""
        told = ([f"event {r}: {m}" for _, r, m in self.world.recorder.events], self.world.logged, self.world.trace)
        new = [line for lines, seen in zip(told, self._seen, strict=True) for line in lines[seen:]]
        self._seen = [len(lines) for lines in told]
        texts = [*new, *(f"{key.kind} {key.name}: {body}" for key, body in self._written.items())]
        self._written = {}
        for secret in (form for password in self.world.passwords for form in (password, digest(password))):
            for text in texts:
                if secret in text:
                    self.world.violate("S12", f"a password shows in {text[:80]}")
