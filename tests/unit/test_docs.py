"""The documentation names everything that users can meet."""

from pathlib import Path

from cachecluster.api.conditions import ConditionType
from cachecluster.api.reasons import Reason

DOCS = Path(__file__).parents[2] / "docs"


def test_every_condition_and_reason_is_documented() -> None:
    text = (DOCS / "conditions.md").read_text()
    missing = [name for name in (*ConditionType, *Reason) if f"`{name}`" not in text]
    assert not missing


def test_no_reason_is_documented_that_does_not_exist() -> None:
    rows = [
        line.split("|")[1].strip() for line in (DOCS / "conditions.md").read_text().splitlines() if line[:3] == "| `"
    ]
    known = {f"`{name}`" for name in (*ConditionType, *Reason)}
    assert set(rows) <= known
