"""Slots that the engine itself moves at one stroke, with either end dying meanwhile."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.slots import SlotSet
from cachecluster.engines.client import SlotState
from cachecluster.reconcile.atomic_moves import GIVE_UP_AFTER
from tests.simulation.engine import atomic, commands, slot_commands
from tests.simulation.engine.commands import Refused
from tests.simulation.test_engine_model import Lab
from tests.simulation.test_slot_moves import SLOTS, Move

MOMENTS = (0.0, 0.05, 0.15, 0.25, 0.29, 0.3, 0.31, 0.33, 0.4)
"""Seconds after the order, from the first greeting to after the end."""


@pytest.fixture
def move() -> Iterator[Move]:
    lab = Lab((9, 1))
    with closing(lab.loop):
        yield Move(lab)


def begin(move: Move) -> atomic.Job:
    """A job is under way."""
    atomic.migrate_slots(move.source, SLOTS, move.destination.node_id)
    return move.source.jobs[0]


def test_nobody_sees_the_keys_at_the_destination_until_it_takes_over(move: Move) -> None:
    begin(move)
    while not move.destination.me.slots & SLOTS:
        assert not set(move.destination.tokens) & set(SLOTS)
        assert move.destination.keys == 0
        answer = move.destination.write(0, "stranger")
        assert answer is not None
        assert answer.startswith("MOVED")
        move.lab.wait(0.001)
    assert {t for s in SLOTS for t in move.destination.tokens[s]} == move.written
    move.complete()


def test_clients_wait_at_the_end_and_no_write_is_left_behind(move: Move) -> None:
    begin(move)
    answers = []
    for number in range(400):
        answers.append(move.source.write(0, f"more{number}"))
        if answers[-1] is None:
            move.written.add(f"more{number}")
        move.lab.wait(0.001)
    assert {a.split()[0] for a in answers if a} == {"paused", "MOVED"}
    move.complete()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("victim", [0, 1], ids=["source", "destination"])
def test_either_end_may_die_meanwhile(move: Move, victim: int, moment: float) -> None:
    begin(move)
    move.lab.wait(moment)
    dead, heir = move.shards[victim]
    dead.stop(orderly=False)
    move.lab.wait(0.5)
    commands.failover(heir, FailoverKind.TAKEOVER)
    move.shards[victim] = [heir]
    move.lab.wait(8)
    held = {t for node in (move.source, move.destination) for s in node.me.slots for t in node.tokens.get(s, ())}
    assert held == move.written
    assert not any(job.running for job in move.source.jobs)
    move.attempt()
    move.lab.wait(3)
    assert not SLOTS - move.destination.me.slots
    assert {t for s in SLOTS for t in move.destination.tokens[s]} == move.written


def test_a_job_that_is_called_off_leaves_everything_where_it_was(move: Move) -> None:
    job = begin(move)
    move.lab.wait(0.1)
    atomic.cancel(move.source)
    move.lab.wait(1)
    assert job.state == "cancelled"
    assert [j.state for j in move.destination.jobs] == ["failed"]
    assert move.stored() == sorted(move.written)
    assert move.source.write(0, "k0.more") is None


def test_the_third_failure_ends_the_attempts(move: Move) -> None:
    move.destination.quarantined = True
    for _ in range(GIVE_UP_AFTER):
        begin(move)
        move.lab.wait(0.1)
    assert {job.state for job in move.source.jobs} == {"failed"}
    move.destination.quarantined = False
    move.attempt()
    assert len(move.source.jobs) == GIVE_UP_AFTER
    move.complete()


def test_refusals(move: Move) -> None:
    source, destination = move.source, move.destination
    for node, to, why in (
        (move.shards[0][1], destination, "only be used on primary"),
        (destination, source, "not served by this node"),
        (source, source, "already served"),
    ):
        with pytest.raises(Refused, match=why):
            atomic.migrate_slots(node, SLOTS, to.node_id)
    atomic.migrate_slots(source, SLOTS, move.shards[1][1].node_id)  # taken, though it is a replica
    move.lab.wait(0.1)
    assert source.jobs[0].state == "failed"
    begin(move)
    with pytest.raises(Refused, match="already migrating"):
        begin(move)
    atomic.cancel(source)
    slot_commands.set_slots(source, SlotSet.of([0]), SlotState.MIGRATING, destination.node_id)
    with pytest.raises(Refused, match="manually"):
        begin(move)
