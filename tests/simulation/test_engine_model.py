"""The engine model by itself: what engine-facts say that real nodes do."""

from collections.abc import Iterator

import pytest

from cachecluster.domain import durability
from cachecluster.domain.actions import FailoverKind
from cachecluster.domain.slots import ALL_SLOTS, NO_SLOTS, share
from tests.simulation.clock import Clock, VirtualLoop
from tests.simulation.engine import commands, replication
from tests.simulation.engine.disk import Disk
from tests.simulation.engine.network import Network, Noise, Port
from tests.simulation.engine.node import Config, Node
from tests.simulation.engine.table import Address


class Lab:
    """A few nodes on a network of their own."""

    def __init__(self, version: tuple[int, int] = (8, 1), seed: int = 1) -> None:
        self.loop = VirtualLoop()
        self.clock = Clock(self.loop, seed)
        self.network = Network(self.clock)
        self.config = Config(version=version)
        self.started = 0

    def start(self, ip: str, disk: Disk | None = None) -> Node:
        self.started += 1
        chance = self.clock.chance(f"node {self.started}")
        return Node(self.network, Address(ip, 6379, 16379), disk or Disk(), self.config, chance)

    def wait(self, seconds: float) -> None:
        self.loop.call_later(seconds, self.loop.stop)
        self.loop.run_forever()

    def form(self, shards: int, replicas: int) -> list[list[Node]]:
        nodes = [[self.start(f"10.0.{s}.{r}") for r in range(replicas + 1)] for s in range(shards)]
        everybody = [n for shard in nodes for n in shard]
        for epoch, node in enumerate(everybody, 1):
            commands.set_config_epoch(node, epoch)
        for node in everybody:
            for other in everybody:
                if other is not node:
                    commands.meet(node, other.address)
        for shard, slots in zip(nodes, share(shards), strict=True):
            commands.add_slots(shard[0], slots)
        self.wait(2)
        for shard in nodes:
            for replica in shard[1:]:
                commands.replicate(replica, shard[0].node_id)
        self.wait(5)
        return nodes


@pytest.fixture(params=[(8, 0), (8, 1), (9, 1)], ids=str)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab(request.param)
    yield lab
    lab.loop.close()


def test_full_mesh_forms_one_cluster(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    ids = {n.node_id for shard in nodes for n in shard}
    for shard in nodes:
        for node in shard:
            assert set(node.rows) == ids
            assert node.state_ok
            assert all(r.link is not None for r in node.rows.values() if r is not node.me)
        assert shard[1].repl.up
    assert len({n[0].me.config_epoch for n in nodes}) == 3


def test_star_meet_spreads_by_gossip(lab: Lab) -> None:
    nodes = [lab.start(f"10.0.0.{i}") for i in range(6)]
    for other in nodes[1:]:
        commands.meet(nodes[0], other.address)
    lab.wait(10)
    assert all({r.node_id for r in n.rows.values()} == {m.node_id for m in nodes} for n in nodes)
    assert len({n.me.config_epoch for n in nodes}) == 6


def test_native_failover_within_seconds(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    primary, replica = nodes[0]
    assert primary.write(0, "t1") is None
    primary.stop(orderly=False)
    lab.wait(20)
    assert replica.me.primary
    assert replica.tokens == {0: ("t1",)}
    assert all(n.rows[replica.node_id].slots == share(3)[0] for s in nodes[1:] for n in s)


def test_empty_primary_wipes_its_replica(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    primary, replica = nodes[0]
    assert primary.write(0, "t1") is None
    lab.wait(1)
    primary.stop(orderly=False)
    again = lab.start(primary.ip, primary.disk)
    assert again.node_id == primary.node_id
    lab.wait(10)
    assert replica.tokens == {}


def test_single_shard_is_never_elected_natively(lab: Lab) -> None:
    ((primary, replica),) = lab.form(1, 1)
    primary.stop(orderly=False)
    lab.wait(60)
    assert not replica.me.primary
    commands.failover(replica, FailoverKind.FORCE)
    lab.wait(6)
    assert not replica.me.primary
    commands.failover(replica, FailoverKind.TAKEOVER)
    assert replica.me.slots == ALL_SLOTS


def test_force_with_a_quorum_is_quick(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    nodes[0][0].stop(orderly=False)
    commands.failover(nodes[0][1], FailoverKind.FORCE)
    lab.wait(0.3)
    assert nodes[0][1].me.primary


def test_graceful_failover_loses_nothing(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    primary, replica = nodes[0]
    for i in range(5):
        assert primary.write(i, f"t{i}") is None
    commands.failover(replica, FailoverKind.GRACEFUL)
    lab.wait(3)
    assert replica.me.primary
    assert not primary.me.primary
    assert primary.repl.up
    assert primary.tokens == replica.tokens == {i: (f"t{i}",) for i in range(5)}


def test_old_primary_returns_as_replica(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    primary, replica = nodes[0]
    primary.stop(orderly=False)
    lab.wait(20)
    again = lab.start("10.9.9.9", primary.disk)
    lab.wait(20)
    assert replica.me.primary
    assert again.me.primary_id == replica.node_id
    assert again.repl.up
    assert all(n.rows[again.node_id].address.ip == "10.9.9.9" for s in nodes[1:] for n in s)


def test_forget_lasts_a_minute(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    gone = nodes[2][1]
    gone.stop(orderly=False)
    others = [n for s in nodes for n in s if n is not gone]
    for node in others:
        commands.forget(node, gone.node_id)
    lab.wait(90)
    assert all(gone.node_id not in n.rows for n in others)


def test_all_addresses_change_heals_by_full_mesh(lab: Lab) -> None:
    nodes = [n for s in lab.form(3, 1) for n in s]
    for node in nodes:
        node.stop(orderly=False)
    again = [lab.start(f"10.8.0.{i}", n.disk) for i, n in enumerate(nodes)]
    lab.wait(20)
    assert not any(n.state_ok for n in again)
    for node in again:
        for other in again:
            if other is not node:
                commands.meet(node, other.address)
    lab.wait(15)
    assert all(n.state_ok for n in again)
    assert all(n.repl.up for n in again if not n.me.primary)


@pytest.mark.parametrize("seconds", [1, 30])
def test_partitioned_primary_is_replaced_and_steps_down(lab: Lab, seconds: int) -> None:
    nodes = lab.form(3, 1)
    everybody = {n.ip for s in nodes for n in s}
    lab.network.isolate(nodes[0][0].ip, everybody)
    lab.wait(seconds)
    lab.network.heal()
    lab.wait(30)
    assert [n.me.primary for n in nodes[0]] == ([True, False] if seconds == 1 else [False, True])
    assert all(n.repl.up for s in nodes for n in s if not n.me.primary)


def test_a_primary_without_its_bus_is_replaced_while_its_replica_follows(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    primary, replica = nodes[0]
    lab.network.isolate(primary.ip, {n.ip for s in nodes for n in s}, (Port.BUS,))
    lab.wait(4)
    assert replica.repl.up
    assert primary.write(0, "copied") is None
    lab.wait(16)
    assert replica.me.primary
    assert not primary.state_ok
    lab.network.heal()
    lab.wait(30)
    assert [n.me.primary for n in nodes[0]] == [False, True]


def test_a_primary_whose_client_port_is_closed_is_not_replaced(lab: Lab) -> None:
    nodes = lab.form(3, 1)
    primary, replica = nodes[0]
    lab.network.isolate(primary.ip, {n.ip for s in nodes for n in s}, (Port.CLIENT,))
    lab.wait(90)
    assert primary.me.primary
    assert primary.state_ok
    assert not replica.repl.up
    lab.network.heal()
    lab.wait(10)
    assert replica.repl.up


@pytest.mark.parametrize("noise", [Noise(lost=0.05), Noise(repeated=0.5), Noise(late=0.05)], ids=str)
def test_heartbeats_that_are_lost_repeated_or_late_elect_nobody(lab: Lab, noise: Noise) -> None:
    nodes = lab.form(3, 1)
    lab.network.noise = noise
    lab.wait(60)
    assert all(shard[0].me.primary and shard[0].state_ok for shard in nodes)
    assert all(shard[1].repl.up for shard in nodes)


@pytest.mark.parametrize("seconds", [0.0, 20.0])
def test_a_primary_that_is_cut_off_stops_later_by_as_much_as_its_clock_is_set_back(lab: Lab, seconds: float) -> None:
    nodes = lab.form(3, 1)
    primary = nodes[0][0]
    lab.network.isolate(primary.ip, {n.ip for s in nodes for n in s})
    lab.wait(1)
    primary.ahead = -seconds
    lab.wait(3 + seconds)
    assert primary.state_ok
    lab.wait(5)
    assert not primary.state_ok


def test_refusals(lab: Lab) -> None:
    nodes = lab.form(2, 1)
    primary, replica = nodes[0]
    with pytest.raises(commands.Refused, match="does not know any other node"):
        commands.set_config_epoch(primary, 9)
    with pytest.raises(commands.Refused, match="already busy"):
        commands.add_slots(nodes[1][0], share(2)[0])
    with pytest.raises(commands.Refused, match="must be empty"):
        commands.replicate(primary, nodes[1][0].node_id)
    with pytest.raises(commands.Refused, match="only replicate a master"):
        commands.replicate(nodes[1][1], replica.node_id)
    with pytest.raises(commands.Refused, match="forget my master"):
        commands.forget(replica, primary.node_id)
    with pytest.raises(commands.Refused, match="to a replica"):
        commands.failover(primary, FailoverKind.FORCE)
    assert replica.me.slots == NO_SLOTS


def _seconds_until(lab: Lab, node: Node, *, refused: bool) -> float:
    """Until the node refuses writes for want of a replica, or takes them again."""
    for step in range(100):
        if (node.write(0, f"after {step} {refused}") == replication.NO_REPLICAS) is refused:
            return step / 10
        lab.wait(0.1)
    raise AssertionError(f"{node.ip} goes on to {'take' if refused else 'refuse'} writes")


def test_a_primary_that_asks_for_a_replica_refuses_writes_soon_after_the_last_one_falls_silent(lab: Lab) -> None:
    """2.9 to 4.3 s, and 1.0 to 1.2 s back (engine-facts §2)."""
    (nodes,) = lab.form(1, 2)
    primary = nodes[0]
    commands.configure(primary, ((durability.MAX_LAG, "3"), (durability.TO_WRITE, "1")))
    lab.network.isolate(nodes[1].ip, {primary.ip})
    lab.wait(10)
    assert primary.write(0, "one is enough") is None
    lab.network.isolate(nodes[2].ip, {primary.ip})
    assert 2 <= _seconds_until(lab, primary, refused=True) <= 5
    lab.network.heal()
    assert _seconds_until(lab, primary, refused=False) <= 2


def test_who_is_promoted_asks_for_a_replica_of_its_own(lab: Lab) -> None:
    (nodes,) = lab.form(1, 2)
    for node in nodes:
        commands.configure(node, ((durability.MAX_LAG, "3"), (durability.TO_WRITE, "1")))
    nodes[0].stop(orderly=False)
    commands.failover(nodes[1], FailoverKind.TAKEOVER)
    assert nodes[1].write(0, "alone") == replication.NO_REPLICAS
    lab.wait(3)
    assert nodes[1].write(0, "followed") is None
