"""The texts of real nodes (8.0.1, 8.1.1, 9.1.2), read into values."""

from typing import Final

import pytest

from cachecluster.domain.nodes import NodeId, OpenSlot, Peer
from cachecluster.domain.slots import SlotSet
from cachecluster.engines import parse

NOW_MS: Final = 1795443125700

# `a` of three primaries: `b` died and a blank node has its address now, a replica is down, slots are on the move.
NODES_8_0: Final = """\
8a93e0040f26373db8e88f1208f8b366b4ad5aa1 127.181.153.4:6379@16379 slave,fail e4ba18e7d9ecc6b55fdc44638db7bd3549c338ba \
1795443118735 1795443117635 1 disconnected
e4ba18e7d9ecc6b55fdc44638db7bd3549c338ba 127.181.153.1:6379@16379,a.example myself,master - 0 0 1 connected 0-1 3-5460 \
[0->-db483626724d732aaa8bfd99fad388836cc3c548] [16000-<-db483626724d732aaa8bfd99fad388836cc3c548]
db483626724d732aaa8bfd99fad388836cc3c548 127.181.153.3:6379@16379 master - 0 1795443125641 3 connected 10922-16383
466d7aebf4286e00dd581274491d8c232a4552a1 :0@0 master,fail,noaddr - 1795443119150 1795443118138 2 disconnected \
5461-10921
"""
# Three nodes that form; a fourth was just met.
NODES_8_1: Final = """\
fcbf8b09c71c05c93e4329d9fddbf5130a6b7e03 127.116.10.2:6379@16379 master - 0 1795442939125 2 connected 8192-16383
1bc643a3cfe64b99856865204578d500cc2aa945 127.9.9.9:6379@16379 handshake - 0 0 0 disconnected
079ea90ab8ee6f95554de445a3cc9e281c6243f9 127.116.10.3:6379@16379 slave 8897195fec742eec239b76d1a464324be5f92371 \
0 1795442939728 1 connected
8897195fec742eec239b76d1a464324be5f92371 127.116.10.1:6379@16379,a.example myself,master - 0 0 1 connected 0-8191
"""
NODES_9_1: Final = """\
de70edd7ece4947f7f25bc0291b0ae2ae81968de 127.163.21.3:6379@16379 master - 0 1795443146412 3 connected 10922-16383
e9d720bacd6dda3ce971db8cacf73c30584259e8 127.163.21.2:6379@16379 master,fail - 1795443143065 1795443142060 2 \
disconnected 5461-10921
95842d04ac4f6ab69daf50b89d1bbbe5122be52c 127.163.21.4:6379@16379 slave,fail f14766f9bc29ebb918b4345f5c37a8a0bd9d9da7 \
1795443143065 1795443142060 1 disconnected
f14766f9bc29ebb918b4345f5c37a8a0bd9d9da7 127.163.21.1:6379@16379,a.example myself,master - 0 0 1 connected 0-1 3-5460 \
[0->-de70edd7ece4947f7f25bc0291b0ae2ae81968de]
"""

# A replica right after its start, its primary being dead (9.1.2, shortened).
INFO_REPLICA: Final = """\
# Server\r
redis_version:7.2.4\r
valkey_version:9.1.2\r
monotonic_clock:X86 TSC @ 2599.91 ticks/us\r
run_id:2b1afac434bcb476c4a6d41bcc05e5a3ce49597c\r
config_file:\r
listener0:name=tcp,bind=127.163.21.4,port=6379\r
\r
# Replication\r
role:slave\r
master_host:127.163.21.1\r
master_port:6379\r
master_link_status:down\r
master_last_io_seconds_ago:-1\r
master_sync_in_progress:0\r
slave_repl_offset:0\r
master_link_down_since_seconds:-1\r
\r
# Keyspace\r
"""


def rows(text: str) -> dict[str, Peer]:
    """Rows by the first digits of their id."""
    return {p.node_id[:2]: p for p in parse.peers(text, NOW_MS)}


def test_own_row_has_its_slots_and_neither_a_pong_nor_slots_on_the_move() -> None:
    me = rows(NODES_8_0)["e4"]
    assert me == Peer(
        node_id=NodeId("e4ba18e7d9ecc6b55fdc44638db7bd3549c338ba"),
        ip="127.181.153.1",
        port=6379,
        bus_port=16379,
        flags=frozenset({"myself", "master"}),
        primary_id=None,
        config_epoch=1,
        connected=True,
        pong_age=None,
        slots=SlotSet.parse("0-1,3-5460"),
    )


def test_slots_on_the_move_are_told_apart_by_their_direction() -> None:
    peer = NodeId("db483626724d732aaa8bfd99fad388836cc3c548")
    assert parse.open_slots(NODES_8_0) == ((OpenSlot(0, peer),), (OpenSlot(16000, peer),))
    assert parse.open_slots(NODES_8_1) == ((), ())
    assert parse.open_slots(NODES_9_1) == ((OpenSlot(0, NodeId("de70edd7ece4947f7f25bc0291b0ae2ae81968de")),), ())


def test_failed_replica_names_its_primary_and_is_silent_since_its_last_pong() -> None:
    replica = rows(NODES_8_0)["8a"]
    assert replica.primary_id == "e4ba18e7d9ecc6b55fdc44638db7bd3549c338ba"
    assert (replica.failed, replica.is_primary, replica.connected) == (True, False, False)
    assert replica.pong_age == pytest.approx(8.065)
    assert replica.asked
    assert not rows(NODES_8_0)["e4"].asked


def test_failed_primary_whose_address_another_node_has_taken_has_no_address() -> None:
    lost = rows(NODES_8_0)["46"]
    assert (lost.ip, lost.port, lost.bus_port) == ("", 0, 0)
    assert lost.flags == {"master", "fail", "noaddr"}
    assert lost.slots == SlotSet.parse("5461-10921")


def test_node_that_was_just_met_is_a_handshake_without_any_pong() -> None:
    met = rows(NODES_8_1)["1b"]
    assert met.flags == {"handshake"}
    assert (met.ip, met.pong_age, met.config_epoch, met.connected) == ("127.9.9.9", None, 0, False)


@pytest.mark.parametrize("text", [NODES_8_0, NODES_8_1, NODES_9_1])
def test_every_release_is_read_whole(text: str) -> None:
    peers = parse.peers(text, NOW_MS)
    assert len(peers) == 4
    assert [p.node_id for p in peers] == [NodeId(line.split()[0]) for line in text.splitlines()]
    assert sum("myself" in p.flags for p in peers) == 1


def test_pong_from_the_future_of_a_stepped_clock_has_age_zero() -> None:
    (peer,) = parse.peers("a" * 40 + " 10.0.0.1:6379@21000 master - 0 1795443125900 3 connected", NOW_MS)
    assert peer.pong_age == 0.0


def test_suspected_is_not_failed() -> None:
    (peer,) = parse.peers("a" * 40 + " 10.0.0.1:6379@21000 master,fail? - 1 2 3 connected 5", NOW_MS)
    assert (peer.suspected, peer.failed) == (True, False)
    assert peer.slots == SlotSet.of([5])


def test_ipv6_address_and_auxiliary_fields_are_told_apart() -> None:
    (peer,) = parse.peers("a" * 40 + " fd00::7:6379@21000,,shard-id=" + "b" * 40 + " master - 0 1 3 connected", NOW_MS)
    assert (peer.ip, peer.port, peer.bus_port) == ("fd00::7", 6379, 21000)


@pytest.mark.parametrize("text", ["not a table", "a b c d e f g h", "a" * 40 + " 10.0.0.1 master - 0 0 1 connected"])
def test_text_that_is_no_table_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"unpack|invalid literal"):
        parse.peers(text, NOW_MS)


def test_info_keeps_values_with_colons_spaces_and_nothing() -> None:
    fields = parse.info(INFO_REPLICA)
    assert fields["monotonic_clock"] == "X86 TSC @ 2599.91 ticks/us"
    assert fields["config_file"] == ""
    assert parse.info("a:b:c\n# x:y\n\nnonsense\n") == {"a": "b:c"}


def test_replica_that_never_had_a_link_has_never_synced() -> None:
    link = parse.replica_link(parse.info(INFO_REPLICA))
    assert link is not None
    assert (link.up, link.down_seconds, link.last_io_seconds, link.primary_ip) == (False, -1, None, "127.163.21.1")
    assert not link.ever_synced


def test_replica_that_lost_its_link_has_synced_before() -> None:
    link = parse.replica_link(
        {
            "role": "slave",
            "master_link_status": "down",
            "master_link_down_since_seconds": "3",
            "master_host": "10.0.0.1",
        }
    )
    assert link is not None
    assert (link.down_seconds, link.ever_synced, link.sync_in_progress) == (3, True, False)


def test_replica_in_step_has_no_time_down() -> None:
    link = parse.replica_link({"role": "slave", "master_link_status": "up", "master_last_io_seconds_ago": "0"})
    assert link is not None
    assert (link.up, link.down_seconds, link.last_io_seconds) == (True, None, 0)


def test_primary_has_no_link() -> None:
    assert parse.replica_link({"role": "master"}) is None


def test_keys_are_counted_over_all_databases_and_other_fields_that_begin_alike_are_not() -> None:
    fields = {
        "db0": "keys=3,expires=0,avg_ttl=0",
        "db12": "keys=4,expires=1,avg_ttl=5,keys_with_volatile_items=0",
        "dbx": "9",
    }
    assert parse.keys(fields) == 7
    assert parse.keys({}) == 0


def test_progress_comes_in_steps_and_only_where_it_is_known() -> None:
    syncing = {"role": "slave", "master_link_status": "down", "master_sync_in_progress": "1"}
    unknown = parse.replica_link({**syncing, "master_sync_total_bytes": "0", "master_sync_read_bytes": "200000000"})
    assert unknown is not None
    assert (unknown.sync_percent, unknown.sync_received) == (None, 2 * 64 * 2**20)
    file = parse.replica_link({**syncing, "master_sync_total_bytes": "900", "master_sync_perc": "48.31"})
    assert file is not None
    assert (file.sync_percent, file.sync_received) == (45, 0)


def test_a_replica_does_not_know_whereto_its_primary_took_slots() -> None:
    """As 9.1.2 lists it on a replica; it may be the primary by the time that it is asked."""
    told = [
        "name",
        "ada",
        "operation",
        "IMPORT",
        "slot_ranges",
        "0-0",
        "create_time",
        "1",
        "state",
        "occurring-on-primary",
    ]
    job = parse.migration([*told, "message", ""])
    assert (job.outgoing, job.target, job.running) == (False, "", True)
