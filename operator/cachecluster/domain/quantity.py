"""Quantities for builders and drift: the parser of the resource, and equality whatever the notation."""

from cachecluster.api.quantity import exact, to_bytes, to_millicores

__all__ = ["exact", "same", "to_bytes", "to_millicores"]


def same(a: str | int, b: str | int) -> bool:
    """Whether two quantities are the same amount ("1Gi" and "1024Mi"); other text is compared as it stands."""
    try:
        return exact(a) == exact(b)
    except ValueError:
        return str(a) == str(b)
