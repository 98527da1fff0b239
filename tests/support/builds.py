"""Builds of Lockstep whose formats differ: the same code, which writes another number and reads up to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from lockstep import formats

THIS = formats.FORMAT
NEWER = formats.FORMAT + 1


@contextmanager
def build(written: int) -> Iterator[None]:
    """Run the block as the build whose format this is."""
    with patch.object(formats, "FORMAT", written):
        yield
