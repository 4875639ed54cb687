"""Actions on engine nodes. Each looks at the node once more before it changes anything; doubt means no action."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final, TypeVar

from cachecluster.api import names
from cachecluster.api.reasons import FailoverCause
from cachecluster.domain import fence
from cachecluster.domain.access import differing
from cachecluster.domain.actions import (
    AssignSlots,
    Configure,
    FailoverKind,
    Forget,
    Meet,
    Promote,
    Release,
    Replicate,
    Reset,
    RewriteLog,
    SetUsers,
    SwitchOver,
    Target,
)
from cachecluster.domain.live_parameters import lacking
from cachecluster.domain.loss import Lost, has_expired, has_fallen_silent
from cachecluster.domain.memory import PARAMETER, pod_allowance
from cachecluster.domain.nodes import NodeId, NodeView, ReplicaLink, Role
from cachecluster.domain.plan import Promotion
from cachecluster.domain.slots import NO_SLOTS
from cachecluster.engines.client import NodeClient, NodeError, NodeRefused
from cachecluster.kube.api import Conflict, KubeError, NotFound
from cachecluster.manifests import acl
from cachecluster.reconcile.context import Context, Doubt
from cachecluster.reconcile.hosts import is_out_of_service
from cachecluster.reconcile.pods import parse_pod

Answer = TypeVar("Answer")

ACTION_SECONDS: Final = 10.0
"""Bound on one action, connecting included."""
MEETING_SECONDS: Final = 2.0
POLL_SECONDS: Final = 0.03
ELECTION_SECONDS: Final = 1.0
"""An election that is won at all is won within a tenth of that (engine-facts §2)."""
LAST_LOOK_SECONDS: Final = 0.1
"""So long a primary that was lost is given to show that it lives: the pass has only just looked for it in vain."""


async def _until(question: Callable[[], Awaitable[Answer]], seconds: float) -> Answer:
    """Ask again and again until the answer is a true one or the time is up; the last answer."""
    deadline = asyncio.get_running_loop().time() + seconds
    while True:
        answer = await question()
        if answer or asyncio.get_running_loop().time() >= deadline:
            return answer
        await asyncio.sleep(POLL_SECONDS)


async def meet(action: Meet, context: Context) -> None:
    """SET-CONFIG-EPOCH where asked, then MEET, then wait until they know each other and say what they own
    (engine-facts §3).
    """
    async with asyncio.timeout(ACTION_SECONDS), AsyncExitStack() as stack:
        opened = await asyncio.gather(*(_open(stack, context, t) for t in action.nodes))
        clients = dict(opened)
        addresses = {t.node_id: t.ip for t in action.nodes}
        await asyncio.gather(*(_first_epoch(clients[i], epoch) for i, epoch in action.epochs if i in clients))
        await asyncio.gather(
            *(clients[a].meet(addresses[b], names.CACHE_PORT, context.bus_port) for a, b in action.pairs)
        )

        async def acquainted() -> bool:
            views = dict(zip(clients, await asyncio.gather(*(c.view() for c in clients.values())), strict=True))
            return all(_lists(views[a], b) and _lists(views[b], a) for a, b in action.pairs)

        if await _until(acquainted, MEETING_SECONDS):
            others: dict[NodeId, list[str]] = {i: [] for i in clients}
            for a, b in action.pairs:
                others[a].append(addresses[b])
                others[b].append(addresses[a])
            await asyncio.gather(*(_tell_slots(client, others[i], context) for i, client in clients.items()))


async def _tell_slots(client: NodeClient, ips: Sequence[str], context: Context) -> None:
    """An owner of slots meets once more who knows it by now: a handshake says nothing of slots, the next heartbeat may
    take seconds, and until then the others turn its clients away.
    """
    if (await client.view()).myself.slots:
        for ip in ips:
            await client.meet(ip, names.CACHE_PORT, context.bus_port)


async def _open(stack: AsyncExitStack, context: Context, target: Target) -> tuple[NodeId, NodeClient]:
    return target.node_id, await stack.enter_async_context(context.node(target))


async def _first_epoch(client: NodeClient, epoch: int) -> None:
    """Only a node that knows nobody and has no epoch accepts one."""
    view = await client.view()
    if len(view.peers) == 1 and view.myself.config_epoch == 0:
        await client.set_config_epoch(epoch)


def _lists(view: NodeView, node_id: NodeId) -> bool:
    row = view.peer(node_id)
    return row is not None and "handshake" not in row.flags


async def assign_slots(action: AssignSlots, context: Context) -> None:
    """ADDSLOTSRANGE for the slots that the node itself sees unowned (S2); then open it to applications and replicas.

    By the newest epoch: whoever comes back with data of before a loss must not take the slots away again, and who takes
    over from this one later needs a newer one (`first_epoch`).
    """
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        view = await client.view()
        if view.role is not Role.PRIMARY:
            raise Doubt(f"{action.node.pod} is a replica by now")
        taken = NO_SLOTS
        for peer in view.peers:
            taken |= peer.slots
        if taken & action.slots - view.myself.slots:
            raise Doubt(f"some of slots {action.slots} have an owner by now")
        missing = action.slots - view.myself.slots
        if action.first_epoch is not None:
            await _first_epoch(client, action.first_epoch)
        if missing:
            await client.bump_epoch()
            await client.add_slots(missing)
        if view.blank:
            await client.release(action.node.shard)


async def replicate(action: Replicate, context: Context) -> None:
    """CLUSTER REPLICATE, only on a node that loses nothing by it (S3); with a task, it is open."""
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        view = await client.view()
        if view.role is Role.PRIMARY and not view.blank:
            raise Doubt(f"{action.node.pod} holds data by now")
        if not _lists(view, action.primary.node_id):
            raise Doubt(f"{action.node.pod} does not know {action.primary.pod} yet")
        await client.replicate(action.primary.node_id)
        await client.release(action.node.shard)


async def forget(action: Forget, context: Context) -> None:
    """CLUSTER FORGET on every member within the engine's 60 s ban (engine-facts §3)."""
    async with asyncio.timeout(ACTION_SECONDS):
        await asyncio.gather(*(_forget_on(member, action.node_id, context) for member in action.members))


async def _forget_on(member: Target, node_id: NodeId, context: Context) -> None:
    async with context.node(member) as client:
        view = await client.view()
        row = view.peer(node_id)
        if row is None:
            return
        if row.connected and not row.suspected:
            raise Doubt(f"{member.pod} is linked to {node_id} again")
        if view.myself.primary_id == node_id:
            raise Doubt(f"{member.pod} follows {node_id}")
        await client.forget(node_id)


async def promote(action: Promote, context: Context) -> Promotion:
    """CLUSTER FAILOVER FORCE or TAKEOVER on a replica that still has lost its primary (S10).

    Not on one that is to go: what it would take in until then might be lost with it.
    """
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node, stays=True) as client:
        await asyncio.gather(
            _check_is_lost(action.lost, context),
            _check_machine_is_lost(action.lost, context),
            _check_host_is_gone(action.lost.host, context),
            _note_replaced(action.lost, context),
        )
        view = await client.view()
        if view.role is Role.PRIMARY:
            return Promotion(elected=True, takes_writes=view.takes_writes)
        if view.myself.primary_id != action.lost.node_id or view.link is None or not _is_over(action.lost, view.link):
            raise Doubt(f"{action.node.pod} is not what it was: it follows another primary or its link is back")
        context.require_leadership()
        await client.failover(action.kind)
        leader = await _until(lambda: _leader(client), ELECTION_SECONDS)
        if leader is None:
            raise Doubt(f"{action.node.pod} was not elected")
        return Promotion(elected=False, takes_writes=leader.takes_writes)


def _is_over(lost: Lost, link: ReplicaLink) -> bool:
    """Nothing more comes from the primary, and what came was complete. With older data it is kept from sending any."""
    if lost.cause is FailoverCause.OLDER_DATA:
        return not link.up and not link.sync_in_progress
    if lost.fence:
        return has_expired(link)
    return link.ever_synced and (not link.up or (lost.unheard and has_fallen_silent(link)))


async def _check_is_lost(lost: Lost, context: Context) -> None:
    """Raises Doubt if the primary answers after all."""
    if lost.address is None or context.passwords is None:
        return
    try:
        async with (
            asyncio.timeout(LAST_LOOK_SECONDS),
            context.deps.nodes.connect(lost.address, context.passwords.operator) as former,
        ):
            found = await former.node_id()
    except (NodeError, TimeoutError):
        return
    if found == lost.node_id:
        raise Doubt(f"the node at {lost.address} answers again")


async def _check_machine_is_lost(lost: Lost, context: Context) -> None:
    """Raises Doubt if the machine of a fenced primary answers, although its process does not: one that hangs goes by an
    old count of its replicas when it goes on.
    """
    if lost.fence and lost.address and await context.deps.nodes.has_machine(lost.address, LAST_LOOK_SECONDS):
        raise Doubt(f"the machine at {lost.address} answers again")


async def _check_host_is_gone(name: str | None, context: Context) -> None:
    """Raises Doubt if the Kubernetes node is there and in service, whatever the watch has said of it."""
    if name is None:
        return
    try:
        found = await context.deps.kube.get("v1", "Node", "", name)
    except NotFound:
        return
    if not is_out_of_service(found):
        raise Doubt(f"Kubernetes node {name} is there")


async def _note_replaced(lost: Lost, context: Context) -> None:
    """Write beside the old primary's fence that another is to lead, so that nobody lowers it who cannot ask that one.
    Raises Doubt if it has been crossed out since.
    """
    if not lost.fence:
        return
    try:
        pod = await context.deps.kube.get("v1", "Pod", context.ref.namespace, lost.pod or "")
    except NotFound as e:
        raise Doubt(f"{lost.pod} is gone, with what was written down of its fence") from e
    if pod["metadata"].get("annotations", {}).get(names.ANNOTATION_FENCE) != lost.fence:
        raise Doubt(f"the fence of {lost.pod} is not what it was")
    meta = {n: pod["metadata"].get(n) for n in ("uid", "resourceVersion")}
    note = {**meta, "annotations": {names.ANNOTATION_FENCE: fence.replaced(lost.fence)}}
    context.require_leadership()
    try:
        await context.deps.kube.merge_patch(
            "v1", "Pod", context.ref.namespace, pod["metadata"]["name"], {"metadata": note}
        )
    except Conflict as e:
        raise Doubt(f"somebody has written on {lost.pod} meanwhile") from e


async def _leader(client: NodeClient) -> NodeView | None:
    """What it says, once it is a primary."""
    view = await client.view()
    return view if view.role is Role.PRIMARY else None


async def release(action: Release, context: Context) -> None:
    """Switch the users on again (S5)."""
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        await client.release(action.node.shard)


async def reset(action: Reset, context: Context) -> None:
    """CLUSTER RESET HARD on a node that has nothing left; as a replica it would drop its keys (engine-facts §3)."""
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        view = await client.view()
        if view.keys or view.myself.slots or view.loading:
            raise Doubt(f"{action.node.pod} has keys or slots")
        await client.reset()


async def configure(action: Configure, context: Context) -> None:
    """CONFIG SET on all nodes at once; raises what went wrong on one of them, a refusal first.

    What works on the others stays: each node is looked at again in the next pass.
    """
    await _on_each(action.nodes, lambda target: _configure(target, action, context))


async def _on_each(nodes: Sequence[Target], change: Callable[[Target], Awaitable[None]]) -> None:
    failures = await asyncio.gather(*(_failure(change(target)) for target in nodes))
    for failure in sorted((f for f in failures if f is not None), key=lambda f: not isinstance(f, NodeRefused)):
        raise failure


async def _failure(change: Awaitable[None]) -> Exception | None:
    try:
        async with asyncio.timeout(ACTION_SECONDS):
            await change
    except (NodeError, KubeError, Doubt, TimeoutError) as failure:
        return failure
    return None


async def _configure(target: Target, action: Configure, context: Context) -> None:
    async with context.node(target) as client:
        await _check_has_room(target, action, context)
        await client.configure(action.parameters)
        names_set = dict(action.parameters)
        odd = lacking(names_set, await client.view(names_set))
        if odd:
            raise NodeRefused(f"{target.ip}: it takes {', '.join(odd)} and shows another value")


async def _check_has_room(target: Target, action: Configure, context: Context) -> None:
    """A pod whose limit has come down since it was read must not be told to fill more than that; raises Doubt."""
    value = dict(action.parameters).get(PARAMETER)
    if value is None:
        return
    pod = parse_pod(await context.deps.kube.get("v1", "Pod", context.ref.namespace, target.pod))
    most = pod_allowance(pod) if pod is not None else None
    if most is not None and int(value) > most:
        raise Doubt(f"{target.pod} has a smaller memory limit by now")


async def rewrite_log(action: RewriteLog, context: Context) -> None:
    """BGREWRITEAOF; that it is done is seen later."""
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.node) as client:
        await client.rewrite_log()


async def set_users(action: SetUsers, context: Context) -> None:
    """ACL SETUSER on all nodes at once, by the same rules as ``configure``; raises Doubt without passwords."""
    passwords = context.known_passwords()
    wanted = acl.rights(action.version, action.auth, passwords)
    rules = acl.rules(action.version, action.auth, passwords)

    async def give(target: Target) -> None:
        async with context.node(target) as client:
            if (await client.view()).family != action.version:
                raise Doubt(f"{target.pod} runs another version by now")
            await client.set_users({names.user_of(user, target.shard): rules[user] for user in action.users})
            odd = set(action.users) & set(differing(wanted, (await client.view()).users, target.shard))
            if odd:
                raise NodeRefused(f"{target.ip}: it takes the rights of {', '.join(sorted(odd))} and shows others")

    await _on_each(action.nodes, give)


async def switch_over(action: SwitchOver, context: Context) -> None:
    """CLUSTER FAILOVER on a replica in step; it aborts by itself after 5 s, without harm (engine-facts §2)."""
    async with asyncio.timeout(ACTION_SECONDS), context.node(action.destination) as client:
        view = await client.view()
        if view.role is Role.PRIMARY:
            return
        if not view.keeps_up_with(action.source.node_id):
            raise Doubt(f"{action.destination.pod} is not in step with {action.source.pod}")
        await client.failover(FailoverKind.GRACEFUL)
        if await _until(lambda: _leader(client), 6.0) is None:
            raise Doubt(f"{action.destination.pod} did not take over within 6 s; it is tried again")
