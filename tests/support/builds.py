"""Builds of Lockstep whose formats differ: the same code, which writes another number and reads up to it."""

from collections.abc import Iterator
from contextlib import contextmanager

from lockstep.protocol import model

THIS = model.FORMAT
NEWER = model.FORMAT + 1


@contextmanager
def build(written: int) -> Iterator[None]:
    """Run the block as the build whose format this is."""
    before, model.FORMAT = model.FORMAT, written
    try:
        yield
    finally:
        model.FORMAT = before
