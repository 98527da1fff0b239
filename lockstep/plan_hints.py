"""What a word that is not known was probably meant to be."""

from collections.abc import Iterable
from difflib import get_close_matches

_ALIKE = 0.6
"""How alike two words must be, from 0 to 1."""
_LONGEST = 64
"""Characters; no word that Lockstep knows is longer."""


def near(written: object, known: Iterable[str]) -> str:
    """The known word that was probably meant; empty where it is none.

    Args:
        written: What the file says. Nothing of it is returned.
        known: The words that are possible.
    """
    plain = _plain(str(written)[:_LONGEST])
    words = {_plain(word): word for word in known}
    begin = [word for word in words if plain and word.startswith(plain)]
    found = begin if len(begin) == 1 else get_close_matches(plain, words, n=1, cutoff=_ALIKE)
    return words[found[0]] if found else ""


def with_hint(message: str, hint: str) -> str:
    """The message, with the word that was probably meant."""
    return f"{message}; did you mean {hint}?" if hint else message


def _plain(word: str) -> str:
    return word.lower().replace("-", "_")
