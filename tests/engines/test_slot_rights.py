"""The rights with which slots move: they suffice, and with any one of them less nothing moves."""

import pytest

from cachecluster.api import names
from cachecluster.domain.slots import SlotSet
from cachecluster.engines.client import Login, NodeDenied, NodeError, NodeRefused, SlotState
from tests.engines.fleet import PASSWORDS, Nodes, as_operator
from tests.engines.moving import keys_of

USER = names.user_of(names.USER_REPLICATION, 1)
"""The destination's own."""
LOGIN = Login(USER, PASSWORDS.replication)
SLOT = SlotSet.of([0])


async def test_only_the_rights_to_hand_keys_over_and_to_take_them_in_are_needed(fleet: Nodes) -> None:
    """Each right is taken away, tried without, and given back. Full rights of @write (9.1) are left out of it."""
    (source, giver), (destination, taker) = await fleet.form(2, ())
    await as_operator(destination, "ACL", "SETUSER", USER, "-@write", "+restore-asking", "resetkeys")
    await as_operator(destination, "ACL", "SETUSER", USER, "%W~*")
    for key, value in keys_of(SLOT, 5).items():
        await source.client().set(key, value)
    await taker.set_slots(SLOT, SlotState.IMPORTING, await giver.node_id())
    await giver.set_slots(SLOT, SlotState.MIGRATING, await taker.node_id())

    async def attempt() -> None:
        """Over a new connection between the nodes: an open one has chosen its database already."""
        await as_operator(destination, "CLIENT", "KILL", "USER", USER)
        await giver.migrate(destination.address, (await giver.keys_in_slots({0: 1}))[0], LOGIN)

    async def without(node: str, user: str, *less: str, error: type[NodeError], text: str, again: str) -> None:
        await as_operator(fleet.cluster[node], "ACL", "SETUSER", user, *less)
        with pytest.raises(error, match=text):
            await attempt()
        await as_operator(fleet.cluster[node], "ACL", "SETUSER", user, again)
        await attempt()

    await attempt()
    await without("n0", names.USER_OPERATOR, "-migrate", error=NodeDenied, text="not accepted", again="+migrate")
    await without("n1", USER, "-restore-asking", error=NodeRefused, text="NOPERM", again="+restore-asking")
    await without("n1", USER, "-select", error=NodeRefused, text="NOPERM", again="+select")
    await without("n1", USER, "resetkeys", error=NodeRefused, text="NOPERM", again="%W~*")
    assert not (await giver.keys_in_slots({0: 1}))[0]


async def test_who_brings_keys_can_neither_read_nor_delete_one(fleet: Nodes) -> None:
    node = await fleet.start("one", 1)
    for command in (("GET", "k"), ("KEYS", "*"), ("FLUSHALL",), ("CONFIG", "GET", "*"), ("CLUSTER", "NODES")):
        answer = await as_operator(node, "ACL", "DRYRUN", USER, *command)
        # The engine's own migration (9.1) asks for all of @write.
        assert answer != b"OK" or (fleet.cluster.binary.family, *command) == ("9.1", "FLUSHALL")
    assert await as_operator(node, "ACL", "DRYRUN", USER, "RESTORE-ASKING", "k", "0", "v") == b"OK"


async def test_s12_a_wrong_password_is_refused_without_being_told(fleet: Nodes) -> None:
    (source, giver), (destination, taker) = await fleet.form(2, ())
    (key,) = keys_of(SLOT, 1)
    await source.client().set(key, b"v")
    await taker.set_slots(SLOT, SlotState.IMPORTING, await giver.node_id())
    await giver.set_slots(SLOT, SlotState.MIGRATING, await taker.node_id())
    with pytest.raises(NodeRefused, match="WRONGPASS") as caught:
        await giver.migrate(destination.address, [key], Login(USER, "wrong-secret"))
    assert "wrong-secret" not in f"{caught.value!r} {caught.value.__cause__!r}"
    assert "secret" not in repr(LOGIN)
    assert (await giver.keys_in_slots({0: 9}))[0] == [key]
