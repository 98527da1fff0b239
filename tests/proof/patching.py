"""Patches of the product, several at a time."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, TypeAlias

Foreign: TypeAlias = Any
"""What a patch takes over from the code as it is."""
Plant = Callable[[], AbstractContextManager[None]]


class Behind:
    """In front of a port: what it does not do itself, the port does."""

    def __init__(self, port: Foreign) -> None:
        self._port = port

    def __getattr__(self, name: str) -> Foreign:
        return getattr(self._port, name)


@contextmanager
def patched(*patches: AbstractContextManager[Foreign]) -> Iterator[None]:
    """All of them, for the length of a block."""
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield
