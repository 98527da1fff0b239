"""Values of JSON as frozen classes, and frozen classes as JSON, by the library msgspec.

pydantic checks the plan file, where a person wants every mistake at once. It takes longer to load than a cloud's SDK,
so what a function reads at every start is read here: the steps' messages and the compiled plan. A mistake ends the
reading; the error names its place, and never the value, which may be a secret.

Nothing is taken that only looks like what is wanted, but a whole number may be written as 1.0: the state machine's
JSONata does. A time has its offset from UTC; a duration is one of ISO 8601.
"""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, TypeVar, dataclass_transform, overload

import msgspec

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
"""A time with its offset from UTC."""

_SHOWN = re.compile(r"(Expected |Object missing ).*")
"""Messages of msgspec that name types, fields and patterns. Others quote what was given."""
_PLACE = re.compile(r" - at `(\$[\w.\[\]]*)`\Z")


class MessageError(ValueError):
    """A value does not have the form that was asked for."""


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A frozen class, made with keywords only. What is read as one has been checked; an unknown key makes it invalid.

    msgspec does not inherit `kw_only`: a class says it again where a field without a default follows one that has one.
    """


MessageT = TypeVar("MessageT", bound=Message)


def matching(pattern: str) -> msgspec.Meta:
    """An annotation: a text matches this pattern from its beginning to its end."""
    return msgspec.Meta(pattern=rf"\A{pattern}\Z")


def parse(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """The value of JSON that a text is.

    Raises:
        MessageError: It is none.
    """
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        raise MessageError("must be JSON") from None


def object_of(text: str | bytes) -> Mapping[str, Any]:
    """The JSON object that a text of somebody else is; empty where it is none.

    It is none, too, where an object in it has a name twice: another reader may believe the other value (RFC 8259 4).
    """
    try:
        found = json.loads(text, object_pairs_hook=_of_different_names)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_different_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name twice")
    return found


@overload
def read(kind: type[MessageT], value: object) -> MessageT: ...
@overload
def read(kind: object, value: object) -> Any: ...  # noqa: ANN401 - of that kind
def read(kind: object, value: object) -> Any:
    """The value that JSON means as an annotation, such as a `Message` or a union of them.

    Raises:
        MessageError: It does not fit.
    """
    try:
        return msgspec.convert(_with_whole_numbers(value), kind, dec_hook=_read_path)
    except msgspec.ValidationError as error:
        raise MessageError(_describe(str(error))) from None
    except (ValueError, RecursionError):
        raise MessageError("must be Unicode, and not nested deeply") from None


def write(message: Message) -> dict[str, Any]:
    """A message as an object of JSON."""
    text = msgspec.json.encode(message, enc_hook=_write_path, order="deterministic")
    found: dict[str, Any] = msgspec.json.decode(text)
    return found


def _describe(problem: str) -> str:
    if _SHOWN.fullmatch(problem):
        return problem
    place = _PLACE.search(problem)
    return f"must have no unknown key and no unknown value{f' - at `{place[1]}`' if place else ''}"


def _with_whole_numbers(value: object) -> object:
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {key: _with_whole_numbers(item) for key, item in value.items()}
        case list():
            return [_with_whole_numbers(item) for item in value]
    return value


def _read_path(kind: type, value: object) -> Path:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError


def _write_path(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError
