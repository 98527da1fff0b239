"""Names and texts of a plan in SQL that is shown to people, or sent."""

from collections.abc import Sequence
from typing import Final

CHANGE_OWN: Final = "change_own"
"""The function by which a rotator admin's roles on PostgreSQL change each other, in a schema named like their owner."""


def identifier(name: str) -> str:
    """A name of the plan as an SQL identifier; names of a plan hold no quotes."""
    return f'"{name}"'


def quoted(text: str) -> str:
    """A text as an SQL literal; it holds no backslash."""
    return "'" + text.replace("'", "''") + "'"


def listed(texts: Sequence[str]) -> str:
    """Texts as SQL literals, with commas between them."""
    return ", ".join(map(quoted, texts))
