"""Kubernetes quantities ("500m", "2Gi", "1e3") as exact numbers, bytes and millicores."""

import re
from fractions import Fraction
from functools import lru_cache
from math import ceil
from typing import Final

_FORM: Final = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+))(?:(?P<suffix>[numkMGTPE]|[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]+))?"
)
_SUFFIXES: Final = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 10**3),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}
_MAX_LENGTH: Final = 64
_MAX_EXPONENT: Final = 30


@lru_cache(maxsize=1024)
def exact(text: str | int) -> Fraction:
    """Value of a quantity in its base unit (bytes, cores); raises ValueError.

    Source: k8s.io/apimachinery/pkg/api/resource, ``Quantity``.
    """
    match = _FORM.fullmatch(str(text)) if len(str(text)) <= _MAX_LENGTH else None
    if match is None:
        raise ValueError(f"{str(text)[:_MAX_LENGTH]!r} is not a quantity such as 500m, 2 or 8Gi")
    exponent = int(match["exponent"] or 0)
    if abs(exponent) > _MAX_EXPONENT:
        raise ValueError(f"{text!r} is out of range for a quantity")
    number = Fraction(match["number"]) * Fraction(10) ** exponent
    return number * _SUFFIXES[match["suffix"]] if match["suffix"] else number


def to_bytes(text: str | int) -> int:
    """Bytes, rounded up as Kubernetes does; raises ValueError."""
    return ceil(exact(text))


def to_millicores(text: str | int) -> int:
    """Thousandths of a CPU core, rounded up as Kubernetes does; raises ValueError."""
    return ceil(exact(text) * 1000)
