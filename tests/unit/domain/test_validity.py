"""What the models cannot tell about a spec is told too, with the parameter's path."""

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.snapshot import InvalidSpec
from cachecluster.domain.validity import read_spec, spec_problem
from tests.unit.domain.building import spec_of

RAW = spec_of().model_dump(mode="json", by_alias=True, exclude_none=True)


def test_a_wrong_parameter_makes_the_spec_invalid() -> None:
    read = read_spec({**RAW, "parameters": {"hz": 20, "maxmemory-policy": "lru"}})
    assert isinstance(read, InvalidSpec)
    assert read.message.startswith("spec.parameters.maxmemory-policy: lru is not possible; write noeviction")


def test_a_version_edit_is_judged_with_the_parameters_that_are_there() -> None:
    parameters = {"cluster-databases": 4}
    assert isinstance(read_spec({**RAW, "version": "9.1", "parameters": parameters}), CacheClusterSpec)
    read = read_spec({**RAW, "version": "8.1", "parameters": parameters})
    assert read == InvalidSpec("spec.parameters.cluster-databases: it needs version 9.0 or later, and this is 8.1")


def test_a_value_as_long_as_a_secret_is_not_repeated() -> None:
    value = "s" * 100
    read = read_spec({**RAW, "parameters": {"loglevel": value}})
    assert isinstance(read, InvalidSpec)
    assert value not in read.message


def test_a_spec_without_parameters_has_no_problem() -> None:
    assert spec_problem(spec_of()) is None
