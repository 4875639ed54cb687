"""Quantities are read exactly, as Kubernetes reads them."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachecluster.domain.quantity import exact, same, to_bytes, to_millicores


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0", 0),
        ("1", 1),
        ("1k", 1000),
        ("1Ki", 1024),
        ("256Mi", 256 * 2**20),
        ("1.5Gi", 3 * 2**29),
        (".5Gi", 2**29),
        ("5.", 5),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12E", 12 * 10**18),
        ("1E", 10**18),
        ("2e-1", 1),
        ("128m", 1),
        ("1n", 1),
        ("-1Ki", -1024),
        (1073741824, 2**30),
    ],
)
def test_bytes_are_rounded_up(text: str | int, amount: int) -> None:
    assert to_bytes(text) == amount


@pytest.mark.parametrize(("text", "amount"), [("1", 1000), ("500m", 500), ("0.1", 100), ("1u", 1), ("2k", 2_000_000)])
def test_millicores_are_rounded_up(text: str, amount: int) -> None:
    assert to_millicores(text) == amount


@pytest.mark.parametrize(
    "text", ["", " 1", "1 Gi", "Gi", "1gi", "1GiB", "1e", "1e99999999", "--1", "1.2.3", "٣", "1" * 65, "1\n"]
)
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"quantity"):
        exact(text)


@given(st.integers(0, 2**40), st.sampled_from(["", "k", "M", "Ki", "Mi", "Gi"]), st.integers(0, 999))
def test_a_fraction_is_kept_exactly(number: int, suffix: str, thousandths: int) -> None:
    whole = exact(f"1{suffix}")
    assert exact(f"{number}.{thousandths:03}{suffix}") == whole * (number + Fraction(thousandths, 1000))


def test_the_same_amount_in_another_notation_is_the_same() -> None:
    assert same("1Gi", "1024Mi")
    assert same("1", "1000m")
    assert same(2, "2")
    assert not same("1G", "1Gi")
    assert same("whatever", "whatever")
    assert not same("whatever", "1Gi")
