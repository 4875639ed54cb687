"""docs/benchmarks.md from the numbers. The page is generated: edit this, not the page."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from bench.failovers import FAMILY
from bench.lifecycle import SHARDS
from bench.prober import OPERATIONS_PER_SECOND

HEAD: Final = """# Benchmarks

*For who decides whether to use the operator, and who changes it. Written by `make bench`; do not edit.*

"""


def markdown(results: Mapping[str, Any]) -> str:
    """The whole page."""
    machine, formed, steady = results["machine"], results["formation"], results["steady"]
    changes = "\n".join(_change(row) for row in results["lifecycle"])
    reshards = "\n".join(_reshard(row) for row in results["reshards"])
    rows = [
        ("apply → Ready", *_times(formed["apply_to_ready"]), "-"),
        ("last engine container runs → Ready", *_times(formed["last_container_to_ready"]), "-"),
        ("last pod Ready → Ready", *_times(formed["last_pod_to_ready"]), "≤ 1000 ms"),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    return (
        f"{HEAD}Measured on {machine['processors']} processors, {machine['memoryGibibytes']} GiB, Linux "
        f"{machine['kernel']}, Kubernetes {machine['kubernetes']} with {machine['nodes']} nodes "
        f"(platform `{machine['platform']}`), everything on the same machine.\n\n"
        f"## From apply to Ready\n\n"
        f"{formed['runs']} clusters, one after another, Valkey 8.1, 3 shards with one replica each, no persistence. "
        "Times come from watches. A pod becomes Ready only when its node is a member of the formed cluster, so the "
        "last row is the reporting alone; negative: the cluster was Ready before the kubelet's next probe said so of "
        "the last pod.\n\n"
        "| From → to | p50 | p99 | smallest | largest | target |\n|---|---|---|---|---|---|\n"
        f"{table}\n\n"
        "## While nothing happens\n\n"
        "| What | Value | Target |\n|---|---|---|\n"
        f"| API writes in {steady['passes']} passes over a converged cluster | {steady['writes']} | 0 |\n"
        f"| Objects of the cluster that changed meanwhile | {steady['changed_objects']} | 0 |\n"
        f"| Operator RSS with 1 cluster | {steady['rss_with_one_mebibytes']} MiB | - |\n"
        f"| Operator RSS with {steady['clusters']} clusters | {steady['rss_with_many_mebibytes']} MiB | - |\n\n"
        "## Changes of a living cluster\n\n"
        "Valkey 8.1, 3 shards with one replica each, on Kubernetes, under recording writers in every zone. No "
        "acknowledged write was lost (that is asserted). The gap is the longest time in which one of the writers could "
        "neither read nor write some shard; what it is while nothing changes is the machine's and the writers' own.\n\n"
        "| Change | Time | After the last new pod ran | Writes | Failed | Longest gap |\n|---|---|---|---|---|---|\n"
        f"{changes}\n\n"
        f"The rolling restart took {_per_shard(results['lifecycle'][-1])} ms for each shard. "
        "Targets: 3 → 4 shards 15000 ms after the last new pod ran, 0 failed; gaps 100 ms.\n\n"
        f"{_deaths(results['failovers'], results['outages'])}"
        "## Speed of slot moves\n\n"
        "Engine processes on loopback, 3 → 6 shards, values of 100 bytes; a client in a process of its own reads and "
        "writes meanwhile. Targets: 3x valkey-cli by MIGRATE; 0.95x of the engine's own speed with atomic migration; "
        "3000 ms for empty shards.\n\n"
        "| By | Valkey | Replicas | Keys moved | Time | Keys/s | Client p50 | p99 | largest | failed |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n"
        f"{reshards}\n\n"
        f"{_speeds(results['reshards'])}"
    )


def _change(row: Mapping[str, Any]) -> str:
    after = row["after_last_pod_milliseconds"]
    return (
        f"| {row['what']} | {row['milliseconds']} ms | {'-' if after is None else f'{after} ms'} | {row['acked']} "
        f"| {row['failed']} | {row['longest_gap_milliseconds']} ms |"
    )


def _per_shard(restart: Mapping[str, Any]) -> int:
    return int(restart["milliseconds"]) // SHARDS


def _deaths(failovers: Mapping[str, Any], outages: Sequence[Mapping[str, Any]]) -> str:
    dark = "\n".join(_outage(row) for row in outages)
    kills, switches = "\n".join(_kills(row) for row in failovers["kills"]), failovers["switches"]
    return (
        "## When a primary dies\n\n"
        f"Engine processes on loopback, Valkey {FAMILY}, {SHARDS} shards with one replica each, no persistence: from "
        "SIGKILL until the slots take writes again. Targets: p50 250 ms, p99 600 ms.\n\n"
        "| By | Node timeout | Kills | p50 | p99 | smallest | largest |\n|---|---|---|---|---|---|---|\n"
        f"{kills}\n\n"
        f"{_gaps(failovers['kills'])}\n"
        f"{switches['count']} planned switches, as by `kubectl cache failover`, cost a client of "
        f"{OPERATIONS_PER_SECOND} operations a second: {switches['failed']} of "
        f"{switches['operations'] + switches['failed']} failed; p50 {switches['p50']} ms, p99 {switches['p99']} ms, "
        f"largest {switches['largest']} ms.\n\n"
        "On Kubernetes, through the installed operator, one replica for each shard: from the cut of the power until "
        "all slots of the lost primaries take writes again. The machines of the operator's leader and of the client "
        "stay on. Targets: p99 4000 ms for a machine; with one or two shards, where nobody can elect, 8000 ms (the "
        "fence and 3 s more); 10000 ms for a zone.\n\n"
        "| What | Shards | Times | p50 | p99 | smallest | largest |\n|---|---|---|---|---|---|---|\n"
        f"{dark}\n\n"
    )


def _outage(row: Mapping[str, Any]) -> str:
    return f"| {row['what']} | {row['shards']} | {row['count']} | {' | '.join(_times(row['times']))} |"


def _gaps(kills: Sequence[Mapping[str, Any]]) -> str:
    labels = [f"{row['by'].removeprefix('the ')}, {row['node_timeout']} ms" for row in kills]
    return _chart("Milliseconds without writes after a kill, p50", labels, [row["times"]["p50"] for row in kills])


def _kills(row: Mapping[str, Any]) -> str:
    return f"| {row['by']} | {row['node_timeout']} ms | {row['kills']} | {' | '.join(_times(row['times']))} |"


def _reshard(row: Mapping[str, Any]) -> str:
    seen = row["clients"]
    times = " | ".join(f"{seen[key]} ms" for key in ("p50", "p99", "largest")) if seen else "- | - | -"
    return (
        f"| {row['by']} | {row['family']} | {row['replicas']} | {row['keys_moved']} | {row['milliseconds']} ms "
        f"| {row['keys_per_second']} | {times} | {seen['failed'] if seen else '-'} |"
    )


def _speeds(reshards: Sequence[Mapping[str, Any]]) -> str:
    shown = [row for row in reshards if row["keys_moved"]]
    labels = [f"{row['by'].split()[0].rstrip(',')} {row['family']}, {row['replicas']} r." for row in shown]
    return _chart("Keys moved per second", labels, [row["keys_per_second"] for row in shown])


def _chart(title: str, labels: Sequence[str], values: Sequence[int]) -> str:
    """Bars, in a language that code hosts draw."""
    names, bars = ", ".join(f'"{label}"' for label in labels), ", ".join(map(str, values))
    return f'```mermaid\nxychart-beta\n    title "{title}"\n    x-axis [{names}]\n    bar [{bars}]\n```\n'


def _times(sample: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{sample[key]} ms" for key in ("p50", "p99", "smallest", "largest"))
