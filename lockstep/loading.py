"""Names of things that are imported when they are first needed."""

from importlib import import_module
from typing import Any


def load(name: str) -> Any:  # noqa: ANN401 - its type is known to whoever gave the name
    """What `module:attribute` names."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)
