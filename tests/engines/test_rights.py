"""Rights of users on running nodes: listed as they were written, and set again without closing a connection."""

import contextlib
from collections.abc import Mapping

import pytest
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError

from cachecluster.api import names
from cachecluster.api.spec import AuthMode, EngineVersion
from cachecluster.domain.access import differing
from cachecluster.engines.client import NodeClient, NodeRefused
from cachecluster.manifests import acl
from tests.engines.fleet import PASSWORDS, Nodes, as_operator, in_step, spec_version
from tests.engines.harness.node import NodeProcess
from tests.engines.pods import field_of

OTHERS = {
    names.USER_APPLICATION: ("-get", "resetchannels", "&news"),
    names.USER_OPERATOR: ("-migrate", "-dbsize"),
    names.user_of(names.USER_REPLICATION, 0): ("-select", "resetkeys"),
    names.USER_NODE: ("+get", "~*"),
}
"""What makes the rights of each user other ones."""


def rules_of(fleet: Nodes) -> Mapping[str, tuple[str, ...]]:
    """On a node of the first shard, as all are here."""
    rules = acl.rules(EngineVersion(spec_version(fleet.cluster.binary)), AuthMode.PASSWORD, PASSWORDS)
    return {names.user_of(user, 0): words for user, words in rules.items()}


async def odd_users(fleet: Nodes, client: NodeClient) -> tuple[str, ...]:
    """Users of a node whose rights are not those that the operator gives."""
    wanted = acl.rights(EngineVersion(spec_version(fleet.cluster.binary)), AuthMode.PASSWORD, PASSWORDS)
    return tuple(names.user_of(user, 0) for user in differing(wanted, (await client.view()).users, 0))


async def make_others(node: NodeProcess) -> None:
    for user, words in OTHERS.items():
        await as_operator(node, "ACL", "SETUSER", user, *words)


async def syncs_of(node: NodeProcess) -> list[str]:
    """How often a replica has come to it."""
    return [await field_of(node, "stats", name) for name in ("sync_full", "sync_partial_ok", "sync_partial_err")]


async def application(stack: contextlib.AsyncExitStack, node: NodeProcess) -> Redis:
    """One connection, which is not opened again if it is closed."""
    client = Redis(host=node.address, password=PASSWORDS.application, single_connection_client=True, protocol=2)
    return await stack.enter_async_context(client)


async def test_an_engine_lists_the_rights_as_they_were_written(fleet: Nodes) -> None:
    """Else they would be set again and again."""
    node = await fleet.start("one")
    client = await fleet.client(node)
    assert await odd_users(fleet, client) == ()
    assert all(rights.is_on for rights in (await client.view()).users.values())
    closed = await fleet.client(await fleet.start_quarantined("closed"))
    assert await odd_users(fleet, closed) == ()


async def test_rights_are_set_and_nobody_is_cut_off(fleet: Nodes) -> None:
    members = await fleet.form(1, (0,))
    (primary, leader), (_, replica) = members
    syncs = await syncs_of(primary)
    async with contextlib.AsyncExitStack() as stack:
        client = await application(stack, primary)
        identity = await client.client_id()
        listener = client.pubsub()
        await listener.subscribe("news")
        assert (await listener.get_message(timeout=5))["type"] == "subscribe"
        await make_others(primary)
        assert await odd_users(fleet, leader) == tuple(sorted(OTHERS))
        with pytest.raises(NoPermissionError):
            await client.get("k")

        await leader.set_users(rules_of(fleet))

        assert await odd_users(fleet, leader) == ()
        assert await client.get("k") is None
        assert await client.client_id() == identity
        await client.publish("news", "still here")
        assert (await listener.get_message(timeout=5))["data"] == b"still here"
        assert await in_step(replica)
        assert await syncs_of(primary) == syncs
        await listener.aclose()  # type: ignore[no-untyped-call]


async def test_s5_a_closed_node_stays_closed(fleet: Nodes) -> None:
    node = await fleet.start_quarantined("closed")
    client = await fleet.client(node)
    await make_others(node)
    await client.set_users(rules_of(fleet))
    assert await odd_users(fleet, client) == ()
    assert (await client.view()).quarantined
    await client.release(0)
    assert not (await client.view()).quarantined


async def test_s12_the_engine_hides_the_rules_and_a_refusal_does_not_quote_a_hash(fleet: Nodes) -> None:
    node = await fleet.start("one")
    client = await fleet.client(node)
    await as_operator(node, "ACL", "SETUSER", "auditor", "on", ">audit", "+@all")
    await as_operator(node, "CONFIG", "SET", "slowlog-log-slower-than", "0")
    rules = rules_of(fleet)
    await client.set_users(rules)
    with pytest.raises(NodeRefused, match="no-such-command") as caught:
        await client.set_users({names.USER_NODE: (*rules[names.USER_NODE], "+no-such-command")})
    async with Redis(host=node.address, username="auditor", password="audit", protocol=2) as auditor:
        logged = str(await auditor.execute_command("SLOWLOG", "GET", "100"))  # type: ignore[no-untyped-call]
    assert "b'SETUSER', b'(redacted)'" in logged
    hashes = [word[1:] for words in rules.values() for word in words if word.startswith("#")]
    assert len(hashes) == len(rules)
    assert not any(digest in f"{logged} {caught.value}" for digest in hashes)
    assert await odd_users(fleet, client) == (), "what is refused changes nothing"


async def test_acl_load_would_close_a_node_again_that_was_opened(fleet: Nodes) -> None:
    """It reads the file with which the node has started: why rights are set one by one."""
    node = await fleet.start_quarantined("closed")
    client = await fleet.client(node)
    await client.release(0)
    await as_operator(node, "ACL", "LOAD")
    assert (await client.view()).quarantined
