"""Troubles that last a while and then end: what a schedule of faults is made of.

Each begins at once and says how it ends. What each may cost is in docs/durability.md: those in ``HARMLESS`` cost no
acknowledged write that a replica in step has; those in ``SEPARATING`` may cost what was acknowledged since they began.
No trouble takes the last copy of anything from the cluster: what becomes of data that nobody has is another question.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Final

from cachecluster.domain.snapshot import ClusterRef
from tests.simulation import events
from tests.simulation.engine.disk import writes
from tests.simulation.engine.network import BOTH, OPERATOR, QUIET, Noise, Port
from tests.simulation.operating.clients import JUST_NOW_SECONDS
from tests.simulation.operating.faults import Faults
from tests.simulation.site import EXIT_SECONDS

if TYPE_CHECKING:
    from tests.simulation.kubernetes.kubelet import Sandbox
    from tests.simulation.world import World

PORTS: Final = (BOTH, BOTH, (Port.CLIENT,), (Port.BUS,))
LEADING_SHARE: Final = 0.6
"""How often it is a primary that something befalls."""

End = Callable[[], None]


@dataclass
class Scene:
    """Where troubles happen, and until when they last."""

    world: "World"
    ref: ClusterRef
    chance: Random
    over_at: float = 0.0
    """Loop time at which the last of them has ended."""
    parted_at: float | None = None
    """Loop time at which the first trouble began that may cost acknowledged writes."""

    def boxes(self) -> "list[Sandbox]":
        """Pods whose engine runs."""
        return [b for b in self.world.boxes(self.ref.name) if b.node is not None and b.ip is not None and not b.going]

    def victim(self) -> "Sandbox | None":
        """A pod whose engine runs, and more often one that leads."""
        boxes = self.boxes()
        leading = [b for b in boxes if b.node is not None and b.node.me.primary]
        some = leading if leading and self.chance.random() < LEADING_SHARE else boxes
        return self.chance.choice(some) if some else None

    def begin(self, trouble: "Trouble", seconds: float) -> None:
        """It lasts so long."""
        if trouble not in HARMLESS and self.parted_at is None:
            self.parted_at = self.world.loop.time()
        end = trouble(self)
        if end is not None:
            self.over_at = max(self.over_at, self.world.loop.time() + seconds)
            self.world.clock.later(seconds, end)

    def can_spare(self, boxes: "Iterable[Sandbox]") -> bool:
        """What they hold is on other running nodes, or on a volume that outlives the process; but for what is new."""
        world, going = self.world, set(boxes)
        volatile = [b for b in going if b.startup is None or not b.startup.environment.config.append_only]
        held = {t for b in volatile if b.node is not None for t in writes(b.node.tokens)}
        staying = (b.node for b in self.boxes() if b not in going)
        kept = {t for n in staying if n is not None for t in writes(n.tokens)}
        settled = world.history.acknowledged_before(world.loop.time() - JUST_NOW_SECONDS)
        return not (held & settled) - kept and all(self._in_step(b) for b in volatile)

    def _in_step(self, box: "Sandbox") -> bool:
        """A replica follows that can be reached, if it leads."""
        node, network = box.node, self.world.network
        if node is None or not node.me.primary or not node.tokens:
            return True
        replicas = node.repl.replicas.values()
        return any(r.alive and not r.frozen and r.repl.up and network.open(node.ip, r.ip) for r in replicas)


Trouble = Callable[[Scene], End | None]
"""Begins; how it ends, or None if it has none."""


# -- what no acknowledged write may be lost by ----------------------------------------------------------------------


def kill(scene: Scene) -> None:
    """SIGKILL to a process that somebody is in step with."""
    box = scene.victim()
    if box is not None and scene.can_spare([box]):
        scene.world.note(f"trouble: kill {box.key.name}")
        scene.world.kubelets.kill(box)


def kill_operator(scene: Scene) -> None:
    """SIGKILL to the operator."""
    scene.world.kill_operator(scene.ref)


def die_around_a_write(scene: Scene) -> None:
    """The operator dies before or after one of its next writes."""
    way = scene.world.leader[scene.ref.name].way
    way.die_at = 2 * way.requests + scene.chance.randrange(24)


def freeze_operator(scene: Scene) -> None:
    """The leader's machine stands still, another takes over; the old one wakes up with a request still to send."""
    seconds = scene.chance.uniform(0.01, 20.0)
    scene.world.replace_stuck_leader(scene.ref, seconds)
    scene.over_at = max(scene.over_at, scene.world.loop.time() + seconds + EXIT_SECONDS)


def freeze_in_a_promotion(scene: Scene) -> None:
    """The same in the middle of what follows when a process is killed."""
    way, seconds = scene.world.leader[scene.ref.name].way, scene.chance.uniform(0.5, 10.0)
    way.freeze_at = way.messages + scene.chance.randrange(120)
    way.on_freeze = partial(scene.world.replace_stuck_leader, scene.ref, seconds)
    scene.over_at = max(scene.over_at, scene.world.loop.time() + 3.0 + seconds + EXIT_SECONDS)
    kill(scene)


def two_operators(scene: Scene) -> None:
    """For a moment two act."""
    scene.world.have_two_leaders(scene.ref, scene.chance.uniform(0.1, 5.0))


def lose_api(scene: Scene) -> End:
    """The operator cannot reach the API server."""
    scene.world.reach_api(on=False)
    return lambda: scene.world.reach_api(on=True)


def hide(scene: Scene) -> End | None:
    """The operator cannot reach a node, or that one cannot reach the operator."""
    box = scene.victim()
    return None if box is None else _cut(scene, [(OPERATOR, str(box.ip))], scene.chance.random() < 0.5)


def set_operators_clock(scene: Scene) -> End:
    """Forward or back; later it is put right."""
    seconds = _step(scene.chance)
    scene.world.set_operators_clock(seconds)
    return lambda: scene.world.set_operators_clock(-seconds)


def disturb_requests(scene: Scene) -> End:
    """Requests and replies of the operator are lost, repeated, refused; what it is told is old."""
    chance, before = scene.chance, scene.world.faults
    scene.world.disturb(
        Faults(
            crash=chance.choice((0, 0.05)),
            lost_reply=chance.choice((0, 0.2)),
            lost_request=chance.choice((0, 0.1)),
            conflict=chance.choice((0, 0.1)),
            throttle=chance.choice((0, 0.1)),
            stale_list=chance.choice((0, 0.3)),
            stale_index=chance.choice((0, 0.5)),
            repeated=chance.choice((0, 0.2)),
        )
    )
    return lambda: scene.world.disturb(before)


def disturb_bus(scene: Scene) -> End:
    """Messages of the bus are lost with their connections, repeated, late."""
    chance = scene.chance
    scene.world.note("trouble: the bus is noisy")
    scene.world.network.noise = Noise(
        lost=chance.choice((0, 0.01, 0.05)), repeated=chance.choice((0, 0.3)), late=chance.choice((0, 0.05))
    )

    def end() -> None:
        scene.world.network.noise = QUIET

    return end


def ask_for_failover(scene: Scene) -> None:
    """Somebody asks a pod to stop being a primary."""
    events.request_failover(scene.world, scene.ref, scene.chance)


def cordon(scene: Scene) -> End:
    """A host is to take no more pods."""
    world, name = scene.world, scene.chance.choice(sorted(scene.world.hosts.by_name))

    def switch(*, on: bool) -> None:
        world.note(f"trouble: {'cordon' if on else 'uncordon'} {name}")
        world.hosts.cordon(name, on=on)
        world.wake_all()

    switch(on=True)
    return lambda: switch(on=False)


# -- what may cost what was acknowledged since ------------------------------------------------------------------------


def part_two(scene: Scene) -> End | None:
    """Two nodes cannot reach each other, one of their ports or both, one way or both."""
    boxes = scene.boxes()
    if len(boxes) < 2:
        return None
    one = scene.victim() or boxes[0]
    other = scene.chance.choice([b for b in boxes if b is not one])
    return _cut(scene, [(str(one.ip), str(other.ip))], scene.chance.random() < 0.5)


def part_many(scene: Scene) -> End | None:
    """Some nodes cannot reach the others; the operator is on either side, or reaches both."""
    boxes, chance = scene.boxes(), scene.chance
    places = [str(b.ip) for b in boxes] + [OPERATOR] * chance.choice((0, 1, 1))
    if len(boxes) < 2:
        return None
    some = set(chance.sample(places, chance.choice((1, 1, len(places) // 2))))
    pairs = [(one, other) for one in sorted(some) for other in places if other not in some]
    return _cut(scene, pairs, chance.random() < 0.7)


def isolate(scene: Scene) -> End | None:
    """A node cannot reach any other; the operator may still reach it. Its clients do."""
    box, chance = scene.victim(), scene.chance
    if box is None:
        return None
    others = [str(b.ip) for b in scene.boxes() if b is not box] + [OPERATOR] * chance.choice((0, 1, 1))
    return _cut(scene, [(str(box.ip), other) for other in others], chance.random() < 0.8)


def freeze(scene: Scene) -> End | None:
    """A process hangs; its kernel does not."""
    box = scene.victim()
    node = box.node if box is not None else None
    if box is None or node is None or not scene.can_spare([box]):
        return None
    scene.world.note(f"trouble: {box.key.name} hangs")
    scene.world.partitioned = True
    node.freeze()
    return node.thaw


def pause_machine(scene: Scene) -> End | None:
    """A virtual machine stands still, kernel and all, and goes on as if nothing had been."""
    end = strand(scene)
    if end is None:
        return None
    host = min(scene.world.kubelets.stranded)
    nodes = [b.node for b in scene.boxes() if b.host == host and b.node is not None]
    for node in nodes:
        node.freeze()

    def go_on() -> None:
        for node in nodes:
            node.thaw()
        end()

    return go_on


def strand(scene: Scene) -> End | None:
    """A machine is cut off from all others and from the API server; one at a time."""
    world, host = scene.world, _some_host(scene)
    if host is None:
        return None
    world.strand(host)
    return lambda: world.rejoin(host)


def power_off(scene: Scene) -> End | None:
    """A machine is without power; one at a time."""
    world, host = scene.world, _some_host(scene)
    if host is None:
        return None
    world.power_off(host)
    return lambda: world.power_on(host)


def set_hosts_clock(scene: Scene) -> End:
    """Forward or back; later it is put right."""
    host, seconds = scene.chance.choice(sorted(scene.world.hosts.by_name)), _step(scene.chance)
    scene.world.set_clock(host, seconds)
    return lambda: scene.world.set_clock(host, -seconds)


def clocks(scene: Scene) -> End:
    """The clock of a machine is set, or the operator's."""
    return scene.chance.choice((set_hosts_clock, set_operators_clock))(scene)


def _some_host(scene: Scene) -> str | None:
    """One that the cluster can do without, none being away."""
    world, box = scene.world, scene.victim()
    if box is None or world.kubelets.dark | world.kubelets.stranded:
        return None
    return box.host if scene.can_spare([b for b in scene.boxes() if b.host == box.host]) else None


def _step(chance: Random) -> float:
    return chance.choice((-1, 1)) * chance.choice((1.0, 4.0, 30.0, 300.0))


def _cut(scene: Scene, pairs: list[tuple[str, str]], both_ways: bool) -> End:
    network, ports = scene.world.network, scene.chance.choice(PORTS)
    if not both_ways and scene.chance.random() < 0.5:
        pairs = [(to, source) for source, to in pairs]
    ways = pairs + [(to, source) for source, to in pairs if both_ways]
    scene.world.note(f"trouble: cut {' and '.join(ports)}: {' '.join(f'{a}>{b}' for a, b in ways)}")
    scene.world.partitioned |= any(OPERATOR not in way for way in ways)
    for source, to in ways:
        network.cut(source, to, ports)

    def end() -> None:
        scene.world.note(f"trouble: mend {' and '.join(ports)}: {' '.join(f'{a}>{b}' for a, b in ways)}")
        for source, to in ways:
            network.mend(source, to, ports)

    return end


HARMLESS: Final[tuple[Trouble, ...]] = (
    *(kill, kill, kill, kill_operator, die_around_a_write, freeze_operator, two_operators, lose_api),
    *(freeze_in_a_promotion, freeze_in_a_promotion),
    *(hide, set_operators_clock, disturb_requests, disturb_bus, ask_for_failover, cordon),
)
SEPARATING: Final[tuple[Trouble, ...]] = (
    *(part_two, part_two, part_many, isolate, isolate, isolate),
    *(freeze, pause_machine, strand, power_off, set_hosts_clock),
)
