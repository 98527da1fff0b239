"""The interpreter of the fuzz tests."""

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def python_as_in_production() -> Iterator[None]:
    """Set the interpreter's default recursion limit: the sandbox's JSONata raises it for the whole process."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1000)
    yield
    sys.setrecursionlimit(before)
