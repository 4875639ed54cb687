"""Rights of the engine's users on running nodes: what their file says reaches a node only when it starts (ADR 0016)."""

from collections.abc import Iterator
from typing import Final

from cachecluster.api.reasons import Reason
from cachecluster.api.spec import EngineVersion
from cachecluster.domain.access import differing
from cachecluster.domain.actions import SetUsers
from cachecluster.domain.listing import listed
from cachecluster.domain.plan import Block, Do, Verdict
from cachecluster.domain.policies.situation import Situation
from cachecluster.domain.topology import Member

REFUSED_ADVICE: Final = (
    "An image of another release than spec.version may know other commands: correct spec.image. Until then the nodes "
    "keep the rights that they have"
)


def keep_rights(now: Situation) -> Iterator[Verdict]:
    """Every node that answers has the rights that this operator gives: a new version of it may need another one, and a
    node may have started while somebody had edited the file. Those that do not answer are waited for (S1).
    """
    for (version, users), members in _lacking(now).items():
        action = SetUsers(tuple(m.target for m in members), users, version, now.spec.auth_mode)
        pods, who = listed([m.pod.name for m in members]), ", ".join(users)
        refusal = now.snap.refusals.get(action.asked)
        if refusal is None:
            yield Do(action, Reason.SETTING_RIGHTS, f"{pods}: setting the rights of {who}")
        else:
            message = f"the rights of {who} cannot be set on {pods}: {refusal}. {REFUSED_ADVICE}"
            yield Block(Reason.RIGHTS_REFUSED, message)


def _lacking(now: Situation) -> dict[tuple[EngineVersion, tuple[str, ...]], list[Member]]:
    """Nodes with other rights, by their family and the users whose rights differ."""
    found: dict[tuple[EngineVersion, tuple[str, ...]], list[Member]] = {}
    for member in now.topology.members:
        if member.node is None or member.pod.deleting:
            continue
        wanted = now.snap.users.get(member.node.family, {})
        if users := differing(wanted, member.node.users, member.pod.shard):
            found.setdefault((EngineVersion(member.node.family), users), []).append(member)
    return found


POLICIES: Final = (keep_rights,)
