"""Situations in which a wrong operator would do wrong: a primary lives and takes writes of the clients beside it, and
looks lost from where the operator stands, from where its replicas stand, or both.

What makes the difference between a right promotion and a wrong one is who else can hear it and whether it refuses
writes by itself: so others are on its side or not, cuts come one after the other, and more befalls it meanwhile.
"""

from typing import TYPE_CHECKING, Final

from tests.simulation.engine.network import BOTH, OPERATOR, Port
from tests.simulation.troubles import (
    End,
    Scene,
    Trouble,
    clocks,
    die_around_a_write,
    disturb_bus,
    disturb_requests,
    freeze,
    freeze_operator,
    kill,
    kill_operator,
    pause_machine,
    two_operators,
)

if TYPE_CHECKING:
    from tests.simulation.kubernetes.kubelet import Sandbox

MEANWHILE: Final[tuple[Trouble, ...]] = (
    *(kill_operator, die_around_a_write, freeze_operator, two_operators, disturb_requests, disturb_bus),
    *(kill, freeze, pause_machine, clocks),
)
"""What may befall the cluster or its operator during a siege."""
MEANWHILE_SHARE: Final = 0.5
DELAYS: Final = (0.0, 0.0, 0.0, 0.5, 2.0, 5.0, 9.0)
OPERATOR_FIRST_SHARE: Final = 0.3
LATER_SECONDS: Final = (3.0, 6.0, 10.0)


def besiege(scene: Scene) -> End | None:
    """Some of those who could tell that a primary lives are cut off from it, one by one; its clients are not."""
    box, chance = _leader(scene), scene.chance
    if box is None:
        return None
    others = [b for b in scene.boxes() if b is not box]
    replicas = [b for b in others if b.node is not None and b.node.repl.primary is box.node]
    voters = [b for b in others if b not in replicas]
    side, ports = chance.choice(SIDES), chance.choice((BOTH, BOTH, BOTH, (Port.CLIENT,)))
    far, delay = side(scene, replicas, voters), chance.choice(DELAYS)
    inside = [box, *(b for b in replicas if b not in far)] if side is _all_but_one_replica else [box]
    first = chance.random() < OPERATOR_FIRST_SHARE
    ips = [b.ip for b in far if b.ip is not None]
    end = _each([_cut_off(scene, b, ips, ports, delay, operator_first=first) for b in inside])
    _meanwhile(scene)
    return end


def undermine(scene: Scene) -> End | None:
    """First its replicas lose a primary, so that the operator has it do without them; then the operator loses it, too.
    What it takes from then on, nobody else has.
    """
    box, chance = _leader(scene), scene.chance
    if box is None or box.node is None:
        return None
    replicas = [r.ip for r in box.node.repl.replicas.values() if r.repl.up]
    ends = [_cut(scene, box, ip, BOTH) for ip in replicas]
    ends.append(_cut_off(scene, box, [], BOTH, chance.choice(LATER_SECONDS)))
    _meanwhile(scene)
    return _each(ends)


def supplant(scene: Scene) -> End | None:
    """Its process is killed while the operator does not reach it: another one comes in the same pod, under the same id
    or not, and the operator has yet to learn of that.
    """
    box = _leader(scene)
    if box is None or not scene.can_spare([box]):
        return None
    scene.world.note(f"trouble: {box.key.name} is killed unseen")
    end = _cut_off(scene, box, [], BOTH, 0.0)
    scene.world.kubelets.kill(box)
    return end


def _meanwhile(scene: Scene) -> None:
    if scene.chance.random() >= MEANWHILE_SHARE:
        return
    trouble, seconds = scene.chance.choice(MEANWHILE), scene.chance.choice((1.0, 4.0, 12.0))
    scene.world.clock.later(scene.chance.uniform(0.0, 9.0), scene.begin, trouble, seconds)


def _leader(scene: Scene) -> "Sandbox | None":
    """Who leads a shard, has data and a replica in step."""
    found = [b for b in scene.boxes() if b.node is not None and b.node.me.primary and b.node.tokens]
    found = [b for b in found if b.node is not None and any(r.repl.up for r in b.node.repl.replicas.values())]
    return scene.chance.choice(found) if found else None


# -- who is on the other side -----------------------------------------------------------------------------------------


def _nobody(scene: Scene, replicas: "list[Sandbox]", voters: "list[Sandbox]") -> "list[Sandbox]":
    return []


def _replicas(scene: Scene, replicas: "list[Sandbox]", voters: "list[Sandbox]") -> "list[Sandbox]":
    return replicas


def _all_but_one_replica(scene: Scene, replicas: "list[Sandbox]", voters: "list[Sandbox]") -> "list[Sandbox]":
    """It takes a replica with it, which goes on reporting to it."""
    return [*replicas[1:], *voters]


def _most(scene: Scene, replicas: "list[Sandbox]", voters: "list[Sandbox]") -> "list[Sandbox]":
    """Somebody of another shard can still hear it."""
    near = scene.chance.sample(voters, min(len(voters), scene.chance.choice((1, 1, 2))))
    return [*replicas, *(b for b in voters if b not in near)]


def _one_voter(scene: Scene, replicas: "list[Sandbox]", voters: "list[Sandbox]") -> "list[Sandbox]":
    return [*replicas, *scene.chance.sample(voters, min(len(voters), 1))]


def _everybody(scene: Scene, replicas: "list[Sandbox]", voters: "list[Sandbox]") -> "list[Sandbox]":
    return [*replicas, *voters]


SIDES: Final = (_nobody, _replicas, _all_but_one_replica, _most, _one_voter, _everybody, _everybody, _everybody)
"""Who is cut off from the primary together with the operator."""


def _each(ends: list[End]) -> End:
    def end() -> None:
        for one in ends:
            one()

    return end


def _cut_off(
    scene: Scene,
    box: "Sandbox",
    ips: list[str],
    ports: tuple[Port, ...],
    delay: float,
    *,
    operator_first: bool = False,
) -> End:
    """From these now and from the operator after ``delay``, or the other way round."""
    ends: list[End] = []

    def nodes() -> None:
        ends.extend(_cut(scene, box, ip, ports) for ip in ips)

    def operator() -> None:
        ends.append(_cut(scene, box, OPERATOR, BOTH))

    first, second = (operator, nodes) if operator_first else (nodes, operator)
    over = [False]
    first()
    if delay:
        scene.world.clock.later(delay, lambda: None if over[0] else second())
    else:
        second()

    def end() -> None:
        over[0] = True
        _each(ends)()

    return end


def _cut(scene: Scene, box: "Sandbox", other: str, ports: tuple[Port, ...]) -> End:
    """Both ways."""
    world, ip = scene.world, str(box.ip)
    world.note(f"siege: {' and '.join(ports)} between {ip} and {other} cut")
    world.partitioned |= other != OPERATOR
    world.network.isolate(ip, {other}, ports)

    def end() -> None:
        world.note(f"siege: {' and '.join(ports)} between {ip} and {other} mended")
        world.network.mend(ip, other, ports)
        world.network.mend(other, ip, ports)

    return end


SIEGES: Final[tuple[Trouble, ...]] = (*(besiege,) * 5, *(undermine,) * 2, supplant)
