"""Read what nodes say: INFO and CLUSTER NODES, as text, into values. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from cachecluster.api import names
from cachecluster.domain.access import read_users
from cachecluster.domain.nodes import NodeId, NodeView, OpenSlot, Peer, ReplicaLink, Rewrites, Role, Unwritten
from cachecluster.domain.slots import SlotSet
from cachecluster.engines.client import SlotMigration, StreamPosition

PERCENT_STEP: Final = 5
RECEIVED_STEP: Final = 64 * 2**20
NO_HISTORY: Final = "0" * 40
"""master_replid2 of a node that continues no other history (INFO replication)."""


def info(text: str) -> dict[str, str]:
    """``key:value`` lines of INFO, comments and blank lines left out."""
    pairs = (line.partition(":") for line in text.splitlines() if line and not line.startswith("#"))
    return {key: value for key, colon, value in pairs if colon}


def pairs(answer: Sequence[str]) -> dict[str, str]:
    """CONFIG GET: names and values in turn."""
    return dict(zip(answer[::2], answer[1::2], strict=True))


def keys(fields: Mapping[str, str]) -> int:
    """Number of keys over all databases (INFO keyspace: ``db0:keys=1,expires=0,...``)."""
    databases = (v for k, v in fields.items() if k.startswith("db") and k[2:].isdecimal())
    return sum(int(dict(p.split("=", 1) for p in v.split(","))["keys"]) for v in databases)


def replica_link(fields: Mapping[str, str]) -> ReplicaLink | None:
    """A replica's link (INFO replication); None on a primary."""
    if fields.get("role") != "slave":
        return None
    up = fields.get("master_link_status") == "up"
    last_io = int(fields.get("master_last_io_seconds_ago", "-1"))
    return ReplicaLink(
        up=up,
        sync_in_progress=fields.get("master_sync_in_progress") == "1",
        down_seconds=None if up else int(fields.get("master_link_down_since_seconds", "-1")),
        last_io_seconds=last_io if last_io >= 0 else None,
        primary_ip=fields.get("master_host", ""),
        sync_percent=_percent(fields.get("master_sync_perc"))
        if int(fields.get("master_sync_total_bytes", 0))
        else None,
        sync_received=int(fields.get("master_sync_read_bytes", 0)) // RECEIVED_STEP * RECEIVED_STEP,
    )


def _percent(text: str | None) -> int | None:
    """Progress in steps, so that the status is not written for every bit of it."""
    return None if text is None else int(float(text)) // PERCENT_STEP * PERCENT_STEP


def peers(text: str, now_ms: int) -> tuple[Peer, ...]:
    """The rows of CLUSTER NODES; ``now_ms`` is the node's own clock, in Unix milliseconds.

    A row is ``id ip:port@bus[,hostname[,aux=value...]] flags primary ping-sent pong-received epoch link slot ...``
    (command reference, CLUSTER NODES). Slots under migration, ``[slot->-id]``, are not owned slots.
    """
    return tuple(_peer(line.split(" "), now_ms) for line in text.splitlines() if line)


def _peer(fields: list[str], now_ms: int) -> Peer:
    node_id, address, flags, primary, ping, pong, epoch, link, *slots = fields
    ip, port, bus_port = _address(address.partition(",")[0])
    myself = "myself" in flags
    return Peer(
        node_id=NodeId(node_id),
        ip=ip,
        port=port,
        bus_port=bus_port,
        flags=frozenset(flags.split(",")),
        primary_id=None if primary == "-" else NodeId(primary),
        config_epoch=int(epoch),
        connected=link == "connected",
        pong_age=None if myself or pong == "0" else max(0.0, (now_ms - int(pong)) / 1000),
        slots=_slots(",".join(field for field in slots if not field.startswith("["))),
        asked=ping != "0",
    )


def open_slots(text: str) -> tuple[tuple[OpenSlot, ...], tuple[OpenSlot, ...]]:
    """Slots that the node gives away (``[93->-id]``) and that it takes (``[93-<-id]``): CLUSTER NODES, its own row."""
    own = next((line.split(" ") for line in text.splitlines() if "myself" in line.split(" ")[2].split(",")), [])
    marks = [field.strip("[]") for field in own if field.startswith("[")]
    return _marks(marks, "->-"), _marks(marks, "-<-")


def _marks(marks: Sequence[str], arrow: str) -> tuple[OpenSlot, ...]:
    parted = [mark.partition(arrow) for mark in marks]
    return tuple(OpenSlot(int(slot), NodeId(peer)) for slot, found, peer in parted if found)


def _address(text: str) -> tuple[str, int, int]:
    """``ip:port@bus``; an unknown address is ``:0@0``."""
    host, _, bus = text.rpartition("@")
    ip, _, port = host.rpartition(":")
    return ip, int(port), int(bus)


@lru_cache(maxsize=1024)
def _slots(text: str) -> SlotSet:
    """All nodes of a cluster list the same slots: they share one set, however many nodes there are."""
    return SlotSet.parse(text)


def view(fields: Mapping[str, str], nodes: str, cluster: Mapping[str, str], users: Iterable[str]) -> NodeView:
    """A node's view: INFO (server, replication, memory, persistence, keyspace), CLUSTER NODES, CLUSTER INFO, and
    ACL LIST; raises KeyError or ValueError.
    """
    now_ms = int(fields["server_time_usec"]) // 1000
    table = peers(nodes, now_ms)
    link = replica_link(fields)
    migrating, importing = open_slots(nodes)
    rights = read_users(users)
    return NodeView(
        node_id=_own_id(table),
        run_id=fields["run_id"],
        version=fields.get("valkey_version") or fields["redis_version"],
        role=Role.REPLICA if link is not None else Role.PRIMARY,
        loading=fields.get("loading") != "0" or fields.get("async_loading", "0") != "0",
        loaded_percent=_percent(fields.get("loading_loaded_perc")),
        keys=keys(fields),
        used_memory=int(fields["used_memory"]),
        replication_id=fields["master_replid"],
        previous_replication_id=fields.get("master_replid2", NO_HISTORY),
        offset=int(fields["slave_repl_offset" if link is not None else "master_repl_offset"]),
        link=link,
        cluster_state_ok=cluster.get("cluster_state") == "ok",
        current_epoch=int(cluster["cluster_current_epoch"]),
        max_memory=int(fields.get("maxmemory", 0)),
        good_replicas=int(fields["min_slaves_good_slaves"]) if "min_slaves_good_slaves" in fields else None,
        replica_lag=_replica_lag(fields),
        dataset_bytes=int(fields.get("used_memory_dataset", 0)),
        quarantined=any(not found.is_on for user, found in rights.items() if _closed_in_quarantine(user)),
        users=rights,
        logs=fields.get("aof_enabled") == "1",
        unwritten=unwritten(fields),
        rewrites=_rewrites(fields),
        peers=table,
        migrating=migrating,
        importing=importing,
    )


def unwritten(fields: Mapping[str, str]) -> Unwritten | None:
    """From INFO persistence."""
    if fields.get("aof_enabled") == "1" and fields.get("aof_last_write_status") == "err":
        return Unwritten.LOG
    return Unwritten.SNAPSHOT if fields.get("rdb_last_bgsave_status") == "err" else None


def _rewrites(fields: Mapping[str, str]) -> Rewrites:
    return Rewrites(
        begun=int(fields.get("aof_rewrites", 0)),
        running="1" in {fields.get("aof_rewrite_in_progress"), fields.get("aof_rewrite_scheduled")},
        failed=fields.get("aof_last_bgrewrite_status") == "err",
    )


def _replica_lag(fields: Mapping[str, str]) -> int | None:
    """Of the replicas that are in step (INFO replication: ``slave0:ip=...,state=online,offset=1,lag=0``)."""
    rows = (v for k, v in fields.items() if k.startswith("slave") and k[5:].isdecimal())
    replicas = [dict(part.partition("=")[::2] for part in row.split(",")) for row in rows]
    return min((int(r["lag"]) for r in replicas if r["state"] == "online"), default=None)


def _closed_in_quarantine(user: str) -> bool:
    return user == names.USER_APPLICATION or user.startswith(f"{names.USER_REPLICATION}-")


def _own_id(table: Iterable[Peer]) -> NodeId:
    ids = [p.node_id for p in table if "myself" in p.flags]
    if len(ids) != 1:
        raise ValueError(f"{len(ids)} rows of its table are its own")
    return ids[0]


def position(fields: Mapping[str, str]) -> StreamPosition:
    """From INFO replication; raises KeyError or ValueError."""
    link = replica_link(fields)
    if link is None:
        return StreamPosition(int(fields["master_repl_offset"]), in_step=True)
    return StreamPosition(int(fields["slave_repl_offset"]), in_step=link.up)


def migration(entry: Sequence[Any]) -> SlotMigration:
    """One entry of CLUSTER GETSLOTMIGRATIONS, a flat list of names and values; raises KeyError or ValueError."""
    fields = dict(zip(entry[::2], entry[1::2], strict=True))
    return SlotMigration(
        name=fields["name"],
        outgoing=fields["operation"] == "EXPORT",
        slots=SlotSet.parse(fields["slot_ranges"]),
        target=NodeId(fields.get("target_node", "")),
        state=fields["state"],
        message=fields["message"],
    )
