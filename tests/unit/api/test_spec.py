"""The models hold a spec to what the CRD says, and the operator reads one without ever raising."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from cachecluster.api import names
from cachecluster.api.root import MAX_NAME, name_problem
from cachecluster.api.spec import AuthMode, CacheClusterSpec, PersistenceMode
from cachecluster.domain.snapshot import InvalidSpec
from cachecluster.domain.validity import read_spec
from tests.unit.api.cases import CODE_ONLY, FULL, REFUSED, VALID, Refused

EXAMPLES = sorted((Path(__file__).resolve().parents[3] / "examples").glob("*.yaml"))


@pytest.mark.parametrize("case", [*REFUSED, *CODE_ONLY], ids=str)
def test_a_wrong_spec_is_refused_with_its_field_and_what_to_write(case: Refused) -> None:
    read = read_spec(case.spec)
    assert isinstance(read, InvalidSpec)
    assert read.message.startswith(f"spec.{case.at}")
    assert case.message in read.message
    assert len(read.message) < 400


@pytest.mark.parametrize("spec", [VALID, FULL], ids=["least", "full"])
def test_a_right_spec_is_read(spec: dict[str, Any]) -> None:
    assert isinstance(read_spec(spec), CacheClusterSpec)


def test_the_full_spec_uses_every_field() -> None:
    assert unused(CacheClusterSpec, [FULL]) == set()


def unused(model: type[BaseModel], samples: list[dict[str, Any]], at: str = "spec") -> set[str]:
    """Fields that no sample sets."""
    out: set[str] = set()
    for field in model.model_fields.values():
        name = str(field.alias)
        values = [v for sample in samples if name in sample for v in _items(sample[name])]
        if not any(name in sample for sample in samples):
            out.add(f"{at}.{name}")
        for inner in _models(field.annotation):
            out |= unused(inner, [v for v in values if isinstance(v, dict)], f"{at}.{name}")
    return out


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in getattr(annotation, "__args__", ()) for model in _models(arg)]


@pytest.mark.parametrize("raw", [None, [], "spec", 1, {}])
def test_what_is_no_spec_at_all_is_refused_without_raising(raw: object) -> None:
    assert isinstance(read_spec(raw), InvalidSpec)


def test_a_message_never_repeats_what_was_written_at_length() -> None:
    secret = "s" * 500
    read = read_spec({**VALID, "auth": {"mode": secret}, "image": {"password": secret}})
    assert isinstance(read, InvalidSpec)
    assert secret not in read.message


def test_several_problems_are_counted() -> None:
    read = read_spec({**VALID, "engine": "Redis", "version": "7"})
    assert isinstance(read, InvalidSpec)
    assert read.message == "spec.engine: Redis is not supported; write Valkey (and 1 more)"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_can_be_carried_out(path: Path) -> None:
    documents = [d for d in yaml.safe_load_all(path.read_text()) if d["kind"] == names.KIND]
    assert documents
    for document in documents:
        assert isinstance(read_spec(document["spec"], document["metadata"]["name"]), CacheClusterSpec)


def test_omitted_modes_mean_no_persistence_and_a_password() -> None:
    spec = CacheClusterSpec.parse(VALID)
    assert spec.persistence_mode is PersistenceMode.NONE
    assert spec.auth_mode is AuthMode.PASSWORD
    assert spec.members_per_shard == 2


@pytest.mark.parametrize("name", ["a", "cart", "cart-2", "a" * MAX_NAME])
def test_names_that_fit(name: str) -> None:
    assert name_problem(name) is None


@pytest.mark.parametrize("name", ["a" * (MAX_NAME + 1), "0", "0cart", "cart.shop", "cart-nodes", "cart-", ""])
def test_names_from_which_other_names_cannot_be_made_are_refused(name: str) -> None:
    assert isinstance(read_spec(VALID, name), InvalidSpec)
