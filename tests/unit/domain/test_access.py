"""Rights of the engine's users: read in one form, compared, and set on the nodes that have others."""

from dataclasses import replace
from typing import Any

import pytest

from cachecluster.api import names
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason
from cachecluster.api.spec import AuthMode, EngineVersion
from cachecluster.domain.access import Rights, differing, read_users
from cachecluster.domain.actions import SetUsers
from cachecluster.domain.plan import Outcome
from cachecluster.domain.planner import plan
from cachecluster.domain.status import derive
from cachecluster.manifests import Passwords, acl
from tests.unit.domain.building import Cluster, formed
from tests.unit.domain.deciding import of_type

PASSWORDS = Passwords("application-pw", "operator-pw", "replication-pw", "node-pw")
WANTED = acl.rights(EngineVersion.V8_1, AuthMode.PASSWORD, PASSWORDS)
HASH = "#" + "0" * 64
OLDER = replace(WANTED[names.USER_OPERATOR], commands="-@all +@connection")


def listed(shard: int) -> dict[str, Rights]:
    """As a node of that shard lists what is wanted."""
    return {names.user_of(user, shard): rights for user, rights in WANTED.items()}


def cluster(odd: dict[str, Rights] | None = None, **more: Any) -> Cluster:
    """Every node has its rights, but for replica cart-1-1."""
    made = replace(formed(), more={"users": {"8.1": WANTED}, **more})
    for node in made.nodes:
        made = made.with_node(node.shard, node.ordinal, users=listed(node.shard))
    return made.with_node(1, 1, users=listed(1) | (odd or {}))


def test_what_an_engine_lists_is_read_as_what_was_written() -> None:
    """As Valkey 8.0 and 9.1 list a user (docs/engine-facts.md)."""
    written = f"user one on {HASH} resetchannels -@all +acl +role ~* %W~x* +migrate"
    listed = [
        f"user one on sanitize-payload {HASH} ~* resetchannels -@all +acl +role +migrate",
        f"user one off {HASH} ~* resetchannels alldbs -@all +acl +role +migrate",
    ]
    (rights,) = read_users([written]).values()
    assert all(read_users([line]) == {"one": rights} for line in listed)
    assert [read_users([line])["one"].is_on for line in listed] == [True, False]


@pytest.mark.parametrize(
    "other",
    [
        f"user one on {HASH} ~* -@all +acl",
        f"user one on {HASH} ~* -@all +role +acl",
        f"user one on {HASH} -@all +acl +role",
        f"user one on {HASH} ~* &* -@all +acl +role",
        "user one on nopass ~* -@all +acl +role",
        f"user one on #{'1' * 64} ~* -@all +acl +role",
        f"user one on {HASH} {HASH.replace('0', '2')} ~* -@all +acl +role",
        f"user one on {HASH} ~* -@all +acl +role (~x -@all +get)",
        f"user one on {HASH} ~* db=0 -@all +acl +role",
        f"user two on {HASH} ~* -@all +acl +role",
    ],
)
def test_any_other_right_or_password_differs(other: str) -> None:
    wanted = read_users([f"user one on {HASH} ~* -@all +acl +role"])
    assert differing(wanted, wanted, 0) == ()
    assert differing(wanted, read_users([other]), 0) == ("one",)


def test_users_that_are_none_of_ours_are_left_alone() -> None:
    assert differing(WANTED, listed(0) | {"guest": OLDER}, 0) == ()


def test_s3_another_shards_replication_user_does_not_stand_for_ones_own() -> None:
    assert differing(WANTED, listed(1), 0) == (names.USER_REPLICATION,)
    (step,) = plan(cluster().with_node(1, 1, users=listed(0)).snapshot()).steps
    assert isinstance(step.action, SetUsers)
    assert [(t.pod, t.shard) for t in step.action.nodes] == [("cart-1-1", 1)]


def test_s12_rights_and_actions_hold_no_hash() -> None:
    rules = acl.rules(EngineVersion.V8_1, AuthMode.PASSWORD, PASSWORDS)
    hashes = [word[1:] for words in rules.values() for word in words if word.startswith("#")]
    text = f"{WANTED} {plan(cluster({names.USER_OPERATOR: OLDER}).snapshot())}"
    assert len(hashes) == len(rules)
    assert not any(digest in text for digest in hashes)


def test_a_node_with_other_rights_gets_them() -> None:
    (step,) = plan(cluster({names.USER_OPERATOR: OLDER}).snapshot()).steps
    assert isinstance(step.action, SetUsers)
    assert [t.pod for t in step.action.nodes] == ["cart-1-1"]
    assert (step.action.users, step.action.version) == ((names.USER_OPERATOR,), EngineVersion.V8_1)
    assert not step.action.disruptive
    assert step.reason is Reason.SETTING_RIGHTS


def test_nothing_is_done_where_all_is_right_or_nothing_is_known() -> None:
    assert plan(cluster().snapshot()).converged
    assert plan(cluster({names.USER_OPERATOR: OLDER}, users={}).snapshot()).converged
    assert not of_type(cluster({names.USER_OPERATOR: OLDER}).with_node(1, 1, version="10.2.0"), SetUsers)
    assert not of_type(cluster({names.USER_OPERATOR: OLDER}).with_node(1, 1, deleting=True), SetUsers)


def test_s1_a_silent_node_is_waited_for_and_holds_up_no_other() -> None:
    silent = cluster({names.USER_OPERATOR: OLDER}).with_node(0, 1, answers=False)
    assert [t.pod for a in of_type(silent, SetUsers) for t in a.nodes] == ["cart-1-1"]


def test_s5_a_quarantined_node_gets_its_rights_and_stays_closed() -> None:
    off = (names.USER_APPLICATION, names.user_of(names.USER_REPLICATION, 1))
    closed = {user: replace(listed(1)[user], is_on=False) for user in off}
    assert not of_type(cluster(closed), SetUsers)


def test_a_refusal_is_explained_and_holds_up_nothing_else() -> None:
    odd = cluster({names.USER_OPERATOR: OLDER})
    (step,) = plan(odd.snapshot()).steps
    assert isinstance(step.action, SetUsers)
    outcome = Outcome(step, "ERR Unknown command", refused=True)
    (stalled,) = [c for c in derive(odd.snapshot(), plan(odd.snapshot()), [outcome]).conditions if c.type == "Stalled"]
    assert (stalled.type, stalled.reason) == (ConditionType.STALLED, Reason.RIGHTS_REFUSED)
    remembered = replace(odd, more={**odd.more, "refusals": {step.action.asked: "ERR Unknown command"}})
    (block,) = plan(remembered.snapshot()).blocks
    assert block.reason is Reason.RIGHTS_REFUSED
    assert "ERR Unknown command" in block.message
    assert "spec.image" in block.message
    assert not block.stops_rest
