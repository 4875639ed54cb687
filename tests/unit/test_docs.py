"""The documentation names everything that users can meet."""

import json
import re
from pathlib import Path

from bench.report import markdown
from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import FailoverCause, Reason
from e2e.faults import CLASSES

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


def test_every_fault_class_has_a_line_for_who_is_on_call() -> None:
    rows = [line.split("|") for line in (DOCS / "failure-modes.md").read_text().splitlines() if line[:3] == "| `"]
    assert [row[1].strip() for row in rows] == [f"`{fault.name}`" for fault in CLASSES]
    assert all(len(row) == 6 and all(cell.strip() for cell in row[1:5]) for row in rows)


def test_what_only_happens_to_others_is_played_by_a_test_that_exists() -> None:
    rows = [line.split("|") for line in (DOCS / "failure-modes.md").read_text().splitlines() if line[:3] == "| F"]
    numbers = [row[1].strip() for row in rows if row[1].strip()[1:].isdigit()]
    assert numbers == [f"F{n}" for n in (*range(1, 11), 13, 17)]
    for row in rows:
        for file, test in re.findall(r"`(test_\w+\.py)::(test_\w+)`", "|".join(row)):
            text = (REPOSITORY / "e2e" / "scenarios" / file).read_text()
            assert f"def {test}(" in text, f"{file} has no {test}"
        assert row[1].strip() == "Fault" or re.search(r"`test_\w+\.py::test_\w+`", row[4]), row
