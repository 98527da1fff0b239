"""Values of JSON are read as frozen classes, and nothing that does not fit is read."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.protocol import messages
from lockstep.protocol.strict_json import Instant, Message, MessageError, matching, object_of, parse, read

NOON = datetime(2026, 11, 27, 12, tzinfo=UTC)
LETTERS = Annotated[str, matching("[a-z]+")]


class Colour(StrEnum):
    """An enumeration."""

    RED = "red"


class Point(Message):
    """A message without a tag."""

    x: int
    name: str | None = None


class One(Message, tag_field="kind", tag="one"):
    """A message with a tag."""

    at: Instant


class Two(Message, tag_field="kind", tag="two"):
    """Another one."""

    points: tuple[Point, ...] = ()
    colour: Literal["green", "blue"] = "green"


Either = One | Two


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 7.0, 7),
        (LETTERS, "abc", "abc"),
        (Instant, "2026-11-27T13:00:00+01:00", NOON),
        (timedelta, "PT90S", timedelta(seconds=90)),
        (Mapping[str, Any], {"a": [None]}, {"a": [None]}),
        (Either, {"kind": "two", "points": [{"x": 1.0}]}, Two(points=(Point(x=1),))),
    ],
)
def test_what_fits_is_read(kind: object, value: object, expected: object) -> None:
    found = read(kind, value)
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (int, True, ""),
        (int, 7.5, ""),
        (LETTERS, "abc\n", ""),
        (Instant, "2026-11-27T12:00:00", ""),
        (timedelta, 90, ""),
        (Colour, "blue", ""),
        (tuple[int, ...], [1, "2"], "$[1]"),
        (Point, {}, "`x`"),
        (Point, {"x": 1, "y": 2}, ""),
        (Either, {"at": "2026-11-27T12:00:00Z"}, "`kind`"),
        (Either, {"kind": "two", "points": [{"x": "1"}]}, "$.points[0].x"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(kind: object, value: object, place: str) -> None:
    with pytest.raises(MessageError) as error:
        read(kind, value)
    assert place in str(error.value)


@given(st.recursive(st.text() | st.integers() | st.none(), lambda inner: st.dictionaries(st.text(), inner)))
def test_an_error_never_quotes_the_value(value: object) -> None:
    secret = "hunter2-hunter2 7"
    by_kind, by_key = {"kind": "two", "colour": secret}, {"x": 1, secret: value}
    for kind in (Either, Point, messages.DatabaseRequest, Colour, Instant, int, tuple[int, ...], LETTERS):
        for poisoned in (secret, {"kind": secret}, by_kind, by_key, [secret], f"{secret}\ud800"):
            with pytest.raises(MessageError) as error:
                read(kind, poisoned)
            assert secret not in str(error.value)
            assert error.value.__cause__ is None


@pytest.mark.parametrize("text", ["{", b"\xff", '"\ud800"', "NaN", "[" * 100_000])
@pytest.mark.usefixtures("deep")
def test_a_text_that_is_no_json_or_nested_too_deeply_is_refused(text: str | bytes) -> None:
    with pytest.raises(MessageError, match="must be JSON"):
        parse(text)
    nested: list[object] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(MessageError, match="nested"):
        read(Any, nested)


def test_what_is_no_object_or_has_a_name_twice_is_an_empty_one() -> None:
    for text in ("", "[]", '{"a": 1, "a": 2}', '{"b": {"a": 1, "a": 1}}', b"\xff"):
        assert object_of(text) == {}
    assert object_of('{"a": 1, "b": {"a": 1}}') == {"a": 1, "b": {"a": 1}}
