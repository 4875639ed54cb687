"""Edits of parameters that need no restart: in force on every node, no pod touched, what is taken back is set back."""

from collections.abc import Iterator

import pytest

from cachecluster.api import names
from cachecluster.api.reasons import Reason
from cachecluster.domain.memory import MAXMEMORY_PERCENT
from tests.simulation.conftest import Seeds
from tests.simulation.engine import commands
from tests.simulation.kubernetes.kubelet import REFRESH_SECONDS
from tests.simulation.kubernetes.startup import LARGEST_PAGE
from tests.simulation.kubernetes.store import Key
from tests.simulation.operating.faults import Faults
from tests.simulation.schedules import VERSIONS, random_faults, random_shape, spec
from tests.simulation.test_faults import PERSISTENT, Running
from tests.simulation.world import NAMESPACE, World

CHOICES: dict[str, tuple[str | int, ...]] = {
    "maxmemory-policy": ("allkeys-lru", "volatile-ttl"),
    "hz": (50, "0100"),
    "timeout": (30,),
    "slowlog-max-len": (64,),
    "client-output-buffer-limit": ("replica 512mb 128mb 60",),
    "repl-backlog-size": ("64mb", "67108864"),
    "notify-keyspace-events": ("KEA", ""),
}
REFUSED = {"locale-collate": "no_WHERE"}


@pytest.fixture(params=range(2))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as world:
        yield world


def set_parameters(running: Running, **parameters: str | int) -> None:
    """The user's new parameters, in place of those before."""
    given = {name.replace("_", "-"): value for name, value in parameters.items()}
    running.world.edit(running.ref, lambda s: s.update(parameters=given))


def values(running: Running, name: str) -> set[str]:
    """What the nodes have."""
    return {b.node.parameters[name] for b in running.world.boxes("cart") if b.node is not None}


def live_conf(world: World) -> str:
    """What a node that starts now would read."""
    body = world.store.get(Key("ConfigMap", NAMESPACE, names.live_config_map("cart", "8.1")))
    assert body is not None
    return str(body["data"]["live.conf"])


@pytest.mark.parametrize("mode", [None, *PERSISTENT])
def test_an_edit_takes_effect_on_every_node_without_a_restart(world: World, mode: str | None) -> None:
    running = Running(world, (2, 1), persistence=PERSISTENT[mode]) if mode else Running(world)
    before = running.pods()
    set_parameters(running, maxmemory_policy="allkeys-lru", hz=50)
    running.recovers(30)
    assert running.pods() == before
    assert (values(running, "maxmemory-policy"), values(running, "hz")) == ({"allkeys-lru"}, {"50"})
    assert {"maxmemory-policy allkeys-lru", "hz 50"} <= set(live_conf(world).splitlines())
    status = world.cluster(running.ref)["status"]
    assert status["pendingModifications"] == []
    set_parameters(running)
    running.recovers(30)
    assert running.pods() == before
    assert (values(running, "maxmemory-policy"), values(running, "hz")) == ({"noeviction"}, {"10"})
    assert world.cluster(running.ref)["status"]["effective"] != status["effective"]


@pytest.mark.parametrize("edited", ["maxmemory 100gb\n", "maxmemory 0\n", ""])
def test_nobody_else_decides_how_much_memory_a_starting_node_fills(world: World, edited: str) -> None:
    running = Running(world)
    box, most = world.primary(0), 256 * 2**20 * MAXMEMORY_PERCENT // 100
    began: list[str] = []
    world.kubelets.on_node.append(lambda _, node: began.append(node.parameters["maxmemory"]))
    world.stop_operators()
    body = world.server.read("ConfigMap", NAMESPACE, names.live_config_map("cart", "8.1"))
    world.store.update({**body, "data": {"live.conf": edited}})
    world.wait(REFRESH_SECONDS + 1)
    world.kubelets.kill(box)
    world.until(lambda: bool(began), "the container has started again", 60)
    assert 0 < int(began[0]) <= most + LARGEST_PAGE
    world.start_operator(running.ref)
    running.recovers()
    assert values(running, "maxmemory") == {str(most)}
    assert f"maxmemory {most}" in live_conf(world)


def test_a_restarted_node_has_the_parameters_from_its_start_on_or_soon(world: World) -> None:
    running = Running(world)
    set_parameters(running, hz=50)
    running.recovers(30)
    world.kubelets.kill(world.primary(0))  # the container in it still has the file of before
    running.recovers()
    world.store.delete(world.primary(1).key)
    running.recovers()
    assert values(running, "hz") == {"50"}


def test_what_somebody_sets_by_hand_is_set_back_and_reported(world: World) -> None:
    running = Running(world)
    set_parameters(running, hz=50)
    running.recovers(30)
    victim = world.primary(2)
    assert victim.node is not None
    commands.configure(victim.node, (("hz", "500"),))
    world.wake_all()
    running.recovers(30)
    assert values(running, "hz") == {"50"}
    repairs = [m for _, r, m in world.recorder.events if r is Reason.REPAIRING_DRIFT and "hz" in m]
    assert repairs == [f"{victim.key.name} differs from the spec: setting hz to 50"]


def test_s11_a_refused_value_stalls_nothing_else_and_the_way_back_works(world: World) -> None:
    running = Running(world)
    before = running.pods()
    set_parameters(running, **REFUSED, hz=50)
    world.wait(20)
    assert world.condition(running.ref, "Stalled") == "True"
    assert world.condition(running.ref, "Ready") == "True"
    assert values(running, "hz") == {"10"}, "all or nothing"
    assert "WHERE" not in live_conf(world)
    writes = world.leader["cart"].way.writes
    world.wait(60)
    assert world.leader["cart"].way.writes == writes, "what was refused is not tried again and again"
    assert world.cluster(running.ref)["status"]["pendingModifications"] == [
        "parameters.hz",
        "parameters.locale-collate",
    ]
    refusals = [m for kind, r, m in world.recorder.events if r is Reason.PARAMETER_REFUSED and kind == "Warning"]
    assert len(refusals) == 1
    assert "Failed to configure it" in refusals[0]
    world.kubelets.kill(world.primary(0))  # and a node that restarts meanwhile does start
    world.wait(60)
    assert world.condition(running.ref, "Ready") == "True"
    world.edit(running.ref, lambda s: s.update(image="valkey/valkey:8.1.9"))  # nor is a roll held up
    world.wait(120)
    assert not before.items() & running.pods().items()
    set_parameters(running, hz=50)
    running.recovers(60)
    assert values(running, "hz") == {"50"}
    assert world.condition(running.ref, "Stalled") == "False"


def test_a_refused_value_at_creation_is_corrected(world: World) -> None:
    ref = world.create(spec(parameters=REFUSED))
    world.wait(60)
    assert world.condition(ref, "Ready") != "True"
    assert world.condition(ref, "Stalled") == "True"
    world.edit(ref, lambda s: s.pop("parameters"))
    world.converge(ref, 400)


def test_s1_a_node_that_does_not_answer_keeps_back_the_file_but_not_the_others(world: World) -> None:
    running = Running(world)
    silent = world.primary(0)
    assert silent.node is not None
    world.network.cut("operator", silent.node.ip)
    world.wait(5)
    set_parameters(running, hz=50)
    world.wait(20)
    assert values(running, "hz") == {"50", "10"}
    assert "hz 50" not in live_conf(world)
    world.network.heal()
    running.recovers(60)
    assert values(running, "hz") == {"50"}


@pytest.mark.parametrize("crash", [0.05, 0.3])
def test_taken_back_in_the_middle_under_crashes(world: World, crash: float) -> None:
    running = Running(world)
    before = running.pods()
    world.disturb(Faults(crash=crash, lost_reply=0.2, stale_list=0.3, conflict=0.1))
    for parameters in ({"hz": 50}, {"timeout": 30}, {}, {"hz": 70, "timeout": 5}, {}):
        set_parameters(running, **parameters)
        world.wait(world.chance.choice((0.05, 0.3, 2.0)))
    world.calm()
    world.wait(5)
    running.recovers(400)  # after a stale list, at the next resync
    assert running.pods() == before
    assert (values(running, "hz"), values(running, "timeout")) == ({"10"}, {"0"})


def test_an_upgrade_takes_the_parameters_along(world: World) -> None:
    running = Running(world, (2, 1))
    set_parameters(running, hz=50, slowlog_max_len=64)
    running.recovers(30)
    world.edit(running.ref, lambda s: s.update(version="9.1", parameters={"slowlog-max-len": 64, "io-threads": 2}))
    running.recovers(400)
    assert values(running, "hz") == {"10"}
    assert values(running, "commandlog-slow-execution-max-len") == {"64"}
    assert values(running, "io-threads") == {"2"}
    assert world.store.get(Key("ConfigMap", NAMESPACE, names.live_config_map("cart", "8.1"))) is None


@pytest.mark.parametrize("delay", [0.01, 0.03, 0.1, 5])
def test_the_config_map_is_deleted_around_an_edit(world: World, delay: float) -> None:
    running = Running(world)
    before = running.pods()
    set_parameters(running, hz=50, timeout=5)
    world.wait(delay)
    world.store.delete(Key("ConfigMap", NAMESPACE, names.live_config_map("cart", "8.1")))
    set_parameters(running, timeout=5)
    running.recovers(60)
    assert running.pods() == before
    assert (values(running, "hz"), values(running, "timeout")) == ({"10"}, {"5"})
    assert live_conf(world) == f"maxmemory {256 * 2**20 * 60 // 100}\ntimeout 5\n"


@pytest.mark.share(0.2)
def test_any_schedule_of_edits_converges(seeds: Seeds) -> None:
    for seed in seeds:
        with World(f"configuration {seed}") as world:
            chance = world.clock.chance("edits")
            running = Running(world, random_shape(chance, replicas=True), version=chance.choice(VERSIONS))
            before = running.pods()
            world.disturb(random_faults(chance))
            for _ in range(chance.randrange(1, 6)):
                picked = chance.sample(sorted(CHOICES), chance.randrange(0, 4))
                set_parameters(running, **{name: chance.choice(CHOICES[name]) for name in picked})
                world.wait(chance.choice((0.02, 0.2, 1.0, 4.0)))
            world.calm()
            world.wait(5)  # a status whose write was lost is written again
            running.recovers(400)
            assert running.pods() == before
