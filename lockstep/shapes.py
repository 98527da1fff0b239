"""Reads values of JSON into frozen classes, by their annotations, and writes them as JSON again.

pydantic does this for the plan file, where a person wants every mistake at once. It takes longer to load than a cloud's
SDK, so what a function reads at every start is read here: the steps' messages and the compiled plan. A mistake ends the
reading; the error names its place, and never the value, which may be a secret.

    annotation                      JSON
    bool, int, str, None            the same, and nothing that only looks like it; an int also as 1.0
    datetime                        ISO 8601 with its offset from UTC
    timedelta                       seconds
    Path, an Enum, a Literal        the text
    tuple[X, ...], frozenset[X]     an array
    Mapping[str, X]                 an object
    Any                             anything
    a Message, a dataclass          an object without another key
    X | Y                           the first that fits, or the one that its `Tag` names
    Annotated[X, Matching(...)]     an X that matches
"""

import json
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Self,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

Read = Callable[[object], Any]


class ShapeError(ValueError):
    """A value does not have the shape that was asked for."""

    def __init__(self, problem: str, path: tuple[str, ...] = ()) -> None:
        self.problem = problem
        self.path = path
        super().__init__(f"{'.'.join(path)}: {problem}" if path else problem)

    def below(self, name: str) -> "ShapeError":
        """The same, of a part with this name."""
        return ShapeError(self.problem, (name, *self.path))


@dataclass(frozen=True, slots=True)
class Matching:
    """A text matches this pattern from its beginning to its end."""

    pattern: str


@dataclass(frozen=True, slots=True)
class Tag:
    """The key whose value says which one of several classes an object is. It must be there."""

    key: str


@dataclass(frozen=True, slots=True)
class Part:
    """One field of a class.

    Attributes:
        hint: Its annotation.
        default: `MISSING` where it must be given.
    """

    hint: Any
    default: Any

    @property
    def is_required(self) -> bool:
        """Whether it must be given."""
        return self.default is MISSING


@dataclass_transform(kw_only_default=True, frozen_default=True)
class Message:
    """A frozen class of which every instance has been checked. An unknown key makes it invalid.

    Its methods are named as those of pydantic's models.
    """

    def __init__(self, **given: Any) -> None:  # noqa: ANN401 - checked by the annotations of the class
        vars(self).update(_checked(type(self), given))

    @classmethod
    def model_fields(cls) -> Mapping[str, Part]:
        """Its fields, by name."""
        kind: Any = cls
        return _parts(kind)

    @classmethod
    def model_validate(cls, value: object) -> Self:
        """The message that a value of JSON is.

        Raises:
            ShapeError: It is none.
        """
        return value if isinstance(value, cls) else cls(**_object(value))

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """The same message with other values of some fields."""
        return type(self)(**{**vars(self), **update})

    def model_dump(self, *, exclude: Collection[str] = ()) -> dict[str, Any]:
        """It as a value of JSON, without some fields."""
        return {name: write(value) for name, value in vars(self).items() if name not in exclude}

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen")


def parse(text: str | bytes) -> Any:  # noqa: ANN401 - JSON
    """The value of JSON that a text is.

    Raises:
        ShapeError: It is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # The parser's own message may quote the text.
        raise ShapeError("must be JSON") from None


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


def read(hint: Any, value: object) -> Any:  # noqa: ANN401 - as the annotation says
    """The value that JSON means as this annotation.

    Raises:
        ShapeError: It does not fit.
    """
    return _reader(hint)(value)


def write(value: object) -> Any:  # noqa: ANN401 - JSON
    """A value as JSON."""
    written: object = value
    match value:
        case Message():
            written = value.model_dump()
        case Enum():
            written = value.value
        case datetime():
            written = value.isoformat().replace("+00:00", "Z")
        case timedelta():
            written = value.total_seconds()
        case Path():
            written = str(value)
        case Mapping():
            written = {key: write(item) for key, item in value.items()}
        case frozenset() | tuple() | list():
            written = [write(item) for item in (sorted(value) if isinstance(value, frozenset) else value)]
        case _ if is_dataclass(value):
            written = {f.name: write(getattr(value, f.name)) for f in fields(value)}
    return written


@cache
def _parts(cls: Any) -> Mapping[str, Part]:  # noqa: ANN401 - a class
    hints = get_type_hints(cls, include_extras=True)
    if is_dataclass(cls):
        found = {f.name: f for f in fields(cls)}
        return {
            name: Part(hints[name], f.default if f.default_factory is MISSING else f.default_factory())
            for name, f in found.items()
        }
    return {name: Part(hint, getattr(cls, name, MISSING)) for name, hint in hints.items()}


def _checked(cls: type, given: Mapping[str, Any]) -> dict[str, Any]:
    parts = _parts(cls)
    if not given.keys() <= parts.keys():
        raise ShapeError("unknown key")
    checked = {}
    for name, part in parts.items():
        if name in given:
            try:
                checked[name] = _reader(part.hint)(given[name])
            except ShapeError as error:
                raise error.below(name) from None
        elif part.is_required:
            raise ShapeError("this key is required", (name,))
        else:
            checked[name] = part.default
    return checked


def _object(value: object) -> dict[str, Any]:
    if not (isinstance(value, Mapping) and all(isinstance(key, str) for key in value)):
        raise ShapeError("must be an object")
    return dict(value)


@cache
def _reader(hint: Any) -> Read:  # noqa: ANN401 - an annotation
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _annotated(arguments[0], arguments[1:])
    if origin in (Union, UnionType):
        return _first_that_fits([_reader(a) for a in arguments])
    if origin is Literal:
        return _one_of({a: a for a in arguments})
    if origin in (tuple, frozenset):
        return _many(origin, _reader(arguments[0]))
    return _by_name(_reader(arguments[1])) if origin else _of_class(hint)


def _of_class(kind: Any) -> Read:  # noqa: ANN401 - a class
    if issubclass(kind, Message):
        message: type[Message] = kind
        return message.model_validate
    if hasattr(kind, "__dataclass_fields__"):
        return lambda value: value if isinstance(value, kind) else kind(**_checked(kind, _object(value)))
    if issubclass(kind, Enum):
        return _one_of({member.value: member for member in kind})
    return _PLAIN[kind]


def _annotated(hint: Any, notes: tuple[object, ...]) -> Read:  # noqa: ANN401 - an annotation
    for note in notes:
        if isinstance(note, Tag):
            return _tagged(hint, note.key)
        if isinstance(note, Matching):
            return _matching(_reader(hint), re.compile(note.pattern))
    return _reader(hint)


def _tagged(hint: Any, key: str) -> Read:  # noqa: ANN401 - an annotation
    kinds = {value: kind for kind in get_args(hint) for value in get_args(kind.model_fields()[key].hint)}

    def reads(value: object) -> Any:  # noqa: ANN401 - one of the kinds
        if isinstance(value, tuple(kinds.values())):
            return value
        tag = _object(value).get(key)
        kind = kinds.get(tag) if isinstance(tag, str) else None
        if kind is None:
            raise ShapeError(f"must be one of {', '.join(map(str, kinds))}", (key,))
        return kind.model_validate(value)

    return reads


def _matching(inner: Read, pattern: re.Pattern[str]) -> Read:
    def reads(value: object) -> Any:  # noqa: ANN401 - as read by `inner`
        text = inner(value)
        if not pattern.fullmatch(text):
            raise ShapeError("must match the pattern of its kind")
        return text

    return reads


def _first_that_fits(inner: Collection[Read]) -> Read:
    def reads(value: object) -> Any:  # noqa: ANN401 - as one of the readers reads it
        problem = ShapeError("does not fit")
        for read_one in inner:
            try:
                return read_one(value)
            except ShapeError as error:
                # That of null says the least.
                problem = error if read_one is not _PLAIN[NoneType] else problem
        raise problem

    return reads


def _one_of(allowed: Mapping[Any, Any]) -> Read:
    def reads(value: object) -> Any:  # noqa: ANN401 - one of them
        if isinstance(value, str) and value in allowed:
            return allowed[value]
        raise ShapeError(f"must be one of {', '.join(map(str, allowed))}")

    return reads


def _many(kind: Callable[[list[Any]], Any], inner: Read) -> Read:
    def reads(value: object) -> Any:  # noqa: ANN401 - a collection of that kind
        if not isinstance(value, list | tuple | frozenset):
            raise ShapeError("must be an array")
        return kind([_named(str(number), inner, item) for number, item in enumerate(value)])

    return reads


def _by_name(inner: Read) -> Read:
    return lambda value: {name: _named(name, inner, item) for name, item in _object(value).items()}


def _named(name: str, inner: Read, value: object) -> Any:  # noqa: ANN401 - as read by `inner`
    try:
        return inner(value)
    except ShapeError as error:
        raise error.below(name) from None


def _plain(kind: type, name: str) -> Read:
    def reads(value: object) -> Any:  # noqa: ANN401 - of that kind
        if type(value) is kind:
            return value
        raise ShapeError(f"must be {name}")

    return reads


def _integer(value: object) -> int:
    if type(value) is int or (isinstance(value, float) and value.is_integer()):
        return int(value)
    raise ShapeError("must be a whole number")


def _moment(value: object) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ShapeError("must be a time of ISO 8601 with an offset from UTC")
    return moment


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    raise ShapeError("must be a number of seconds")


_PLAIN: dict[Any, Read] = {
    Any: lambda value: value,
    bool: _plain(bool, "true or false"),
    datetime: _moment,
    int: _integer,
    NoneType: _plain(NoneType, "null"),
    Path: lambda value: value if isinstance(value, Path) else Path(_PLAIN[str](value)),
    str: _plain(str, "a text"),
    timedelta: _duration,
}
