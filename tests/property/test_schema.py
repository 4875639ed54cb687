"""The CRD's schema without an API server: it takes what the models take, and never refuses more than they do."""

from typing import Any

from hypothesis import given
from jsonschema import Draft7Validator
from pydantic import ValidationError

from cachecluster.api.schema import structural
from cachecluster.api.spec import CacheClusterSpec
from tests.unit.api.strategies import changed_specs, valid_specs


def plain(node: Any) -> Any:
    """The schema in the words of JSON Schema."""
    if isinstance(node, list):
        return [plain(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: plain(value) for key, value in node.items() if not key.startswith("x-")}
    if node.get("x-kubernetes-int-or-string"):
        out["type"] = ["integer", "string"]
    if node.get("x-kubernetes-list-type") == "set":
        out["uniqueItems"] = True
    return out


SCHEMA = Draft7Validator(plain(structural(CacheClusterSpec)))


def parsed(spec: dict[str, Any]) -> CacheClusterSpec | None:
    try:
        return CacheClusterSpec.model_validate(spec)
    except ValidationError:
        return None


@given(valid_specs)
def test_the_schema_takes_every_valid_spec_as_written_and_as_read(spec: dict[str, Any]) -> None:
    read = parsed(spec)
    assert read is not None
    assert list(SCHEMA.iter_errors(spec)) == []
    again = read.model_dump(mode="json", by_alias=True, exclude_none=True)
    assert list(SCHEMA.iter_errors(again)) == []
    assert parsed(again) == read


@given(changed_specs())
def test_the_schema_never_refuses_what_the_models_take(spec: dict[str, Any]) -> None:
    if not SCHEMA.is_valid(spec):
        assert parsed(spec) is None
