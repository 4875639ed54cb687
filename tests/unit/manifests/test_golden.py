"""What is sent to Kubernetes, in full, as a reviewer reads it."""

import json

import pytest

from cachecluster.api.spec import CacheClusterSpec
from cachecluster.domain.validity import read_spec
from tests.unit.manifests import golden


@pytest.mark.parametrize("name", golden.SPECS)
def test_manifests_are_as_reviewed(name: str) -> None:
    """After a change that is meant: `python -m tests.unit.manifests.golden`, and read the diff."""
    assert golden.as_yaml(name) == (golden.DIRECTORY / f"{name}.yaml").read_text()


def test_s9_pod_templates_are_those_of_the_last_release() -> None:
    """A new operator must not restart anybody's caches: the same spec gives the same pod template, byte for byte.

    If this fails, the change would roll every pod of every cluster at the next upgrade of the operator. Before the
    first release write the hashes anew; after it make the change depend on something in the spec that users edit.
    """
    assert golden.template_hashes() == json.loads(golden.TEMPLATE_HASHES.read_text())


@pytest.mark.parametrize("name", golden.SPECS)
def test_the_specs_are_valid(name: str) -> None:
    assert isinstance(read_spec(golden.SPECS[name]), CacheClusterSpec)
