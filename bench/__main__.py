"""All benchmarks by one command: numbers as JSON, a table in docs/benchmarks.md.

python -m bench [--platform local|kind|existing] [--runs 20] [--clusters 20] [--keys-per-slot 128] [--kills 100]
                [--outages 30] [--only PART ...]
"""

import argparse
import json
import os
import platform as machine
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, Final

from bench import failovers, formation, lifecycle, outages, slots, steady
from bench.report import markdown
from e2e.install import REPOSITORY, Installation, install
from e2e.kube import TimedOut
from e2e.namespaces import namespace
from e2e.platform import CHOICES, PlatformError, choose

RESULTS: Final = REPOSITORY / "bench" / "results.json"
PAGE: Final = REPOSITORY / "docs" / "benchmarks.md"


ON_PROCESSES: Final = ("reshards", "failovers")
ON_KUBERNETES: Final = ("formation", "steady", "lifecycle", "outages")


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    options = _arguments().parse_args(argv)
    wanted = options.only or (*ON_PROCESSES, *ON_KUBERNETES)
    try:
        if "reshards" in wanted:
            _keep({"reshards": slots.measure(options.keys_per_slot)})
        if "failovers" in wanted:
            _keep({"failovers": failovers.measure(options.kills)})
        if any(part in wanted for part in ON_KUBERNETES):
            _on_kubernetes(options, wanted)
    except (PlatformError, TimedOut) as error:
        print(f"no benchmark: {error}", file=sys.stderr)
        return 1
    PAGE.write_text(markdown(json.loads(RESULTS.read_text())))
    print(PAGE.read_text())
    return 0


def _keep(results: dict[str, Any]) -> None:
    """In place of earlier ones, at once: what comes later may fail."""
    RESULTS.write_text(json.dumps(json.loads(RESULTS.read_text()) | results, indent=2) + "\n")


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the operator.")
    parser.add_argument("--platform", choices=CHOICES, default="local")
    parser.add_argument("--context")
    parser.add_argument("--image")
    parser.add_argument("--runs", type=int, default=20, help="clusters to form for the formation times")
    parser.add_argument("--clusters", type=int, default=20, help="clusters beside each other for the memory")
    parser.add_argument("--keys-per-slot", type=int, default=128, help="keys for the speed of slot moves")
    parser.add_argument("--kills", type=int, default=100, help="primaries to kill under the operator")
    parser.add_argument("--outages", type=int, default=30, help="machines to lose; a third as many zones")
    parser.add_argument(
        "--only",
        action="append",
        choices=(*ON_PROCESSES, *ON_KUBERNETES),
        help="measure this part alone (may be repeated), and keep the numbers of the others",
    )
    return parser


def _on_kubernetes(options: argparse.Namespace, wanted: Sequence[str]) -> None:
    """The parts that need an installed operator, and what it was that they ran on."""
    installation = install(choose(options.platform, options.context, options.image), ("8.1",))
    with namespace(installation.kube, "bench") as here:
        parts: dict[str, Callable[[], Any]] = {
            "formation": lambda: asdict(formation.measure(installation, here, options.runs)),
            "steady": lambda: asdict(steady.measure(installation, here, options.clusters)),
            "lifecycle": lambda: [asdict(change) for change in lifecycle.measure(installation, here)],
            "outages": lambda: outages.measure(installation, here, options.outages),
        }
        for part, measure in parts.items():
            if part in wanted:
                _keep({part: measure()})
    _keep({"machine": _machine(options.platform, installation)})


def _machine(platform: str, installation: Installation) -> dict[str, Any]:
    return {
        "processors": os.cpu_count(),
        "memoryGibibytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30,
        "kernel": machine.release(),
        "kubernetes": json.loads(installation.kube.raw("/version"))["gitVersion"],
        "nodes": len(installation.kube.list("Node")),
        "platform": platform,
    }


if __name__ == "__main__":
    sys.exit(main())
