"""Which connections the failure detector keeps, what it remembers of those that ended, and that none is left over."""

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from cachecluster.domain.nodes import Ending, Mood, NodeId, NodeView, Unwritten
from cachecluster.domain.snapshot import Snapshot
from cachecluster.engines.client import NobodyListens
from cachecluster.reconcile.detector import REMEMBERED_SECONDS, Detector
from tests.unit.domain.building import Cluster, formed

PRIMARY, REPLICA = NodeId("id-0-0-0"), NodeId("id-0-1-0")


class Connection:
    def __init__(self, ended: Callable[[Ending], None]) -> None:
        self.ended = ended
        self.closed = False
        self.told: Callable[[Mood], None] | None = None

    def ask(self, told: Callable[[Mood], None]) -> None:
        self.told = told

    def close(self) -> None:
        self.closed = True


class Nodes:
    """A NodeWatcher. Every node answers unless it is said to be refusing."""

    def __init__(self) -> None:
        self.opened: list[tuple[str, NodeId]] = []
        self.connections: dict[NodeId, Connection] = {}
        self.refusing: set[NodeId] = set()
        self.stuck: set[NodeId] = set()
        self.dying: set[NodeId] = set()
        self.given_up = 0

    async def watch(self, ip: str, password: str, node_id: NodeId, ended: Callable[[Ending], None]) -> Connection:
        assert password == "secret"
        self.opened.append((ip, node_id))
        if node_id in self.refusing:
            raise NobodyListens(f"{ip}: connection refused")
        if node_id in self.stuck:
            try:
                await asyncio.Event().wait()
            finally:
                self.given_up += 1
        self.connections[node_id] = Connection(ended)
        if node_id in self.dying:
            ended(Ending.CLOSED)
        return self.connections[node_id]


class Stage:
    """A detector over scripted nodes and a clock that is set by hand."""

    def __init__(self) -> None:
        self.nodes = Nodes()
        self.alarms = 0
        self.now = 1000.0
        self.changes = 0
        self.detector = Detector(self.nodes, wake=self._alarm, changed=self._change, clock=lambda: self.now)

    def _alarm(self) -> None:
        self.alarms += 1

    def _change(self) -> None:
        self.changes += 1

    def asked(self) -> tuple[NodeId, Callable[[Mood], None]]:
        """Who is asked for its mood at the next glance."""
        self.detector.glance()
        [(node_id, told)] = [(i, c.told) for i, c in self.nodes.connections.items() if c.told is not None]
        self.nodes.connections[node_id].told = None
        return node_id, told

    async def follow(self, snap: Cluster | Snapshot) -> None:
        self.detector.follow(snap.snapshot() if isinstance(snap, Cluster) else snap, "secret")
        for _ in range(5):
            await asyncio.sleep(0)

    def ends(self, node_id: NodeId, ending: Ending = Ending.CLOSED) -> None:
        self.nodes.connections[node_id].ended(ending)


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_each_node_that_answers_gets_one_connection(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 2).with_node(0, 2, answers=False))
        await stage.follow(formed(1, 2).with_node(0, 2, answers=False))
        assert stage.nodes.opened == [("10.0.0.0", PRIMARY), ("10.0.0.1", REPLICA)]
        assert not stage.detector.lost()


async def test_an_end_sounds_the_alarm_and_is_told_with_its_age(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 1))
        stage.ends(PRIMARY, Ending.TIMED_OUT)
        assert stage.alarms == 1
        assert stage.detector.alarm.is_set()
        stage.now += 2.5
        [(node_id, lost)] = stage.detector.lost().items()
        assert (node_id, lost.pod, lost.uid, lost.ip) == (PRIMARY, "cart-0-0", "uid-cart-0-0", "10.0.0.0")
        assert (lost.ending, lost.seconds) == (Ending.TIMED_OUT, 2.5)


async def test_it_tells_which_connections_are_open(stage: Stage) -> None:
    async with stage.detector:
        assert not stage.detector.connected()
        stage.nodes.stuck.add(REPLICA)
        await stage.follow(formed(1, 1))
        assert stage.detector.connected() == {"uid-cart-0-0": PRIMARY}
        stage.ends(PRIMARY)
        assert not stage.detector.connected()


async def test_one_to_which_no_connection_could_be_opened_is_looked_at_again(stage: Stage) -> None:
    async with stage.detector:
        stage.nodes.refusing.add(PRIMARY)
        await stage.follow(formed(1, 1))
        assert stage.changes == 0
        stage.detector.glance()
        assert stage.changes == 1
        stage.nodes.refusing.clear()
        await stage.follow(formed(1, 1))
        stage.detector.glance()
        assert stage.changes == 1


async def test_a_node_that_does_not_answer_is_not_connected_to(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 1))
        stage.ends(PRIMARY)
        await stage.follow(formed(1, 1).with_node(0, 0, answers=False))
        assert len(stage.nodes.opened) == 2
        assert PRIMARY in stage.detector.lost()


async def test_an_end_is_forgotten_once_the_node_is_connected_again(stage: Stage) -> None:
    """CLIENT KILL."""
    async with stage.detector:
        await stage.follow(formed(1, 1))
        stage.ends(PRIMARY)
        await stage.follow(formed(1, 1))
        assert not stage.detector.lost()
        assert len(stage.nodes.opened) == 3


async def test_s1_an_answer_from_before_the_end_does_not_make_it_forgotten(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 1))
        stage.ends(PRIMARY)
        stage.nodes.refusing.add(PRIMARY)
        await stage.follow(formed(1, 1))
        assert PRIMARY in stage.detector.lost()


async def test_an_end_that_comes_while_the_connection_is_being_handed_over_counts(stage: Stage) -> None:
    async with stage.detector:
        stage.nodes.dying.add(PRIMARY)
        await stage.follow(formed(1, 0))
        assert PRIMARY in stage.detector.lost()


async def test_an_end_says_nothing_after_a_long_time(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 1))
        stage.ends(PRIMARY)
        stage.now += REMEMBERED_SECONDS
        assert not stage.detector.lost()


async def test_a_process_that_outlives_its_pod_stays_connected(stage: Stage) -> None:
    """Force deletion takes the object before the kubelet has ended the process."""
    async with stage.detector:
        await stage.follow(formed(1, 1))
        snap = formed(1, 1).snapshot()
        await stage.follow(replace(snap, pods=snap.pods[1:]))
        assert not stage.nodes.connections[PRIMARY].closed
        stage.ends(PRIMARY)
        assert PRIMARY in stage.detector.lost()


async def test_a_node_that_comes_back_in_another_pod_is_connected_anew(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 1))
        before = stage.nodes.connections[PRIMARY]
        snap = formed(1, 1).snapshot()
        await stage.follow(replace(snap, pods=(replace(snap.pods[0], uid="uid-new"), *snap.pods[1:])))
        assert before.closed
        assert not stage.nodes.connections[PRIMARY].closed


async def test_nodes_are_asked_in_turn_whether_others_lead(stage: Stage) -> None:
    async with stage.detector:
        stage.detector.glance()
        await stage.follow(formed(1, 1))
        assert [stage.asked()[0] for _ in range(3)] == [PRIMARY, REPLICA, PRIMARY]


async def test_an_election_wakes_once_and_sounds_no_alarm(stage: Stage) -> None:
    cluster = formed(1, 1)
    views = [v for v in cluster.snapshot().views.values() if isinstance(v, NodeView)]
    async with stage.detector:
        await stage.follow(cluster)
        moods = {v.node_id: Mood(v.current_epoch, v.cluster_state_ok) for v in views}
        for _ in range(2):
            node_id, told = stage.asked()
            told(moods[node_id])
        assert stage.changes == 0
        for _ in range(4):
            node_id, told = stage.asked()
            told(replace(moods[node_id], epoch=moods[node_id].epoch + 1))
        assert (stage.changes, stage.alarms) == (2, 0), "once for each node that has heard of it"
        await stage.follow(cluster)
        node_id, told = stage.asked()
        told(replace(moods[node_id], ok=not moods[node_id].ok))
        told(replace(moods[node_id], unwritten=Unwritten.LOG))
        assert stage.changes == 4


async def test_whoever_was_not_looked_at_has_no_other_mood_than_before(stage: Stage) -> None:
    async with stage.detector:
        await stage.follow(formed(1, 0))
        await stage.follow(formed(1, 0).with_node(0, 0, answers=False))
        _, told = stage.asked()
        told(Mood(epoch=99, ok=False))
        assert stage.changes == 0


async def test_nothing_is_left_at_the_end(stage: Stage) -> None:
    stage.nodes.stuck.add(REPLICA)
    async with stage.detector:
        await stage.follow(formed(1, 1))
    assert stage.nodes.connections[PRIMARY].closed
    assert stage.nodes.given_up == 1
