"""The documentation names everything that users can meet."""

import json
from pathlib import Path

from bench.report import markdown
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import FailoverCause, Reason

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"


def test_every_condition_and_reason_is_documented() -> None:
    text = (DOCS / "conditions.md").read_text()
    missing = [name for name in (*ConditionType, *Reason, *FailoverCause) if f"`{name}`" not in text]
    assert not missing


def test_no_reason_is_documented_that_does_not_exist() -> None:
    rows = [
        line.split("|")[1].strip() for line in (DOCS / "conditions.md").read_text().splitlines() if line[:3] == "| `"
    ]
    known = {f"`{name}`" for name in (*ConditionType, *Reason)}
    assert set(rows) <= known


def test_the_page_of_the_benchmarks_shows_the_numbers_that_were_measured() -> None:
    results = json.loads((REPOSITORY / "bench" / "results.json").read_text())
    assert (DOCS / "benchmarks.md").read_text() == markdown(results)
