"""Who owns which slots, put together from what everybody says."""

from dataclasses import replace

from cachecluster.domain.actions import Forget
from cachecluster.domain.planner import plan
from cachecluster.domain.slots import ALL_SLOTS
from cachecluster.domain.topology import observe
from tests.unit.domain.building import formed, gone


def test_who_answers_owns_what_a_table_gives_to_a_node_that_is_gone_by_the_same_epoch() -> None:
    """A node that met another one at that one's address has taken the epoch of its first header for the former's."""
    cluster = formed(1, 1)
    leader = cluster.nodes[0]
    ghost = gone("id-0-0", ALL_SLOTS, epoch=leader.epoch)  # sorts before the leader's id
    snap = replace(cluster, ghosts=(ghost,)).snapshot()
    assert dict(observe(snap).owners) == {leader.node_id: ALL_SLOTS}
    [forget] = [s.action for s in plan(snap).steps if isinstance(s.action, Forget)]
    assert forget.node_id == ghost.node_id
