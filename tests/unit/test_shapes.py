"""Values of JSON are read by annotations, and nothing that does not fit is read."""

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep import messages
from lockstep.shapes import Matching, Message, ShapeError, Tag, parse, read, write

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A dataclass."""

    x: int
    name: str | None = None


class One(Message):
    """A message with a tag."""

    kind: Literal["one"] = "one"
    at: datetime


class Two(Message):
    """Another one."""

    kind: Literal["two", "zwei"]
    points: tuple[Point, ...] = ()


Either = Annotated[One | Two, Tag("kind")]

FITS: list[tuple[Any, object, object]] = [
    (bool, True, True),
    (int, 7, 7),
    (int, 7.0, 7),
    (str | None, None, None),
    (Annotated[str, Matching("[a-z]+")], "abc", "abc"),
    (datetime, "2026-11-27T12:00:00Z", NOON),
    (datetime, "2026-11-27T13:00:00+01:00", NOON),
    (timedelta, 90, timedelta(seconds=90)),
    (Path, "ca/a.pem", Path("ca/a.pem")),
    (Colour, "red", Colour.RED),
    (tuple[int, ...], [1, 2], (1, 2)),
    (frozenset[str], ["a"], frozenset({"a"})),
    (Mapping[str, int], {"a": 1}, {"a": 1}),
    (Mapping[str, Any], {"a": [None]}, {"a": [None]}),
    (Point, {"x": 1}, Point(x=1)),
    (One | Point, {"x": 1}, Point(x=1)),
    (Either, {"kind": "one", "at": "2026-11-27T12:00:00Z"}, One(at=NOON)),
    (Either, {"kind": "zwei", "points": [{"x": 1}]}, Two(kind="zwei", points=(Point(x=1),))),
]


@pytest.mark.parametrize(("hint", "value", "expected"), FITS)
def test_what_fits_is_read_and_a_value_that_was_read_is_taken_as_it_is(
    hint: object, value: object, expected: object
) -> None:
    found = read(hint, value)
    assert (type(found), found) == (type(expected), expected)
    assert read(hint, found) == found


@pytest.mark.parametrize(
    ("hint", "value", "problem"),
    [
        (bool, 1, "must be true or false"),
        (bool, "true", "must be true or false"),
        (int, True, "must be a whole number"),
        (int, "7", "must be a whole number"),
        (int, 7.5, "must be a whole number"),
        (int, float("inf"), "must be a whole number"),
        (str, 7, "must be a text"),
        (str | None, 7, "must be a text"),
        (Annotated[str, Matching("[a-z]+")], "abc\n", "must match"),
        (datetime, "2026-11-27T12:00:00", "must be a time"),
        (datetime, "noon", "must be a time"),
        (datetime, 0, "must be a time"),
        (timedelta, True, "must be a number of seconds"),
        (Colour, "blue", "must be one of red"),
        (Colour, ["red"], "must be one of red"),
        (tuple[int, ...], "12", "must be an array"),
        (tuple[int, ...], [1, "2"], "1: must be a whole number"),
        (Mapping[str, int], {"a": "b"}, "a: must be a whole number"),
        (Mapping[str, int], {1: 1}, "must be an object"),
        (Point, {}, "x: this key is required"),
        (Point, {"x": 1, "y": 2}, "unknown key"),
        (Point, [], "must be an object"),
        (Either, {"at": "2026-11-27T12:00:00Z"}, "kind: must be one of one, two, zwei"),
        (Either, {"kind": ["one"]}, "kind: must be one of"),
        (Either, {"kind": "two", "points": [{"x": "1"}]}, "points.0.x: must be a whole number"),
        (Either, None, "must be an object"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(hint: object, value: object, problem: str) -> None:
    with pytest.raises(ShapeError) as error:
        read(hint, value)
    assert str(error.value).startswith(problem)


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_an_error_never_quotes_the_value(value: object) -> None:
    secret = "hunter2-hunter2"
    for hint in (Either, Point, messages.DatabaseRequest, Colour, datetime, int, tuple[int, ...]):
        for poisoned in (secret, {"kind": secret}, {"x": secret, secret: value}, [secret]):
            with pytest.raises(ShapeError) as error:
                read(hint, poisoned)
            assert secret not in str(error.value)
            assert error.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "{", "[1,", b"\xff", "[" * 100_000])
@pytest.mark.usefixtures("deep")
def test_a_text_that_is_no_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(ShapeError, match="must be JSON"):
        parse(text)


def test_a_message_is_frozen_and_equal_to_one_with_the_same_fields() -> None:
    one = One(at=NOON)
    with pytest.raises(AttributeError, match="frozen"):
        one.at = NOON  # type: ignore[misc]  # what is refused
    with pytest.raises(AttributeError, match="frozen"):
        del one.at
    assert one == copy.deepcopy(one) == One.model_validate(parse(json.dumps(one.model_dump())))
    assert hash(one) == hash(One(at=NOON))
    assert one != One(at=NOON + timedelta(1))
    assert repr(one) == f"One(kind='one', at={NOON!r})"


def test_a_constructor_and_a_copy_are_checked() -> None:
    with pytest.raises(ShapeError, match="at: must be a time"):
        One(at="noon")  # type: ignore[arg-type]  # what is refused
    with pytest.raises(ShapeError, match="unknown key"):
        One(at=NOON).model_copy(update={"kin": "one"})
    assert One(at=NOON).model_copy(update={"at": NOON + timedelta(1)}).at == NOON + timedelta(1)


@pytest.mark.parametrize("value", [expected for _, _, expected in FITS])
def test_what_was_read_is_written_as_json(value: object) -> None:
    json.dumps(write(value))


def test_every_message_has_fields_that_can_be_read() -> None:
    kinds = [
        k
        for k in vars(messages).values()
        if isinstance(k, type) and issubclass(k, Message) and k is not Message
    ]
    assert len(kinds) > 20
    for kind in kinds:
        with pytest.raises(ShapeError):
            kind(**{name: object() for name in kind.model_fields()})
