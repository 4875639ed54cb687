"""The generated CustomResourceDefinition, without an API server."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from pydantic import Field

from cachecluster.api import crd, reference
from cachecluster.api.conditions import Condition, ConditionType
from cachecluster.api.rules import Model
from cachecluster.api.schema import structural
from cachecluster.api.status import CacheClusterStatus

REPOSITORY = Path(__file__).resolve().parents[3]


def test_generated_files_match_the_models() -> None:
    paths = ["crds/cacheclusters.cachecluster.dev.yaml", "helm/cachecluster-operator/templates/crd.yaml"]
    assert crd.main(["--check", *(str(REPOSITORY / path) for path in paths)]) == 0


def test_the_reference_matches_the_models(tmp_path: Path) -> None:
    assert reference.main(["--check", str(REPOSITORY / "docs" / "reference.md")]) == 0
    assert reference.main(["--check", str(tmp_path / "missing.md")]) == 1


def test_check_fails_for_a_file_that_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "crd.yaml"
    assert crd.main(["--check", str(path)]) == 1
    assert crd.main(["--write", str(path)]) == 0
    assert crd.main(["--check", str(path)]) == 0
    path.write_text(path.read_text() + "# edited\n")
    assert crd.main(["--check", str(path)]) == 1
    assert "make generate" in capsys.readouterr().err


def test_the_chart_has_the_same_object_behind_its_switches() -> None:
    lines = crd.chart_template().splitlines()
    switches = [line.strip() for line in lines if "{{" in line]
    assert switches == ["{{- if .Values.crds.enabled }}", "{{- if .Values.crds.keep }}", "{{- end }}", "{{- end }}"]
    rendered = yaml.safe_load("\n".join(line for line in lines if "{{" not in line))
    annotations = rendered["metadata"].pop("annotations")
    assert annotations == {"helm.sh/resource-policy": "keep"}
    assert rendered == yaml.safe_load(crd.manifest()) == crd.definition()


def _objects(node: Any, at: str = "") -> list[tuple[str, dict[str, Any]]]:
    if not isinstance(node, dict):
        return []
    found = [(at, node)]
    for name, child in node.get("properties", {}).items():
        found += _objects(child, f"{at}.{name}")
    return found + _objects(node.get("items"), f"{at}[]") + _objects(node.get("additionalProperties"), f"{at}{{}}")


SCHEMA = crd.definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def test_every_part_of_the_schema_says_its_type() -> None:
    assert [at for at, node in _objects(SCHEMA) if not ("type" in node or "x-kubernetes-int-or-string" in node)] == []


def test_every_field_is_described_in_sentences() -> None:
    fields = [(at, node) for at, node in _objects(SCHEMA) if at and at[-1] not in "]}" and ".metadata" not in at]
    bad = [at for at, node in fields if not node.get("description", "").strip().endswith(".")]
    assert bad == []


def test_nothing_has_a_default_or_may_be_null() -> None:
    assert [at for at, node in _objects(SCHEMA) if node.keys() & {"default", "nullable"}] == []


def test_every_text_list_and_map_of_the_spec_is_bounded_for_the_cost_of_rules() -> None:
    bounds = {"string": {"maxLength", "enum", "pattern"}, "array": {"maxItems"}}
    unbounded = [
        at
        for at, node in _objects(SCHEMA["properties"]["spec"])
        if (needed := bounds.get(node.get("type", ""))) and not node.keys() & needed
    ]
    assert unbounded == []


def test_every_rule_has_a_message_and_a_message_expression_keeps_it() -> None:
    rules = [rule for _, node in _objects(SCHEMA) for rule in node.get("x-kubernetes-validations", ())]
    assert len(rules) > 40
    for rule in rules:
        assert rule["rule"]
        assert len(rule["message"]) > 15
        assert rule["message"] in rule.get("messageExpression", rule["message"])
        assert "'" not in rule["message"] or "messageExpression" not in rule


def test_conditions_merge_by_type() -> None:
    conditions = SCHEMA["properties"]["status"]["properties"]["conditions"]
    assert conditions["x-kubernetes-list-type"] == "map"
    assert conditions["x-kubernetes-list-map-keys"] == ["type"]
    assert conditions["items"]["properties"]["type"]["enum"] == [str(t) for t in ConditionType]


class Colour(StrEnum):
    """Colour."""

    RED = "Red"


class Inner(Model):
    """Inner."""

    colour: Colour = Field(description="The colour.")


class Outer(Model):
    """Outer."""

    inner: Inner | None = Field(None, description="Inside.")
    more: dict[str, Inner] | None = Field(None, description="By name.")
    above: Annotated[int, Field(gt=3)] = Field(description="More than 3.")


def test_references_optional_fields_and_exclusive_bounds_become_structural() -> None:
    colour = {"description": "The colour.", "type": "string", "enum": ["Red"]}
    inner = {"type": "object", "required": ["colour"], "properties": {"colour": colour}}
    assert structural(Outer) == {
        "description": "Outer.",
        "type": "object",
        "required": ["above"],
        "properties": {
            "inner": {"description": "Inside.", **inner},
            "more": {
                "description": "By name.",
                "type": "object",
                "additionalProperties": {"description": "Inner.", **inner},
            },
            "above": {"description": "More than 3.", "type": "integer", "minimum": 3, "exclusiveMinimum": True},
        },
    }


class Tree(Model):
    """A tree."""

    children: list["Tree"] = Field(description="Below.")


class Either(Model):
    """Two types."""

    value: int | str = Field(description="Number or text.")


class Pair(Model):
    """A fixed tuple."""

    pair: tuple[int, str] = Field(description="Both.")


@pytest.mark.parametrize("model", [Tree, Either, Pair])
def test_what_a_structural_schema_cannot_say_is_an_error(model: type[Model]) -> None:
    with pytest.raises(ValueError, match="a structural schema cannot"):
        structural(model)


def test_a_status_counts_nodes_in_numbers_and_for_people() -> None:
    condition = Condition(
        type=ConditionType.READY,
        status="True",
        reason="ClusterReady",
        message="",
        last_transition_time="2026-01-01T00:00:00Z",
        observed_generation=1,
    )
    status = CacheClusterStatus(
        observed_generation=1, reason="ClusterReady", message="", nodes=6, ready_nodes=5, conditions=[condition]
    ).to_json()
    assert (status["nodes"], status["readyNodes"], status["ready"]) == (6, 5, "5/6")
    assert status["conditions"][0]["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert None not in status.values()
