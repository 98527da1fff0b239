"""Names of things that are imported when they are first needed."""

from importlib import import_module
from typing import Any


def load(name: str) -> Any:  # noqa: ANN401 - only the caller knows its type
    """What `module:attribute` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
