"""Read what nodes say: INFO and CLUSTER NODES, as text, into values. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from cachecluster.domain.slots import SlotSet
from cachecluster.domain.snapshot import NodeId, Peer, ReplicaLink

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
    )


def peers(text: str, now_ms: int) -> tuple[Peer, ...]:
    """The rows of CLUSTER NODES; ``now_ms`` is the node's own clock, in Unix milliseconds.

    A row is ``id ip:port@bus[,hostname[,aux=value...]] flags primary ping-sent pong-received epoch link slot ...``
    (command reference, CLUSTER NODES). Slots under migration, ``[slot->-id]``, are not owned slots.
    """
    return tuple(_peer(line.split(" "), now_ms) for line in text.splitlines() if line)


def _peer(fields: list[str], now_ms: int) -> Peer:
    node_id, address, flags, primary, _, pong, epoch, link, *slots = fields
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
        slots=SlotSet.from_ranges(_ranges(slots)),
    )


def _address(text: str) -> tuple[str, int, int]:
    """``ip:port@bus``; an unknown address is ``:0@0``."""
    host, _, bus = text.rpartition("@")
    ip, _, port = host.rpartition(":")
    return ip, int(port), int(bus)


def _ranges(fields: list[str]) -> Iterator[tuple[int, int]]:
    for field in fields:
        if not field.startswith("["):
            first, _, last = field.partition("-")
            yield int(first), int(last or first)
