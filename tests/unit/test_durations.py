"""Durations are read and written with units, such as `1h30m`."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.protocol.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (timedelta(minutes=20), "20m"),
        (timedelta(minutes=90), "1h30m"),
        (timedelta(seconds=90), "1m30s"),
        (timedelta(days=7), "7d"),
        (timedelta(days=400), "400d"),
        (timedelta(), "0s"),
    ],
)
def test_a_duration_is_written_with_units(duration: timedelta, text: str) -> None:
    assert format_duration(duration) == text


@given(st.integers(0, 3_000_000_000))
def test_a_written_duration_is_read_back(seconds: int) -> None:
    duration = timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration
