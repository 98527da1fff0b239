"""What is wrong with a file, in words: where it is, what may be there instead, and what was probably meant.

No message quotes the file, which may hold a misplaced password; it names keys, and words that Lockstep knows.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from lockstep.plan_fields import MistakesError, Section
from lockstep.plan_hints import near, with_hint
from lockstep.plan_yaml import Document, Mark, Path

_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")
_PLACE = re.compile(r"([a-z_]+(?:\[[0-9]+\])?(?:\.[a-z_]+(?:\[[0-9]+\])?)*): (.*)", re.DOTALL)
_PART = re.compile(r"[a-z_]+|[0-9]+")
_BETWEEN = re.compile(", | or ")

_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
    "tuple_type": "must be a list",
    "string_type": "must be a text; if it looks like a number or a date, put it in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number",
    "int_from_float": "must be a whole number",
    "finite_number": "must be a whole number",
    "invalid_key": "a key must be a text; if it looks like something else, put it in quotes",
    "greater_than_equal": "must be {ge} or more",
    "less_than_equal": "must be {le} or less",
    "too_short": "too few entries; at least {min_length}",
    "too_long": "too many entries; at most {max_length}",
    "union_tag_not_found": "this key is required",
    "path_type": "must be the path of a file",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_unicode": "must be a text that can be written as UTF-8",
}
"""Our texts for pydantic's errors: its own name Python classes and patterns."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake.

    Attributes:
        place: The path in the file, such as `credentials[0].username`; empty where it is the file itself.
        message: What is wrong and how to correct it.
        mark: Where it is; None where the file cannot be read.
    """

    place: str
    message: str
    mark: Mark | None = None

    @property
    def told(self) -> str:
        """Place and message."""
        return f"{self.place}: {self.message}" if self.place else self.message

    def __str__(self) -> str:
        """In one line, with file, line and column."""
        return f"{self.mark}: {self.told}" if self.mark else self.told


def located(told: str, document: Document, path: Path = ()) -> Problem:
    """The problem in a text `place: what to do`, whose place is below `path`."""
    found = _PLACE.fullmatch(told)
    below, message = (_PART.findall(found[1]), found[2]) if found else ([], told)
    full = (*path, *(int(part) if part.isdecimal() else part for part in below))
    return Problem(place_of(full), message, document.mark(full))


def problems_of(error: ValidationError, document: Document, root: type[Section]) -> list[Problem]:
    """Every mistake that pydantic has found, in the order of the file.

    Args:
        error: Pydantic's.
        document: What was validated.
        root: The class of the whole file.
    """
    found, misspelt = list[Problem](), set[str]()
    for details in error.errors(include_url=False):
        path = _path(details["loc"], document.data)
        cause = details.get("ctx", {}).get("error")
        if isinstance(cause, MistakesError):
            found += [located(told, document, path) for told in cause.found]
        elif details["type"] == "extra_forbidden":
            hint = near(path[-1], _keys(root, path[:-1]))
            misspelt.add(place_of((*path[:-1], hint)))
            told = with_hint(_WORDS["extra_forbidden"], hint)
            found.append(Problem(place_of(path), told, document.mark(path, key=True)))
        elif details["type"] == "invalid_key":
            found.append(Problem(place_of(path[:-1]), message_of(details), document.mark(path, key=True)))
        elif not _is_counted_wrong(details):
            if details["type"].startswith("union_tag"):
                path = (*path, "kind")
            found.append(Problem(place_of(path), message_of(details), document.mark(path)))
    # A key that is misspelt is not missing too.
    return in_order([p for p in found if not (p.message == _WORDS["missing"] and p.place in misspelt)])


def _is_counted_wrong(details: ErrorDetails) -> bool:
    """Whether the list is long enough, and its entries, which pydantic does not count, have mistakes of their own."""
    return details["type"] == "too_short" and len(details["input"]) >= details["ctx"]["min_length"]


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """As they are in the file."""
    return sorted(problems, key=lambda p: (p.mark.line, p.mark.column) if p.mark else (0, 0))


def _path(loc: Path, data: Any) -> Path:  # noqa: ANN401 - a document
    """Pydantic's path without the kinds of stores, which are no keys of the file."""
    path: list[str | int] = []
    for part in loc:
        if isinstance(data, dict):
            if part not in data and data.get("kind") == part:
                continue
            data = data.get(part)
        else:
            data = data[part] if isinstance(data, list) and isinstance(part, int) else None
        path.append(part)
    return tuple(path)


def place_of(path: Path) -> str:
    """A path as messages write it: `credentials[0].username`."""
    shown = ""
    for part in path:
        if isinstance(part, int):
            shown += f"[{part}]"
        else:
            # A key with other characters may be a misplaced value.
            key = part if _KEY.fullmatch(part) else "?"
            shown += f".{key}" if shown else key
    return shown


def message_of(details: ErrorDetails) -> str:
    """One of pydantic's errors in our words."""
    context = details.get("ctx", {})
    expected = context.get("expected", context.get("expected_tags"))
    if expected is not None:
        known = [word.strip("'") for word in _BETWEEN.split(expected)]
        hint = near(context.get("tag", details["input"]), known)
        return with_hint(f"must be {_either(known)}", hint)
    template = _WORDS.get(details["type"])
    if template is None:
        return details["msg"].removeprefix("Value error, ")
    return template.format(**context)


def _either(words: list[str]) -> str:
    *others, last = words
    return f"{', '.join(others)} or {last}" if others else last


def _keys(root: type[Section], path: Path) -> list[str]:
    """The keys that a mapping of the file may have."""
    kinds = [root]
    for key in path:
        if isinstance(key, str):
            kinds = [
                inner for kind in kinds for name, f in _fields(kind) if name == key for inner in _sections(f)
            ]
    return [name for kind in kinds for name, _ in _fields(kind)]


def _fields(kind: type[Section]) -> Iterator[tuple[str, object]]:
    return ((f.alias or name, f.annotation) for name, f in kind.model_fields.items())


def _sections(annotation: object) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)
