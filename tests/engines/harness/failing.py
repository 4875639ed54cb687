"""Failures of the node client, as tests expect them."""

import contextlib
import time
import traceback
from collections.abc import Iterator

import pytest

from cachecluster.engines.client import NodeError


@contextlib.contextmanager
def fails(expected: type[NodeError], text: str, *, within: float) -> Iterator[None]:
    """The block fails with just this kind of error, in time, and nothing that is printed of it holds a password."""
    begin = time.monotonic()
    with pytest.raises(NodeError, match=text) as caught:
        yield
    assert type(caught.value) is expected
    assert time.monotonic() - begin < within
    printed = "".join(traceback.format_exception(caught.value))
    assert not any(password in printed for password in ("operator-secret", "wrong-secret"))
