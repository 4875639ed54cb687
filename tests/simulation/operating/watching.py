"""The operator's idle connections to engine nodes, as its kernel keeps them."""

from collections.abc import Callable
from typing import Final

from cachecluster.domain.loss import SILENT_SECONDS
from cachecluster.domain.nodes import Ending, Mood
from tests.simulation.engine.network import OPERATOR, Network
from tests.simulation.engine.node import Node
from tests.simulation.operating.faults import Interference

KEEPALIVE_SECONDS: Final = 1.0


class Idle:
    """A connection that ends with the process at its other end, or a while after the way there was cut."""

    def __init__(self, network: Network, node: Node, way: Interference, ended: Callable[[Ending], None]) -> None:
        self._network, self._node, self._way, self._ended = network, node, way, ended
        self._session = node.operator_sessions
        self._heard = node.now()
        self._over = False
        network.idle.setdefault(node, []).append(self._hang_up)
        network.clock.later(KEEPALIVE_SECONDS, self._keep_alive)

    def ask(self, told: Callable[[Mood], None]) -> None:
        """The answer comes unless the way is cut or the process does not run."""
        if (
            not self._over
            and self._network.open(OPERATOR, self._node.ip)
            and self._node.alive
            and not self._node.frozen
        ):
            mood = Mood(self._node.current_epoch, self._node.state_ok)
            self._way.notice(lambda: None if self._over else told(mood))

    def close(self) -> None:
        """The operator hangs up."""
        self._over = True

    def _hang_up(self) -> None:
        """A FIN has arrived."""
        self._end(Ending.CLOSED)

    def _keep_alive(self) -> None:
        """The kernel asks the other one, which answers for its processes, hung ones included."""
        if self._over:
            return
        if self._network.open(OPERATOR, self._node.ip):
            self._heard = self._node.now()
            if not self._node.alive or self._session != self._node.operator_sessions:
                self._end(Ending.CLOSED)
        elif self._node.now() - self._heard >= SILENT_SECONDS:
            self._end(Ending.TIMED_OUT)
        self._network.clock.later(KEEPALIVE_SECONDS, self._keep_alive)

    def _end(self, ending: Ending) -> None:
        if not self._over:
            self._over = True
            self._way.notice(lambda: self._ended(ending))
