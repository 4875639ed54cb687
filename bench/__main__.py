"""All benchmarks by one command: numbers as JSON, a table in docs/benchmarks.md.

python -m bench [--platform local|kind|existing] [--runs 20] [--clusters 20] [--keys-per-slot 128] [--kills 100]
                [--outages 30]
"""

import argparse
import json
import os
import platform as machine
import sys
from dataclasses import asdict
from typing import Any, Final

from bench import failovers, formation, lifecycle, outages, slots, steady
from bench.report import markdown
from e2e.install import REPOSITORY, install
from e2e.kube import TimedOut
from e2e.namespaces import namespace
from e2e.platform import CHOICES, PlatformError, choose

RESULTS: Final = REPOSITORY / "bench" / "results.json"
PAGE: Final = REPOSITORY / "docs" / "benchmarks.md"


def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the operator.")
    parser.add_argument("--platform", choices=CHOICES, default="local")
    parser.add_argument("--context")
    parser.add_argument("--image")
    parser.add_argument("--runs", type=int, default=20, help="clusters to form for the formation times")
    parser.add_argument("--clusters", type=int, default=20, help="clusters beside each other for the memory")
    parser.add_argument("--keys-per-slot", type=int, default=128, help="keys for the speed of slot moves")
    parser.add_argument("--kills", type=int, default=100, help="primaries to kill under the operator")
    parser.add_argument("--outages", type=int, default=30, help="machines to lose; a third as many zones")
    options = parser.parse_args(argv)
    try:
        reshards = slots.measure(options.keys_per_slot)
        deaths = failovers.measure(options.kills)
        installation = install(choose(options.platform, options.context, options.image), ("8.1",))
        with namespace(installation.kube, "bench") as here:
            results: dict[str, Any] = {
                "machine": {
                    "processors": os.cpu_count(),
                    "memoryGibibytes": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**30,
                    "kernel": machine.release(),
                    "kubernetes": json.loads(installation.kube.raw("/version"))["gitVersion"],
                    "nodes": len(installation.kube.list("Node")),
                    "platform": options.platform,
                },
                "formation": asdict(formation.measure(installation, here, options.runs)),
                "steady": asdict(steady.measure(installation, here, options.clusters)),
                "lifecycle": [asdict(change) for change in lifecycle.measure(installation, here)],
                "failovers": deaths,
                "outages": outages.measure(installation, here, options.outages),
                "reshards": reshards,
            }
    except (PlatformError, TimedOut) as error:
        print(f"no benchmark: {error}", file=sys.stderr)
        return 1
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    PAGE.write_text(markdown(results))
    print(PAGE.read_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
