"""docs/benchmarks.md from the numbers. The page is generated: edit this, not the page."""

from collections.abc import Mapping
from typing import Any, Final

HEAD: Final = """# Benchmarks

*For who decides whether to use the operator, and who changes it. Written by `make bench`; do not edit.*

"""


def markdown(results: Mapping[str, Any]) -> str:
    """The whole page."""
    machine, formed, steady = results["machine"], results["formation"], results["steady"]
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
        f"| Operator RSS with {steady['clusters']} clusters | {steady['rss_with_many_mebibytes']} MiB | - |\n"
    )


def _times(sample: Mapping[str, int]) -> tuple[str, ...]:
    return tuple(f"{sample[key]} ms" for key in ("p50", "p99", "smallest", "largest"))
