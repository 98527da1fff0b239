"""Named replacements in a library, which are applied and undone together."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from importlib import import_module
from typing import Any, TypeAlias
from unittest import mock

Foreign: TypeAlias = Any
"""An object of a library that carries no types."""


class Patches:
    """Replacements in a library's modules; `undo` undoes them.

    A target is written `package.module:Name` or `package.module:Class.attribute`. It must be in that very
    module or class: if an update of the library moves it, the replacement fails instead of changing nothing.
    """

    def __init__(self) -> None:
        self._patched = ExitStack()

    def replace(self, target: str, replacement: object) -> None:
        """Replace `target` by `replacement`.

        Raises:
            LookupError: `target` is not where it is expected.
        """
        self._patched.enter_context(mock.patch.object(*_locate(target), replacement))

    def wrap(self, target: str, wrapper: Callable[[Foreign], object]) -> None:
        """Replace the function `target` by `wrapper(original)`; a static method stays one.

        Raises:
            LookupError: `target` is not where it is expected.
        """
        owner, name = _locate(target)
        wrapped = wrapper(getattr(owner, name))
        is_static = isinstance(inspect.getattr_static(owner, name), staticmethod)
        self.replace(target, staticmethod(wrapped) if is_static and callable(wrapped) else wrapped)

    def set_item(self, mapping: Foreign, key: str, value: object) -> None:
        """Set `mapping[key]`."""
        self._patched.enter_context(mock.patch.dict(mapping, {key: value}))

    def define(self, owner: Foreign, name: str, value: object) -> None:
        """Give a class an attribute, whether it has its own, inherits one or has none."""
        self._patched.enter_context(mock.patch.object(owner, name, value, create=True))

    def define_method(self, target: str, name: str, value: object) -> None:
        """Give the class `target` a method, whether it has its own or inherits one."""
        self.define(getattr(*_locate(target)), name, value)

    def undo(self) -> None:
        """Undo every replacement, the newest first. May be called again."""
        self._patched.close()


def _locate(target: str) -> tuple[Foreign, str]:
    module, _, path = target.partition(":")
    owner: Foreign = import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    if name not in vars(owner):
        raise LookupError(f"nothing to patch at {target}")
    return owner, name
