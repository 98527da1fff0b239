"""What holds for all tests."""

import gc
from collections.abc import Iterator
from functools import cache

import pytest
from typer import testing

# Typer makes the commands of an app anew for each invocation, though they have no state. Many commands take less time.
testing._get_command = cache(testing._get_command)  # type: ignore[attr-defined]  # a private import of Typer's


@pytest.fixture
def deep() -> Iterator[None]:
    """For a test that goes as deep as Python does: what earlier tests left has no room to be finalized there."""
    gc.disable()
    yield
    gc.enable()
