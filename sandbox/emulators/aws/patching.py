"""Named replacements in a library, which are applied and undone together."""

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any, TypeAlias

Foreign: TypeAlias = Any
"""An object of a library that carries no types."""


class Patches:
    """Replacements in a library's modules; `undo` undoes them.

    A target is written `package.module:Name` or `package.module:Class.attribute`. It must be in that very
    module or class: if an update of the library moves it, the replacement fails instead of changing nothing.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def replace(self, target: str, replacement: object) -> None:
        """Replace `target` by `replacement`.

        Raises:
            LookupError: `target` is not where it is expected.
        """
        owner, name = _locate(target)
        self._set(owner, name, replacement)

    def wrap(self, target: str, wrapper: Callable[[Foreign], object]) -> None:
        """Replace the function `target` by `wrapper(original)`; a static method stays one.

        Raises:
            LookupError: `target` is not where it is expected.
        """
        owner, name = _locate(target)
        wrapped = wrapper(getattr(owner, name))
        is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        self._set(owner, name, staticmethod(wrapped) if is_static and callable(wrapped) else wrapped)

    def set_item(self, mapping: Foreign, key: str, value: object) -> None:
        """Set `mapping[key]`, which must exist."""
        original = mapping[key]
        mapping[key] = value
        self._undo.append(lambda: mapping.__setitem__(key, original))

    def define(self, owner: Foreign, name: str, value: object) -> None:
        """Give a class an attribute that it does not have itself."""
        setattr(owner, name, value)
        self._undo.append(lambda: delattr(owner, name))

    def define_method(self, target: str, name: str, value: object) -> None:
        """Give the class `target` a method, whether it has its own or inherits one."""
        owner, last = _locate(target)
        owner = getattr(owner, last)
        if name in vars(owner):
            self._set(owner, name, value)
        else:
            self.define(owner, name, value)

    def undo(self) -> None:
        """Undo every replacement, the newest first. May be called again."""
        while self._undo:
            self._undo.pop()()

    def _set(self, owner: Foreign, name: str, replacement: object) -> None:
        original = vars(owner)[name]
        setattr(owner, name, replacement)
        self._undo.append(lambda: setattr(owner, name, original))


def _locate(target: str) -> tuple[Foreign, str]:
    module, _, path = target.partition(":")
    owner: Foreign = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    if name not in vars(owner):
        raise LookupError(f"nothing to patch at {target}")
    return owner, name
