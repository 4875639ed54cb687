"""Moves of slots in the engine model, with the operator dying around every single command, and under writes."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from typing import Any, cast

import pytest

from cachecluster.domain.actions import MoveSlots, Target
from cachecluster.domain.slots import SlotSet, share
from cachecluster.domain.snapshot import ClusterRef
from cachecluster.engines.client import NodeError, SlotState
from cachecluster.manifests import Passwords
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.dependencies import Dependencies
from cachecluster.reconcile.slot_moves import move_slots
from tests.simulation.engine import commands, slot_commands
from tests.simulation.engine.commands import Refused
from tests.simulation.engine.node import Node
from tests.simulation.operating.connector import Connector
from tests.simulation.operating.faults import NO_FAULTS, Faults, Interference, Killed
from tests.simulation.schedules import spec
from tests.simulation.test_engine_model import Lab
from tests.simulation.world import World

SLOTS = SlotSet.from_ranges([(0, 39)])
TOKENS = 5


class Pods:
    """Every address has a pod."""

    def __init__(self, nodes: list[Node]) -> None:
        self.nodes = {f"pod-{n.ip}": n for n in nodes}

    async def get(self, api_version: str, kind: str, namespace: str, name: str) -> dict[str, Any]:
        return {"metadata": {"uid": name}, "status": {"podIP": self.nodes[name].ip}}


class Move:
    """Two shards of the model, and an operator that moves slots from the first to the second."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.shards = lab.form(2, 1)
        self.written = {f"k{slot}.{i}" for slot in SLOTS for i in range(TOKENS)}
        for token in sorted(self.written):
            assert self.source.write(int(token[1:].split(".")[0]), token) is None
        self.requests = 0
        self.error: BaseException | None = None

    @property
    def source(self) -> Node:
        return self.shards[0][0]

    @property
    def destination(self) -> Node:
        return self.shards[1][0]

    def attempt(self, die_at: int | None = None, faults: Faults = NO_FAULTS) -> None:
        """One slice; the operator dies before (2n) or after (2n + 1) its n-th command."""
        way = Interference(self.lab.clock, faults, f"attempt {die_at}")
        way.die_at = die_at
        way.before_command = self._check
        everybody = [n for shard in self.shards for n in shard]
        deps = Dependencies(
            kube=cast("Any", Pods(everybody)),
            nodes=Connector(self.lab.network, way),
            hosts=dict,
            now=lambda: 0.0,
            generate_password=lambda: "",
            operator_namespace="",
            events=cast("Any", None),
            leader=lambda: True,
            watcher=cast("Any", None),
            clock=lambda: 0.0,
        )
        context = Context(ClusterRef("shop", "cart", "uid"), deps, Passwords("a", "b", "c", "d"))
        replicas = tuple(self.target(n) for n in self.shards[1][1:])
        action = MoveSlots(SLOTS, self.target(self.source), self.target(self.destination), replicas, ())
        task = self.lab.loop.create_task(move_slots(action, context))

        def cancel() -> None:
            task.cancel()

        way.on_death = cancel
        try:
            self.lab.loop.run_until_complete(task)
        except (Killed, asyncio.CancelledError, Doubt, NodeError) as e:
            self.error = e
        way.dead = True
        self.requests = way.requests

    def target(self, node: Node) -> Target:
        return Target(f"pod-{node.ip}", f"pod-{node.ip}", node.ip, node.node_id, 0)

    def _check(self, node: Node, name: str, arguments: tuple[Any, ...]) -> None:
        """S2, before each command."""
        if name == "set_slots" and arguments[1] is SlotState.NODE and node is self.destination:
            assert not any(self.source.tokens.get(slot) for slot in arguments[0])

    def stored(self) -> list[str]:
        """Keys at the two primaries."""
        return sorted(t for node in (self.source, self.destination) for some in node.tokens.values() for t in some)

    def complete(self) -> None:
        """Slice after slice until all is moved; then everybody knows it, and no key is lost or doubled."""
        for _ in range(5):
            if not SLOTS - self.destination.me.slots and not self.source.migrating:
                break
            self.attempt()
        self.lab.wait(3)
        assert self.stored() == sorted(self.written)
        assert set(self.destination.tokens) == set(SLOTS)
        assert self.destination.me.slots == share(2)[1] | SLOTS
        for shard in self.shards:
            for node in shard:
                assert node.tokens.keys() == shard[0].tokens.keys()
                assert not node.migrating
                assert not node.importing
                assert node.rows[self.destination.node_id].slots == self.destination.me.slots


@pytest.fixture(params=[(8, 0), (8, 1), (9, 1)], ids=str)
def move(request: pytest.FixtureRequest) -> Iterator[Move]:
    lab = Lab(request.param)
    with closing(lab.loop):
        yield Move(lab)


def test_one_slice_moves_every_key(move: Move) -> None:
    move.attempt()
    assert move.requests == 1 if move.lab.config.version >= (9, 0) else move.requests > 10
    move.complete()


@pytest.mark.parametrize(("version", "points"), [((8, 1), 30), ((9, 1), 3)], ids=str)
def test_s2_operator_may_die_around_any_command(version: tuple[int, int], points: int) -> None:
    point, last = 0, 1
    while point <= 2 * last + 1:
        lab = Lab(version)
        with closing(lab.loop):
            move = Move(lab)
            move.attempt(die_at=point)
            last = max(last, move.requests)
            move.complete()
        point += 1
    assert point > points


@pytest.mark.parametrize("version", [(8, 1), (9, 1)], ids=str)
@pytest.mark.parametrize("seed", range(20))
def test_s2_lost_requests_and_replies_under_writes_lose_nothing(seed: int, version: tuple[int, int]) -> None:
    lab = Lab(version, seed)
    with closing(lab.loop):
        move = Move(lab)
        chance = lab.clock.chance("writer")

        def write() -> None:
            slot = chance.choice(list(SLOTS))
            token = f"w{len(move.written)}"
            answer = move.source.write(slot, token)
            if answer is not None:
                answer = move.destination.write(slot, token, asking=answer.startswith("ASK"))
            if answer is None:
                move.written.add(token)
            lab.clock.later(0.002, write)

        write()
        for _ in range(8):
            move.attempt(faults=Faults(lost_request=0.05, lost_reply=0.05, crash=0.05))
        for _ in range(5):
            move.attempt()
        assert move.stored() == sorted(move.written)
        assert not SLOTS - move.destination.me.slots


def test_s2_source_drops_what_it_holds_of_a_slot_that_another_claims(move: Move) -> None:
    """The danger itself, as measured (engine-facts §1.3)."""
    slots = SlotSet.of([0])
    slot_commands.set_slots(move.destination, slots, SlotState.IMPORTING, move.source.node_id)
    slot_commands.set_slots(move.source, slots, SlotState.MIGRATING, move.destination.node_id)
    slot_commands.migrate(move.source, move.destination.ip, [b"k0.0", b"k0.1"])
    slot_commands.set_slots(move.destination, slots, SlotState.NODE, move.destination.node_id)
    move.lab.wait(3)
    assert move.destination.tokens == {0: ("k0.0", "k0.1")}
    assert 0 not in move.source.tokens
    assert 0 not in move.shards[0][1].tokens


def test_source_keeps_a_slot_of_which_it_holds_keys(move: Move) -> None:
    slots = SlotSet.of([0])
    slot_commands.set_slots(move.source, slots, SlotState.MIGRATING, move.destination.node_id)
    with pytest.raises(Refused, match="still hold keys"):
        slot_commands.set_slots(move.source, slots, SlotState.NODE, move.destination.node_id)


def test_destination_whose_replica_is_not_in_step_is_waited_for(move: Move) -> None:
    move.shards[1][1].stop(orderly=False)
    move.attempt()
    assert isinstance(move.error, Doubt)
    assert "no replica of" in str(move.error)
    assert not any(slot in move.destination.tokens for slot in SLOTS)


def test_only_what_a_slots_mark_says_is_done(move: Move) -> None:
    """A slot that is on its way to a third node is not sent elsewhere."""
    third = move.lab.start("10.0.9.0")
    for node in (move.source, move.destination):
        commands.meet(third, node.address)
    move.lab.wait(3)
    slot_commands.set_slots(move.source, SlotSet.of([7]), SlotState.MIGRATING, third.node_id)
    move.attempt()
    assert isinstance(move.error, Doubt)
    assert "another node" in str(move.error)
    assert set(move.source.tokens) == set(SLOTS)


def test_s2_the_watch_notices_slots_that_are_given_or_closed_too_early() -> None:
    with World(1) as world:
        world.converge(world.create(spec((2, 1))))
        source, destination = (world.primary(shard).node for shard in (0, 1))
        assert source is not None
        assert destination is not None
        assert source.write(0, "here") is None
        moving = SlotSet.of([0])
        slot_commands.set_slots(destination, moving, SlotState.IMPORTING, source.node_id)
        slot_commands.set_slots(source, moving, SlotState.MIGRATING, destination.node_id)
        assert destination.write(0, "there", asking=True) is None
        world.watch.command(destination, "set_slots", (moving, SlotState.NODE, destination.node_id))
        world.watch.command(source, "set_slots", (moving, SlotState.STABLE))
        told, world.violations = world.violations, []
        assert ["still holds keys" in told[0], "closed" in told[1]] == [True, True]
        assert all(text.startswith("S2") for text in told)
        slot_commands.migrate(source, destination.ip, [b"here"])
        world.watch.command(destination, "set_slots", (moving, SlotState.NODE, destination.node_id))
        world.check()
