"""Text from entries, fit to be shown. Whoever can write to a bucket may have written it."""

from collections.abc import Mapping

LONGEST = 160
"""Characters of one text that are shown."""
MOST_FIELDS = 24
"""Fields of one object, and elements of one list, that are shown."""
LARGEST = 2**53
"""A larger number is not in canonical JSON (RFC 8785)."""


def clean(value: object, limit: int = LONGEST) -> str:
    """A value as one short line, without control and direction characters, which are shown by their number."""
    if isinstance(value, str):
        text, rest = value[:limit], len(value) - limit
        shown = text if text.isprintable() else "".join(map(_visible, text))
        return shown if rest <= 0 else f"{shown}… (and {rest} more characters)"
    if value is None or isinstance(value, bool | float):
        return (
            {None: "none", True: "yes", False: "no"}.get(value, "?") if not isinstance(value, float) else "?"
        )
    if isinstance(value, int):
        return str(value) if abs(value) <= LARGEST else "?"
    if isinstance(value, list | tuple):
        shown = " ".join(clean(item, limit // 4) for item in value[:MOST_FIELDS])
        return _cut(shown or "none", limit, more=len(value) - MOST_FIELDS)
    if isinstance(value, Mapping):
        return fields(value, limit)
    return "?"


def _visible(character: str) -> str:
    return character if character.isprintable() else f"<U+{ord(character):04X}>"


def fields(whole: Mapping[str, object], limit: int = 2 * LONGEST) -> str:
    """An object as one line: `name value, name value`."""
    few = list(whole.items())[:MOST_FIELDS]
    words = (f"{clean(name, 40).replace('_', ' ')} {clean(value, limit // 2)}" for name, value in few)
    return _cut(", ".join(words), limit, more=len(whole) - len(few))


def _cut(text: str, limit: int, *, more: int) -> str:
    return text[:limit] + "…" if len(text) > limit or more > 0 else text


def whole(value: object) -> int | None:
    """A number that counts something; None for everything else."""
    # Not a boolean, which is an integer too.
    return value if type(value) is int and 0 <= value <= LARGEST else None


def part(of: Mapping[str, object], name: str) -> Mapping[str, object]:
    """An object inside an object; an empty one where there is none."""
    found = of.get(name)
    return found if isinstance(found, dict) else {}
