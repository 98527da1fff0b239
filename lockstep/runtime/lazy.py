"""Objects that are made when they are first needed."""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, TypeVar, cast

MadeT = TypeVar("MadeT")


def lazy(make: Callable[[], MadeT]) -> MadeT:
    """An object that is made when one of its attributes is first asked for, or its items.

    A step that does not use it loads nothing for it.
    """
    return cast("MadeT", _Later(make))


class _Later:
    """Stands for what `make` makes, once, whichever thread asks first."""

    __slots__ = ("_lock", "_made", "_make")

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: Any = None

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - as the object
        return getattr(self._object(), name)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._object())

    def _object(self) -> Any:  # noqa: ANN401 - as the object
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made
